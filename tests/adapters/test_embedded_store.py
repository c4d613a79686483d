"""EmbeddedStore with real servers, real processes and real kills."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from app.adapters.embedded import EmbeddedStore, StoreNotStarted, StoreUnusable
from app.adapters.embedded.aof import AOF_DIRECTORY
from app.adapters.embedded.engine import installed_servers
from app.adapters.embedded.repair import repair

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has parent-death signals")
OWNER = """
import sys
from pathlib import Path
from app.adapters.embedded import EmbeddedStore
with EmbeddedStore(Path(sys.argv[1])) as store:
    print("KOI", store.owner, store.url, flush=True)
    for line in sys.stdin:
        print("KOI", store.owner, store.url, flush=True)
"""


class Gateway:
    """Another process with the store open."""

    def __init__(self, data_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(data_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _heard(self) -> list[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("KOI "):
                return line.split()
        raise AssertionError("the other process ended")

    def ready(self) -> bool:
        """Wait for it; True when it owns the store."""
        return self._heard()[1] == "True"

    def owns(self) -> bool:
        assert self.process.stdin is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return self.ready()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.communicate(timeout=15)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "koi"


@pytest.fixture
def gateway(data_dir: Path) -> Iterator[Callable[[], Gateway]]:
    started: list[Gateway] = []

    def start() -> Gateway:
        started.append(Gateway(data_dir))
        return started[-1]

    yield start
    for other in started:
        other.close()


@contextlib.contextmanager
def client(store: EmbeddedStore) -> Iterator["redis.Redis[str]"]:
    with redis.Redis.from_url(store.url, decode_responses=True) as connection:
        yield connection


def server_pid(store: EmbeddedStore) -> int:
    with client(store) as connection:
        return int(connection.info("server")["process_id"])


def wait_for(condition: Callable[[], object], within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def answers(store: EmbeddedStore) -> bool:
    with client(store) as connection, contextlib.suppress(redis.ConnectionError):
        return bool(connection.ping())
    return False


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_fresh_directory_is_served_soon(data_dir: Path) -> None:
    began = time.monotonic()

    with EmbeddedStore(data_dir) as store:
        took_s = time.monotonic() - began

        assert answers(store)
        assert store.owner
        assert store.engine.startswith(("valkey ", "redis "))
    assert took_s < 20


def test_every_acknowledged_write_is_durable_by_settings(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        settings = connection.config_get("*")

    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    assert {name: settings[name] for name in wanted} == wanted
    assert settings["port"] == "0"


def test_nothing_in_the_directory_is_open_to_others(data_dir: Path) -> None:
    with EmbeddedStore(data_dir):
        modes = {path.name: path.stat().st_mode & 0o777 for path in data_dir.rglob("*")}

    assert data_dir.stat().st_mode & 0o077 == 0
    assert modes["store"] == 0o700
    assert modes["store.sock"] == 0o700


def test_the_ledger_survives_an_orderly_restart(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        connection.set("spent", 7)
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        kept = connection.get("spent")

    assert kept == "7"


def test_nothing_is_loading_once_the_store_is_open(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        connection.eval("for i = 1, 200000 do redis.call('SET', 'k' .. i, i) end", 0)
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        keys = connection.dbsize()

    assert keys == 200_000


def test_a_killed_server_is_back_with_every_acknowledged_write(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store:
        for round_ in (1, 2):
            with client(store) as connection:
                for _ in range(100):
                    connection.incr("spent")
            os.kill(server_pid(store), signal.SIGKILL)
            wait_for(lambda: answers(store))

            with client(store) as connection:
                assert connection.get("spent") == str(100 * round_)


@LINUX
def test_a_killed_owner_takes_the_server_along_and_loses_nothing(
    data_dir: Path, gateway: Callable[[], Gateway]
) -> None:
    owner = gateway()
    assert owner.ready()
    with EmbeddedStore(data_dir) as attached, client(attached) as connection:
        assert not attached.owner
        connection.incrby("spent", 41)
        pid = server_pid(attached)

    owner.kill()
    wait_for(lambda: gone(pid))
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        spent = connection.incr("spent")

    assert spent == 42


@LINUX
@pytest.mark.parametrize("reaped", [True, False], ids=["reaped", "zombie"])
def test_who_comes_right_after_a_kill_does_not_attach_to_the_dying_server(
    data_dir: Path, gateway: Callable[[], Gateway], reaped: bool
) -> None:
    owner = gateway()
    assert owner.ready()

    os.kill(owner.process.pid, signal.SIGKILL)
    if reaped:
        owner.process.wait()
    else:
        os.waitid(os.P_PID, owner.process.pid, os.WEXITED | os.WNOWAIT)
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        owned = store.owner
        for _ in range(20):
            connection.incr("spent")
            time.sleep(0.01)

        assert connection.get("spent") == "20"
    assert owned


def test_of_many_simultaneous_starts_exactly_one_owns_the_server(
    data_dir: Path, gateway: Callable[[], Gateway]
) -> None:
    others = [gateway() for _ in range(4)]

    owners = [other.ready() for other in others]

    assert sorted(owners) == [False, False, False, True]


@pytest.mark.parametrize("end", [Gateway.kill, Gateway.close], ids=["killed", "closed"])
@LINUX
def test_an_attached_gateway_takes_over_when_the_owner_goes(
    data_dir: Path, gateway: Callable[[], Gateway], end: Callable[[Gateway], None]
) -> None:
    owner = gateway()
    assert owner.ready()
    with EmbeddedStore(data_dir) as attached:
        with client(attached) as connection:
            connection.set("spent", 7)

        end(owner)
        wait_for(lambda: attached.owner and answers(attached))

        with client(attached) as connection:
            assert connection.get("spent") == "7"


@LINUX
def test_no_acknowledged_write_is_lost_while_the_owner_dies(
    data_dir: Path, gateway: Callable[[], Gateway]
) -> None:
    owner = gateway()
    assert owner.ready()
    acknowledged = unknown = 0
    with EmbeddedStore(data_dir) as attached, client(attached) as connection:
        while not attached.owner or acknowledged < 2000:
            try:
                connection.incr("spent")
                acknowledged += 1
            except redis.ConnectionError:
                unknown += 1
                time.sleep(0.005)
            if acknowledged == 1000:
                owner.kill()
        spent = int(connection.get("spent") or 0)

    assert acknowledged <= spent <= acknowledged + unknown


@LINUX
def test_only_one_of_several_attached_gateways_takes_over(
    data_dir: Path, gateway: Callable[[], Gateway]
) -> None:
    owner, *others = gateways = [gateway() for _ in range(3)]
    if not owner.ready():
        owner, others = next((g, [o for o in gateways if o is not g]) for g in others if g.owns())

    owner.kill()
    wait_for(lambda: any(other.owns() for other in others))

    assert sorted(other.owns() for other in others) == [False, True]


def test_closing_an_attached_store_leaves_the_server_running(
    data_dir: Path, gateway: Callable[[], Gateway]
) -> None:
    owner = gateway()
    owner.ready()
    with EmbeddedStore(data_dir) as attached:
        pid = server_pid(attached)

    with EmbeddedStore(data_dir) as again:
        assert server_pid(again) == pid
    assert owner.owns()


@LINUX
def test_the_server_itself_keeps_the_directory_locked(
    data_dir: Path, gateway: Callable[[], Gateway]
) -> None:
    owner = gateway()
    owner.ready()
    with EmbeddedStore(data_dir) as attached:
        pid = server_pid(attached)
    os.kill(pid, signal.SIGSTOP)
    owner.kill()

    with (
        pytest.raises(StoreNotStarted, match="Another process holds"),
        EmbeddedStore(data_dir, start_timeout_s=0.2),
    ):
        pass

    os.kill(pid, signal.SIGCONT)
    with EmbeddedStore(data_dir) as store:
        assert server_pid(store) != pid


def test_an_owner_that_cannot_restart_keeps_trying(data_dir: Path) -> None:
    found = [*installed_servers()]
    programs = found.copy()
    with EmbeddedStore(data_dir, search=lambda: programs) as store:
        programs.clear()
        os.kill(server_pid(store), signal.SIGKILL)
        wait_for(lambda: not answers(store))
        time.sleep(0.2)

        assert store.owner
        programs.extend(found)
        wait_for(lambda: answers(store))


def test_a_store_whose_directory_is_deleted_says_so_and_gets_no_second_one_beside_it(
    data_dir: Path,
) -> None:
    with EmbeddedStore(data_dir) as store:
        with client(store) as connection:
            connection.set("spent", 7)
        pid = server_pid(store)
        assert not store.gone
        shutil.rmtree(data_dir)

        wait_for(lambda: store.gone)
        if sys.platform == "linux":
            for _ in range(2):  # with and without a new directory in its place
                with (
                    pytest.raises(StoreUnusable, match=rf"process {pid}.*deleted or moved"),
                    EmbeddedStore(data_dir),
                ):
                    pass
                (data_dir / "store").mkdir(parents=True, exist_ok=True)


@LINUX
def test_a_store_whose_directory_is_emptied_gets_no_second_one_in_it(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as owner, EmbeddedStore(data_dir) as attached:
        pid = server_pid(owner)
        for file in (data_dir / "store").iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()

        wait_for(lambda: attached.gone)  # and looked for a dead owner several times until now
        assert not attached.owner
        assert not (data_dir / "store/lock").exists()
        with (
            pytest.raises(StoreUnusable, match=rf"process {pid}.*deleted or moved"),
            EmbeddedStore(data_dir),
        ):
            pass
        assert not (data_dir / "store" / AOF_DIRECTORY).exists()


def test_a_store_whose_directory_comes_back_is_well_again(data_dir: Path, tmp_path: Path) -> None:
    with EmbeddedStore(data_dir) as store:
        data_dir.rename(tmp_path / "away")
        wait_for(lambda: store.gone)

        (tmp_path / "away").rename(data_dir)

        wait_for(lambda: not store.gone)
        assert answers(store)


FILES: dict[str, Callable[[Path], object]] = {
    "its log is deleted": lambda place: shutil.rmtree(place / AOF_DIRECTORY),
    "one file of its log is deleted": lambda place: next(
        place.glob(f"{AOF_DIRECTORY}/*.incr.aof")
    ).unlink(),
    "its manifest is deleted": lambda place: next(
        place.glob(f"{AOF_DIRECTORY}/*.manifest")
    ).unlink(),
    "its log is replaced by a copy": lambda place: replace_by_copy(
        next(place.glob(f"{AOF_DIRECTORY}/*.incr.aof"))
    ),
    "its socket is deleted": lambda place: (place / "store.sock").unlink(),
}


def has_seen_its_files(store: EmbeddedStore) -> bool:
    return store._monitor is not None and bool(store._monitor._logs)


def replace_by_copy(file: Path) -> None:
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    copy.replace(file)


@pytest.mark.parametrize("what", FILES)
def test_files_that_vanish_under_a_running_store_are_noticed_by_all_its_processes(
    data_dir: Path, gateway: Callable[[], Gateway], what: str
) -> None:
    with EmbeddedStore(data_dir) as owner, EmbeddedStore(data_dir) as attached:
        wait_for(lambda: has_seen_its_files(owner) and has_seen_its_files(attached))

        FILES[what](data_dir / "store")

        wait_for(lambda: owner.gone and attached.gone)


def test_a_log_that_is_rewritten_is_not_gone(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        seen = []
        for _ in range(3):
            connection.bgrewriteaof()
            until = time.monotonic() + 0.8
            while time.monotonic() < until:
                seen.append(store.gone)
                time.sleep(0.02)

    assert not any(seen)


# Damage ------------------------------------------------------------------------------------------


def filled(data_dir: Path) -> Path:
    """A store of twenty scripts' writes; its log."""
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        for at in range(20):
            connection.eval(f"redis.call('SET', 'k{at}', {at}) redis.call('INCR', 'spent')", 0)
    return next((data_dir / "store" / AOF_DIRECTORY).glob("*.incr.aof"))


def overwrite(file: Path, at: int, words: bytes) -> None:
    with file.open("r+b") as log:
        log.seek(at)
        log.write(words)


DAMAGE: dict[str, tuple[Callable[[Path], object], int | None]] = {
    "zeros in the middle": (
        lambda log: overwrite(log, log.stat().st_size // 2, bytes(300)), None
    ),
    "garbage at the start": (lambda log: overwrite(log, 0, b"garbage!"), 0),
    "no manifest": (lambda log: next(log.parent.glob("*.manifest")).unlink(), 20),
    "a manifest of zeros": (
        lambda log: next(log.parent.glob("*.manifest")).write_bytes(bytes(88)), 20
    ),
    "no base": (lambda log: next(log.parent.glob("*.base.rdb")).unlink(), 0),
    "a damaged base": (
        lambda log: overwrite(next(log.parent.glob("*.base.rdb")), 0, b"garbage!"), 0
    ),
    "no log since the base": (lambda log: log.unlink(), 0),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_store_starts_again_with_what_can_be_read_of_it(
    data_dir: Path, damage: str
) -> None:
    log = filled(data_dir)
    harm, kept = DAMAGE[damage]
    harm(log)
    before = {file.name: file.read_bytes() for file in log.parent.iterdir()}
    with pytest.raises(StoreNotStarted, match="koi store repair"), EmbeddedStore(data_dir):
        pass

    repaired = repair(data_dir)

    assert repaired is not None
    assert {
        file.name: file.read_bytes() for file in (repaired.aside / AOF_DIRECTORY).iterdir()
    } == before
    assert repaired.readable.why
    with EmbeddedStore(data_dir) as store, client(store) as connection:
        spent = int(connection.get("spent") or 0)
        assert connection.dbsize() == (spent + 1 if spent else 0)  # whole scripts only
    assert spent == kept if kept is not None else 5 < spent < 15
    assert repair(data_dir) is None


def test_a_store_in_use_is_not_repaired(data_dir: Path) -> None:
    filled(data_dir)
    with EmbeddedStore(data_dir), pytest.raises(StoreUnusable, match="nothing to repair"):
        repair(data_dir)


def test_stale_socket_and_lock_files_do_not_matter(data_dir: Path) -> None:
    (data_dir / "store").mkdir(parents=True)
    (data_dir / "store" / "lock").write_text("4711")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(data_dir / "store" / "store.sock"))

    with EmbeddedStore(data_dir) as store:
        assert store.owner
        assert answers(store)


@pytest.mark.parametrize("name", ["with space", "odd #?%20'\"", "pond池", "long" * 50])
def test_any_directory_name_will_do(tmp_path: Path, name: str) -> None:
    with EmbeddedStore(tmp_path / name) as store, client(store) as connection:
        connection.set("spent", 7)
        parent = Path(connection.config_get("unixsocket")["unixsocket"]).parent

        assert parent.stat().st_mode & 0o077 == 0
    with EmbeddedStore(tmp_path / name) as store, client(store) as connection:
        assert connection.get("spent") == "7"
    if parent.parent == Path("/tmp"):
        parent.rmdir()


def test_a_terminal_interrupt_does_not_reach_the_server(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store:
        assert os.getsid(server_pid(store)) != os.getsid(0)


def test_closing_twice_and_opening_again_is_harmless(data_dir: Path) -> None:
    with EmbeddedStore(data_dir) as store:
        store.close()
    store.close()

    with EmbeddedStore(data_dir) as again:
        assert again.owner
