"""Keys have one owner; scripts use only the names they are handed; everything fits a cluster."""

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.asyncio import Redis
from redis.crc import key_slot
from store_rig import (
    NOTE,
    Engine,
    OpenStore,
    admission,
    delivered,
    eventually,
    keyring_on,
    ledger_on,
    listening,
    pictures,
    principal,
    running,
    scripts_on,
    started,
)  # fmt: skip

from app.adapters.redis import keyspace
from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.cluster import ClusterTopology
from app.adapters.redis.client.connection import connect
from app.adapters.redis.client.scripts import PRELUDE, load_scripts
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.registry import GatewayRegistry, JournalRegistry
from app.adapters.redis.sessions import RedisSessions
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter, UpstreamLimits
from app.domain.cache import CacheControl
from app.domain.gateways import GatewayRecord
from app.domain.job import CacheVariant, JobState, Outcome, PendingImage
from app.domain.journal import RegisteredJournal
from app.domain.limits import Limits
from app.domain.principal import ApiKey, User
from app.domain.session import Session, SessionRole
from tests.ports import free_port
from tests.store_node import programs

ROOM = Path(keyspace.__file__).parent
FOLDERS = ("ledger", "cache", "upstream")


async def everything_once(store: BatchingStore) -> RedisLedger:
    """Touch every family of keys."""
    ledger, keyring = ledger_on(store), keyring_on(store)
    await JournalRegistry(scripts_on(store)).register(
        RegisteredJournal("0" * 16, "host", "journal")
    )
    await GatewayRegistry(scripts_on(store)).register(
        GatewayRecord("1" * 16, "host", "file:1", "images")
    )
    await keyring.save_user(User("ann", Limits(), 1), NOTE, create=True)
    await keyring.save_key(ApiKey("key_1", "ann", "d" * 64, "", Limits(), 1), NOTE)
    assert await keyring.authenticate("d" * 64) is not None
    sessions = RedisSessions(scripts_on(store))
    await sessions.save(Session("5" * 64, "d" * 64, SessionRole.HOLDER), 60_000, 5)
    who = principal(key=Limits(requests_per_minute=9, images_per_day=9))
    wanted = admission(who, idempotency_key="once")
    await ledger.check_rate_limit(who, wanted.dedup_keys)
    await started(ledger, wanted)
    await ledger.record_part(wanted.job_id, 0, upstream_id="up", due_ms=-1)
    [claim] = await ledger.claim(1, 1000)
    await ledger.reschedule(claim, due_ms=10)
    await ledger.settle(wanted.job_id, delivered(1))
    pending = Outcome(JobState.SETTLED, billed=1, pending=(PendingImage(0, 0, "https://a.test/"),))
    await ledger.settle(await started(ledger, admission()), pending, collect_ms=60_000)
    for provider in (None, "second"):
        limiter = RedisUpstreamLimiter(
            store, UpstreamLimits(rpm=5, concurrency=2), provider=provider
        )
        await limiter.acquire("job", 1, 1)
        assert (await limiter.acquire_polls(1)).count == 1
        await limiter.record_failure("upstream_rate_limited", 1)
        await limiter.record_failure("upstream_auth")
        await limiter.release("job")
    cache = RedisResultCache(store, ttl_s=60, variants=2, lease_s=60)
    recalled = await cache.look_up("fp", "job", CacheControl())
    assert recalled.cache_variant == CacheVariant("fp", 0)
    await cache.fill(CacheVariant("fp", 0), "job", pictures(1))
    return ledger


async def test_every_key_is_in_the_table_and_the_ledger_is_one_slot(
    engine: Engine, store: BatchingStore
) -> None:
    await everything_once(store)

    with engine.client() as admin:
        keys: list[str] = admin.keys()
    families = {key.noun: key.name for key in keyspace.KEYS}
    families |= {"pictures": "koi:1:cache:{fp}:pictures", "starts": "koi:1:cache:{fp}:starts"}
    of_second = {keyspace.provider_key(name, "second") for name in families.values()}
    known = (*families.values(), *of_second)
    assert {key for key in keys if not key.startswith(known)} == set()
    mains = {key.replace(":second}", "}") for key in keys if "{upstream:second}" in key}
    assert mains == {key for key in keys if "{upstream}" in key} != set()
    assert len({key_slot(key.encode()) for key in keys if "{upstream:second}" in key}) == 1
    assert len({key_slot(key.encode()) for key in keys if "{ledger}" in key}) == 1
    assert len({key_slot(key.encode()) for key in keys if "{fp}" in key}) == 1
    of_every_layout = keyspace.key("data_version")
    assert {key for key in keys if not key.startswith("koi:1:")} == {of_every_layout}


def test_nobody_but_the_keyspace_spells_a_key() -> None:
    files = [*ROOM.rglob("*.lua"), *(f for f in ROOM.glob("*.py") if f.name != "keyspace.py")]

    assert [file.name for file in files if re.search(r"koi:|\{ledger\}", file.read_text())] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_scripts_reach_keys_only_by_the_names_they_are_handed(folder: str) -> None:
    for file in (ROOM / "scripts" / folder).glob("*.lua"):
        for call in re.findall(r"redis\.call\(\s*'([A-Z]+)'(?:,\s*([^,)]+))?", file.read_text()):
            command, key = call
            if command not in ("TIME", "PUBLISH"):
                assert re.match(
                    r"K\.|KEYS\[|key\b|unpack\(keys\b|family|attempts|own\b|slots|repeated",
                    key.strip(),
                ), f"{file.name}: {command} {key}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_script_says_what_it_takes_and_returns(folder: str) -> None:
    for file in (ROOM / "scripts" / folder).glob("*.lua"):
        text = file.read_text()
        if not file.name.startswith(PRELUDE):
            assert text.startswith("#!lua"), file.name
            assert re.search(r"-- KEYS.*->", text, re.DOTALL), file.name


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_script_is_used(folder: str) -> None:
    files = [*ROOM.glob("*.py"), *Path("app/recovery").glob("*.py")]
    files.remove(ROOM / "replies.py")  # a table of them all
    code = "".join(file.read_text() for file in files)

    assert [name for name in load_scripts(folder) if f'"{name}"' not in code] == []


REBUILDING = {
    "open_epoch",
    "quarantine",
    "begin_restore",
    "restore",
    "finish_rebuild",
    "move_ledger",
    "upgrade_store",
}
WRITES_NOTHING = {"check_writable"}
DELIVERIES = {"publish_notice", "claim_deliveries", "report_delivery", "redeliver", "take_turn"}
MONTHS = {"save_month", "trim_entries", "tidy_jobs"}
NOT_LEDGER = {"register_gateway", "save_rollup"} | MONTHS | DELIVERIES
"""Which gateways run now: true in any epoch of the store, and gone with it. Rollups are
derived from entries of the epoch that the script compares, and made again after a loss. What leaves
of closed months is in files, of which that very store says so. That data was lost is itself a
notice, so deliveries go on then."""


def test_every_writing_script_of_the_ledger_checks_for_data_loss_first() -> None:
    for name, script in load_scripts("ledger").items():
        body = script.text.rpartition("local function find_duplicate")[2]
        reads_only = script.text.startswith("#!lua flags=no-writes")
        exempt = name in REBUILDING | WRITES_NOTHING | NOT_LEDGER
        assert reads_only or exempt or "if data_lost()" in body, name


# Ways to a store ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:pw@redis.internal:6380/2", ("redis.internal", 6380, 2, None, "pw")),
        ("rediss://ann:p%40w@redis.internal", ("redis.internal", 6379, 0, "ann", "p@w")),
        ("redis://[::1]:6380", ("::1", 6380, 0, None, None)),
    ],
)
async def test_a_servers_url(url: str, expected: tuple[object, ...]) -> None:
    client = connect(url)

    assert isinstance(client, Redis)
    options = client.connection_pool.connection_kwargs
    names = ("host", "port", "db", "username", "password")
    defaults = {"port": 6379, "db": 0}
    assert tuple(options.get(name, defaults.get(name)) for name in names) == expected
    await client.aclose()


async def test_a_sentinel_url() -> None:
    client = connect("redis+sentinel://:pw@one,two:5,[::1]:6/mymaster/3")

    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert pool.service_name == "mymaster"  # type: ignore[attr-defined]
    watchers = [s.connection_pool.connection_kwargs for s in pool.sentinel_manager.sentinels]  # type: ignore[attr-defined]
    assert [(w["host"], w["port"]) for w in watchers] == [("one", 26379), ("two", 5), ("::1", 6)]
    assert (pool.connection_kwargs["db"], pool.connection_kwargs["password"]) == (3, "pw")
    await client.aclose()


@pytest.mark.parametrize("url", ["localhost:6379", "http://x", "redis+sentinel://host", ""])
def test_a_url_that_leads_nowhere(url: str) -> None:
    with pytest.raises(ValueError, match="sentinel"):
        connect(url)


@pytest.mark.parametrize("url", ["redis://h", "unix:///s", "redis+cluster://h1:1,h2"])
async def test_no_client_retries_by_itself(url: str) -> None:
    """A script whose reply is late must not run again."""
    client = connect(url)
    pool = client.pool(("h1", 1)) if isinstance(client, ClusterTopology) else client.connection_pool

    assert pool.make_connection().retry.get_retries() == 0
    await client.aclose()


@pytest.mark.parametrize("name", sorted(programs()))
async def test_everything_runs_on_a_cluster(name: str, open_store: OpenStore) -> None:
    port = free_port()
    options = (
        "--port", str(port), "--bind", "127.0.0.1",
        "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
    )  # fmt: skip
    with running(programs()[name], *options) as engine, engine.client() as admin:
        admin.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
        await eventually(lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 10)
        store = open_store(f"redis+cluster://127.0.0.1:{port}")
        heard: list[str | None] = []
        async with listening(store, heard):
            await eventually(lambda: bool(admin.pubsub_numsub(keyspace.ENDED_CHANNEL)[0][1]))

            ledger = await everything_once(store)

            await eventually(lambda: len(heard) == 2)
        assert (await ledger.audit()).difference == 0


@contextlib.contextmanager
def sentinel(program: Path, directory: Path, master_port: int) -> Iterator[int]:
    port = free_port()
    config = directory / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {directory}\nlogfile {directory}/sentinel.log\n"
        f"sentinel monitor koi 127.0.0.1 {master_port} 1\n"
    )
    process = subprocess.Popen([str(program), str(config), "--sentinel"])
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def watches(port: int) -> bool:
    with contextlib.suppress(redis.RedisError), redis.Redis(port=port) as admin:
        return bool(admin.sentinel_get_master_addr_by_name("koi"))
    return False


async def test_the_master_is_found_through_sentinel(open_store: OpenStore, tmp_path: Path) -> None:
    program, port = next(iter(programs().values())), free_port()
    with (
        running(program, "--port", str(port), "--bind", "127.0.0.1"),
        sentinel(program, tmp_path, port) as watcher,
    ):
        store = open_store(f"redis+sentinel://127.0.0.1:{watcher}/koi", timeout_s=2)
        await eventually(lambda: watches(watcher))

        ledger = await everything_once(store)

        assert (await ledger.audit()).difference == 0
