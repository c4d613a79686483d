"""Every kind of trouble a store can be in, told apart, and how long it may take."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_rig import (
    Engine,
    OpenStore,
    admission,
    delivered,
    ledger_on,
    running,
    started,
)  # fmt: skip

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.connection import PUBSUB_CONNECTIONS, connect
from app.adapters.redis.client.scripts import Script, build_script
from app.domain.errors import StoreUnavailable
from tests.ports import free_port
from tests.store_node import programs

ECHO = build_script("echo", "#!lua flags=no-writes\nreturn ARGV[1]")
WRITE = build_script("write", "#!lua\nreturn redis.call('INCR', KEYS[1])")
SLOW = build_script(
    "slow",
    "#!lua flags=no-writes\nlocal n = 0; for i = 1, tonumber(ARGV[1]) do n = n + i end; return n",
)
WRONG = build_script("wrong", "#!lua\nreturn redis.call('INCR', 'x', 'y')")


async def echoes(store: BatchingStore, count: int) -> list[str]:
    return await asyncio.gather(*(store.run(ECHO, (), f"n{n}") for n in range(count)))


async def until_it_answers(store: BatchingStore) -> AsyncIterator[str]:
    """Five different questions, each asked until it is answered."""
    deadline = time.monotonic() + 20
    for n in range(5):
        while True:
            try:
                yield await store.run(ECHO, (), f"n{n}")
                break
            except StoreUnavailable:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)


async def kind_of_trouble(store: BatchingStore, script: Script = WRITE) -> str:
    with pytest.raises(StoreUnavailable) as error:
        await store.run(script, ("koi:x",))
    return error.value.message.partition("(")[2].partition(")")[0]


async def test_nobody_listens(open_store: OpenStore, tmp_path: Path) -> None:
    store = open_store(f"unix://{tmp_path}/none")

    assert await kind_of_trouble(store) == "connection"


@pytest.mark.parametrize("name", sorted(programs()))
@pytest.mark.parametrize(
    ("options", "script", "kind"),
    [
        (("--maxmemory", "1"), WRITE, "oom"),
        (("--replicaof", "127.0.0.1 1"), WRITE, "readonly"),
        (("--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no"), ECHO, "masterdown"),
        (("--min-replicas-to-write", "1"), WRITE, "noreplicas"),
        (("--requirepass", "secret"), WRITE, "auth"),
        (("--cluster-enabled", "yes"), WRITE, "clusterdown"),
    ],
)
async def test_a_store_that_refuses(
    open_store: OpenStore, name: str, options: tuple[str, ...], script: Script, kind: str
) -> None:
    """Never taken for an empty ledger, and told apart in the metrics."""
    seen: list[tuple[str, str]] = []
    if "--cluster-enabled" in options:
        options += ("--cluster-port", str(free_port()))
    with running(programs()[name], *options) as engine:
        store = open_store(
            engine.url, observe=lambda script, outcome, _: seen.append((script, outcome))
        )

        assert await kind_of_trouble(store, script) == kind
        assert seen == [(script.name, kind)]


async def test_a_store_that_cannot_write_to_its_disk(
    own_engine: Engine, open_store: OpenStore
) -> None:
    store = open_store(own_engine.url)
    (own_engine.directory / "dump.rdb" / "in the way").mkdir(parents=True)
    with own_engine.client() as admin:
        admin.config_set("save", "3600 1")
        admin.bgsave()
        while admin.info("persistence")["rdb_last_bgsave_status"] == "ok":
            await asyncio.sleep(0.01)

    assert await kind_of_trouble(store) == "misconf"


async def test_a_full_store_still_takes_the_end_of_a_paid_job(
    own_engine: Engine, open_store: OpenStore
) -> None:
    """What was bought is written down; nothing new is bought."""
    ledger = ledger_on(open_store(own_engine.url))
    job_id = await started(ledger, admission())
    with own_engine.client() as admin:
        admin.config_set("maxmemory", 1)

    with pytest.raises(StoreUnavailable, match="oom"):
        await ledger.admit(admission())
    assert await ledger.record_part(job_id, 0, upstream_id="up", due_ms=0)
    assert (await ledger.settle(job_id, delivered(1))).first


async def test_a_frozen_store_refuses_everybody_within_the_timeout(
    own_engine: Engine, open_store: OpenStore
) -> None:
    """Also those who asked while the first were waiting."""
    store = open_store(own_engine.url, timeout_s=2)
    await echoes(store, 2)
    own_engine.signal(signal.SIGSTOP)
    waits: list[float] = []

    async def ask(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        asked = time.monotonic()
        assert await kind_of_trouble(store) == "timeout"
        waits.append(time.monotonic() - asked)

    try:
        await asyncio.gather(*(ask(0.02 * n) for n in range(14)))
    finally:
        own_engine.signal(signal.SIGCONT)

    assert max(waits) < 3.5
    assert await echoes(store, 3) == ["n0", "n1", "n2"]


async def test_a_killed_store_is_noticed_at_once_and_found_again(
    own_engine: Engine, open_store: OpenStore
) -> None:
    store = open_store(own_engine.url, timeout_s=20)
    await echoes(store, 2)
    own_engine.stop()

    asked = time.monotonic()
    assert await kind_of_trouble(store) == "connection"
    assert time.monotonic() - asked < 10

    own_engine.start()
    assert await echoes(store, 2) == ["n0", "n1"]


async def test_a_slow_answer_never_reaches_the_next_caller(
    own_engine: Engine, open_store: OpenStore
) -> None:
    store = open_store(own_engine.url, timeout_s=0.1)

    with pytest.raises(StoreUnavailable, match="timeout"):
        await store.run(SLOW, (), 60_000_000)

    answers = [answer async for answer in until_it_answers(store)]
    assert answers == [f"n{n}" for n in range(5)]


async def test_a_busy_pool_is_waited_for_and_then_told_apart(engine: Engine) -> None:
    client = connect(engine.url, pool_size=1, pool_wait_s=0.1)
    store = BatchingStore(client)
    pool = client.connection_pool  # type: ignore[union-attr]
    taken = [await pool.get_connection() for _ in range(1 + PUBSUB_CONNECTIONS)]  # type: ignore[no-untyped-call]

    assert await kind_of_trouble(store) == "pool"

    for connection in taken:
        await pool.release(connection)
    assert await store.run(ECHO, (), "free") == "free"
    await store.aclose()
