"""The store's user of `deploy/valkey/users.acl`: enough for all of Koi, for nothing else (S55)."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app.domain.ledger import EntryKind
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.adapters.store_rig import Engine, running
from tests.flow.command import Cli
from tests.flow.test_generate import GENERATE, wait_for
from tests.harness import KOI, Koi, gateway
from tests.store_node import programs, until

FILE = Path("deploy/valkey/users.acl")
ONCE = Retry(NoBackoff(), 0)
PASSWORD = "a-password-of-the-tests"
SCRIPTS = Path("app/adapters/redis/scripts")
AROUND_SCRIPTS = {
    "hello", "auth", "ping", "select", "client|setname", "info", "eval",
    "evalsha", "script|load", "wait", "subscribe", "unsubscribe",
}  # fmt: skip

REBUILDING = {"del", "rename"}
"""What `koi ledger rebuild` and `koi restore` need besides, and the file says how to lend."""
TRIMMING = {"xdel"}
"""What closed months need to leave the store; the file says how to allow it."""


@pytest.fixture(scope="module", params=sorted(programs()))
def guarded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine with the users of the file, and one of the test's own to look at it."""
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    users = tmp_path_factory.mktemp("acl") / "users.acl"
    plain = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"#[0-9a-f]{64}", f"#{digest}", "\n".join(plain))
    users.write_text(f"{text}\nuser root on >root ~* &* +@all\n")
    with running(programs()[request.param], "--aclfile", str(users)) as engine:
        yield engine


@pytest.fixture
def root(guarded: Engine) -> Iterator[redis.Redis]:
    with redis.Redis(
        unix_socket_path=str(guarded.socket), username="root", password="root",
        decode_responses=True,
    ) as client:  # fmt: skip
        client.flushall()
        client.acl_log_reset()
        yield client


@pytest.fixture
def url(guarded: Engine) -> str:
    return f"unix://koi:{PASSWORD}@{guarded.socket}"


def test_the_file_names_the_commands_of_the_scripts_and_no_others() -> None:
    allowed = set(re.findall(r" \+(\S+)", FILE.read_text().splitlines()[-1]))
    calls = re.compile(r"redis\.p?call\(\s*'([A-Z]+)'")
    used: dict[Path, set[str]] = {
        f: {name.lower() for name in calls.findall(f.read_text())} for f in SCRIPTS.rglob("*.lua")
    }
    destroying = {file.name for file, commands in used.items() if commands & REBUILDING}

    assert allowed == set().union(*used.values()) - REBUILDING - TRIMMING | AROUND_SCRIPTS
    trimming = {file.name for file, commands in used.items() if commands & TRIMMING}
    assert trimming == {"trim_entries.lua"}
    assert destroying == {"begin_restore.lua", "restore.lua", "finish_rebuild.lua"}


def test_all_of_koi_runs_within_it(
    root: redis.Redis, url: str, provider: Sandbox, tmp_path: Path
) -> None:
    provider.reset()
    settings = {"upstream_rpm": 6000, "upstream_concurrency": 1, "admin_key": "admin-0123456789"}
    with gateway(provider, url, tmp_path / "koi", **settings) as koi:
        key = koi.key()
        with koi.client(key) as client:
            live_through_everything(koi, client)
        koi.operate(manage)
        koi.assert_ledger_matches_bill()
    cli = Cli(tmp_path, {"KOI_REDIS_URL": url, "KOI_DATA_DIR": str(tmp_path / "koi")})
    assert cli.json("ledger", "check")["difference"] == 0
    assert "answers" in cli.run("doctor", code=1).stdout

    # Told by a library to servers that know it; asked by the doctor, who copes without.
    refused = {entry["object"] for entry in root.acl_log()}  # type: ignore[union-attr, index]
    assert refused <= {"client|setinfo", "config|get"}
    # The user of an earlier version may not scan, and the ledger is checked all the same.
    root.execute_command("ACL SETUSER", "koi", "-hscan", "-zscan")
    assert cli.json("ledger", "check")["difference"] == 0
    root.execute_command("ACL SETUSER", "koi", "+hscan", "+zscan")


def test_tasks_are_polled_by_the_store_user_of_an_earlier_version(
    root: redis.Redis, url: str, provider: Sandbox, tmp_path: Path
) -> None:
    provider.reset()
    root.execute_command("ACL SETUSER", "koi", "-zmscore")
    with gateway(provider, url, tmp_path / "koi", upstream_mode="async") as koi:
        koi.sandbox.set(latency_s=0.5)
        with koi.client(koi.key()) as client:
            made = client.post(GENERATE, json=KOI)
    root.execute_command("ACL SETUSER", "koi", "+zmscore")

    assert made.status_code == 200
    assert {entry["object"] for entry in root.acl_log()} >= {"zmscore"}  # type: ignore[union-attr, index]


def live_through_everything(koi: Koi, client: httpx.Client) -> None:
    marks = {"idempotency-key": "once"}
    first = client.post(GENERATE, json=KOI, headers=marks)
    assert [client.post(GENERATE, json=KOI, headers=m).status_code for m in (marks, {})] == [
        200
    ] * 2
    koi.sandbox.script("400", "reset-after-accept")
    for prompt in ("refused", "ambiguous"):
        assert client.post(GENERATE, json={**KOI, "prompt": prompt}).status_code in (400, 502)
    koi.sandbox.set(latency_s=60)
    running, queued = (
        client.post(GENERATE, json={**KOI, "prompt": prompt, "async": True}).json()["id"]
        for prompt in ("running", "queued")
    )
    assert client.delete(f"/v1/tasks/{queued}").status_code == 200
    until(lambda: koi.sandbox.polls > 0, "the other one runs")
    koi.sandbox.advance(60)
    assert wait_for(client, running)["status"] == "completed"
    bare = first.json()["data"][0]["url"].partition("?")[0]
    for path in ("/v1/tasks", "/v1/usage", bare, "/readyz"):
        assert client.get(path).status_code == 200
    admin = {"authorization": "Bearer admin-0123456789"}
    assert client.get("/v1/organization/costs?start_time=1", headers=admin).status_code == 200


async def manage(operator: OperatorContext) -> None:
    issued = await operator.keys.issue("bob")
    await operator.keys.rotate(issued.key.id, overlap=timedelta(0))
    await operator.keys.revoke(issued.key.id)
    await operator.keys.create_team("art", operator.settings.default_limits)
    entries = [entry async for entry in operator.ledger.entries()]
    (charged, *_) = [entry for entry in entries if entry.images]
    zero = replace(charged, id="", kind=EntryKind.ADJUST, images=0, micros=0, surplus=0)
    await operator.ledger.adjust(zero)
    assert (await operator.ledger.audit()).difference == 0
    await operator.ledger.open_job_stats()


def test_a_backup_needs_no_more_and_a_restore_says_what_it_needs(
    root: redis.Redis, url: str, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, {"KOI_REDIS_URL": url, "KOI_DATA_DIR": str(tmp_path / "koi")})
    cli.run("users", "create", "ann")
    file = tmp_path / "koi.gz"
    cli.run("backup", str(file))
    root.flushall()
    elsewhere = Cli(tmp_path, {**cli.settings, "KOI_DATA_DIR": str(tmp_path / "new")})

    assert "+del +rename" in elsewhere.refused("restore", str(file), code=1)
    root.execute_command("ACL SETUSER", "koi", "+del", "+rename")
    elsewhere.run("restore", str(file))
    root.execute_command("ACL SETUSER", "koi", "-del", "-rename")

    assert elsewhere.json("users", "list")[0]["name"] == "ann"


OUTSIDE = [
    ("KEYS", "*"), ("SCAN", "0"), ("FLUSHALL",), ("FLUSHDB",), ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "appendonly", "no"), ("DEBUG", "SLEEP", "0"), ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"), ("MONITOR",), ("SHUTDOWN", "NOSAVE"), ("SAVE",), ("BGREWRITEAOF",),
    ("ACL", "LIST"), ("ACL", "SETUSER", "koi", "+@all"), ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "x"), ("MODULE", "LIST"), ("REPLICAOF", "NO", "ONE"),
    ("DUMP", "koi:1:{ledger}:seq"),
    ("DEL", "koi:1:{ledger}:stream"), ("UNLINK", "koi:1:{ledger}:stream"),
    ("XDEL", "koi:1:{ledger}:stream", "1-1"), ("XTRIM", "koi:1:{ledger}:stream", "MAXLEN", "0"),
    ("RENAME", "koi:1:{ledger}:stream", "koi:x"), ("GET", "other"), ("SET", "other", "1"),
    ("HGETALL", "session:1"), ("SUBSCRIBE", "other"), ("PUBLISH", "other", "x"),
    ("EVAL", "return redis.call('KEYS','*')", "0"),
    ("EVAL", "return redis.call('GET','other')", "0"),
    ("EVAL", "return redis.call('DEL','koi:1:{ledger}:stream')", "1", "koi:1:{ledger}:stream"),
    ("FUNCTION", "LIST"), ("FCALL", "f", "0"), ("SORT", "koi:l"),
    ("MIGRATE", "h", "1", "k", "0", "1"),
]  # fmt: skip


@pytest.mark.parametrize("command", OUTSIDE, ids=" ".join)
def test_what_koi_never_asks_is_refused(guarded: Engine, command: tuple[str, ...]) -> None:
    with (
        redis.Redis(unix_socket_path=str(guarded.socket), username="koi", password=PASSWORD) as koi,
        pytest.raises(redis.ResponseError, match=r"(?i)permission|can't (run|access)|not allowed"),
    ):
        koi.execute_command(*command)


def test_nobody_enters_without_a_password(guarded: Engine) -> None:
    with (
        redis.Redis(unix_socket_path=str(guarded.socket), retry=ONCE) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
