"""Commands work in the name of the data directory's owner: nothing of root's is left in there."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.cli.data_dir_owner import find_data_dir_owner
from tests.flow.command import ROOT, Done

NOBODY = 65534
STRANGER = 65533
SITE = Path(sys.prefix) / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def as_user(uid: int) -> list[str]:
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


@pytest.fixture(scope="module")
def python() -> Iterator[str]:
    """An interpreter that everybody may run: ours, or a copy where ours is in somebody's home."""
    if runs_for_nobody(sys.executable):
        yield sys.executable
        return
    copy = Path(tempfile.mkdtemp(prefix="koi-python-"))
    copy.chmod(0o755)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    base = Path(sys.base_prefix)
    left_out = shutil.ignore_patterns("site-packages", "test", "idlelib", "config-*")
    (copy / "bin").mkdir()
    (copy / "lib").mkdir()
    for shared in (base / "lib").glob("libpython*"):
        shutil.copy2(shared, copy / "lib")
    shutil.copy2(Path(sys.executable).resolve(), copy / "bin" / version)
    shutil.copytree(base / "lib" / version, copy / "lib" / version, ignore=left_out)
    try:
        if not runs_for_nobody(str(copy / "bin" / version)):
            pytest.skip("no interpreter here that another user may run")
        yield str(copy / "bin" / version)
    finally:
        shutil.rmtree(copy)


def search(python: str) -> dict[str, str]:
    """Where an interpreter finds its own library, ours, and Koi."""
    lib = Path(python).parent.parent / "lib"
    return {"LD_LIBRARY_PATH": str(lib), "PYTHONPATH": f"{ROOT}:{SITE}", "PATH": os.environ["PATH"]}


def runs_for_nobody(python: str) -> bool:
    trial = subprocess.run(
        [*as_user(NOBODY), python, "-c", "import app.cli, redis"],
        env=search(python),
        cwd="/",
        capture_output=True,
        check=False,
    )
    return trial.returncode == 0


class Place:
    """A data directory that belongs to the user `nobody`."""

    def __init__(self, path: Path, python: str) -> None:
        self.path, self.data, self.python = path, path / "data", python
        self.data.mkdir(mode=0o700)
        os.chown(self.data, NOBODY, NOBODY)

    def koi(self, *words: str, uid: int = 0, given: str = "", **settings: str) -> Done:
        environment = {
            **search(self.python),
            "KOI_DATA_DIR": str(self.data),
            "KOI_UPSTREAM_API_KEY": "sk-sandbox",
            "KOI_UPSTREAM_BASE_URL": "http://127.0.0.1:9/v1",
            "KOI_REDIS_TIMEOUT_MS": "5000",
            **settings,
        }
        done = subprocess.run(
            [*(as_user(uid) if uid else []), self.python, "-m", "app.cli", *words],
            cwd=self.path,
            env=environment,
            capture_output=True,
            input=given,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def owners(self) -> set[int]:
        return {found.lstat().st_uid for found in (self.data, *self.data.rglob("*"))}


@pytest.fixture
def place(python: str) -> Iterator[Place]:
    """Not below pytest's own directory, which only root may enter."""
    path = Path(tempfile.mkdtemp(prefix="koi-owner-"))
    path.chmod(0o755)
    yield Place(path, python)
    shutil.rmtree(path)


def test_a_command_of_root_leaves_only_files_of_the_owner(place: Place) -> None:
    done = place.koi("keys", "create", "--user", "ann", "--new")

    assert done.code == 0, done.stderr
    assert (place.data / "journal").is_dir()
    assert place.owners() == {NOBODY}
    assert place.koi("users", "list", uid=NOBODY).code == 0


def test_the_doctor_and_a_rebuild_of_root_leave_nothing_of_root_s(place: Place) -> None:
    place.koi("keys", "create", "--user", "ann", "--new")
    place.koi("doctor")
    place.koi("ledger", "rebuild")
    place.koi("store", "repair")

    assert place.owners() == {NOBODY}


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_bill_is_read_from_the_standard_input_that_root_opened(place: Place, name: str) -> None:
    bill = "request id,model,amount,time\nreq_1,grok-imagine,0.14,2026-11-27T13:00:00Z\n"

    done = place.koi("ledger", "import-bill", name, given=bill)

    assert (done.code, done.stderr) == (1, "")
    assert "req_1" in done.stdout


def test_another_user_is_refused_with_the_right_command(place: Place) -> None:
    done = place.koi("keys", "create", "--user", "ann", uid=STRANGER)

    assert done.code == 1
    assert "belongs to nobody" in done.stderr
    assert "sudo -u nobody koi keys create --user ann" in done.stderr
    assert list(place.data.iterdir()) == []


def test_the_doctor_tells_whose_the_data_directory_is(place: Place) -> None:
    done = place.koi("doctor", "--json", uid=STRANGER)

    [finding] = json.loads(done.stdout)
    assert (done.code, finding["check"], finding["status"]) == (1, "data directory", "fail")
    assert "belongs to nobody" in finding["text"]
    assert finding["mend"].startswith("Run this as nobody: sudo -u nobody koi doctor --json")
    assert list(place.data.iterdir()) == []


def test_root_in_its_own_directory_stays_root(place: Place) -> None:
    os.chown(place.data, 0, 0)

    assert place.koi("users", "create", "ann").code == 0
    assert place.owners() == {0}


def test_a_volume_of_root_s_that_the_service_uses_is_the_service_s(place: Place) -> None:
    os.chown(place.data, 0, NOBODY)
    place.data.chmod(0o770)
    place.koi("users", "create", "ann", uid=NOBODY)
    (place.data / "journal").is_dir()
    found = find_data_dir_owner(place.data)

    assert found is not None
    # What group members made in it tells whose it is.
    assert found.uid in (0, NOBODY)


def test_planted_links_are_not_followed(place: Place) -> None:
    assert place.koi("users", "create", "ann").code == 0
    secret = place.path / "secret"
    secret.write_text("of root alone")
    secret.chmod(0o600)
    for name in ("store/lock", "store/server.log", "store/engine.part", "journal/copied"):
        planted = place.data / name
        planted.unlink(missing_ok=True)
        planted.symlink_to(secret)
    for number in range(3):
        (place.data / f"journal/2026-11-2{number}-00000000.books.jsonl").symlink_to(secret)

    done = place.koi("users", "create", "ben")

    assert done.code == 1
    assert done.stderr.count("\n") == 1
    assert secret.read_text() == "of root alone"
    assert secret.stat().st_uid == 0


@pytest.mark.parametrize("name", ["store/lock", "store/engine.json", "journal", "images"])
def test_a_start_on_a_file_it_cannot_write_is_one_sentence(place: Place, name: str) -> None:
    assert place.koi("users", "create", "ann").code == 0
    (place.data / "images").mkdir(exist_ok=True)
    os.chown(place.data / "images", NOBODY, NOBODY)
    broken = place.data / name
    os.chown(broken, 0, 0)
    broken.chmod(0o700 if broken.is_dir() else 0o600)

    done = place.koi("serve", "--port", "0", uid=NOBODY)

    assert done.code == 1
    [sentence] = done.stderr.splitlines()
    assert str(broken) in sentence
    assert "sudo chown -R nobody" in sentence
    assert "to fix" in place.koi("doctor", uid=NOBODY).stdout


def test_root_serves_in_the_owner_s_name(place: Place) -> None:
    process = subprocess.Popen(
        [place.python, "-m", "app.cli", "serve", "--port", "0"],
        cwd=place.path,
        env={
            **search(place.python),
            "KOI_DATA_DIR": str(place.data),
            "KOI_UPSTREAM_API_KEY": "sk-sandbox",
            "KOI_UPSTREAM_BASE_URL": "http://127.0.0.1:9/v1",
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if '"listening"' in line:
                break
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert "Groups:\t0" not in status
        assert place.owners() == {NOBODY}
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_an_env_file_that_the_owner_cannot_read_is_named(place: Place) -> None:
    env = place.path / ".env"
    env.write_text("KOI_LOG_LEVEL=error\n")
    env.chmod(0o600)

    done = place.koi("users", "list")

    assert done.code == 2
    assert str(env) in done.stderr


def test_koi_that_the_owner_cannot_read_is_said(place: Place) -> None:
    hidden = place.path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(ROOT / "app", hidden / "app")

    done = place.koi("users", "list", PYTHONPATH=f"{hidden}:{SITE}")

    assert done.code == 1
    assert "cannot read Koi itself" in done.stderr
