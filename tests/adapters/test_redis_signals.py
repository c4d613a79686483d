"""Word of ended jobs reaches every process, and silence is only slower."""

import asyncio
import signal

from store_rig import (
    Engine,
    OpenStore,
    admission,
    delivered,
    eventually,
    ledger_on,
    listening,
    started,
)  # fmt: skip

from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.signals import RedisSignals


async def heard_by_one(engine: Engine) -> None:
    with engine.client() as admin:
        await eventually(lambda: bool(admin.pubsub_numsub(keyspace.ENDED_CHANNEL)[0][1]))


async def test_another_process_hears_of_the_end(
    engine: Engine, open_store: OpenStore, ledger: RedisLedger
) -> None:
    heard: list[str | None] = []
    async with listening(open_store(engine.url), heard):
        await heard_by_one(engine)
        job_id = await started(ledger, admission())

        await ledger.settle(job_id, delivered(1))
        await ledger.settle(job_id, delivered(1))

        await eventually(lambda: len(heard) > 1)
    assert heard == [None, job_id]


async def test_listening_outlives_a_restart_of_the_store(
    own_engine: Engine, open_store: OpenStore
) -> None:
    """And says that words may have been missed."""
    heard: list[str | None] = []
    store = open_store(own_engine.url)
    async with listening(store, heard):
        await heard_by_one(own_engine)
        own_engine.stop()
        await asyncio.sleep(0.2)
        own_engine.start()
        await heard_by_one(own_engine)
        ledger = ledger_on(store)
        job_id = await started(ledger, admission())

        await ledger.settle(job_id, delivered(1))

        await eventually(lambda: heard == [None, None, job_id])


async def test_words_that_arrive_together_are_all_heard_in_order(
    engine: Engine, open_store: OpenStore
) -> None:
    heard: list[str | None] = []
    ids = [f"task_{number}_{'x' * 90}" for number in range(2000)]
    async with listening(open_store(engine.url), heard):
        await heard_by_one(engine)
        with engine.client() as admin, admin.pipeline(transaction=False) as together:
            for job_id in ids:
                together.publish(keyspace.ENDED_CHANNEL, job_id)
            together.execute()
        await eventually(lambda: len(heard) > len(ids))
    assert heard == [None, *ids]


async def test_a_quiet_connection_is_not_a_dead_one(engine: Engine, open_store: OpenStore) -> None:
    heard: list[str | None] = []
    async with listening(open_store(engine.url), heard, quiet_s=0.4):
        await heard_by_one(engine)
        with engine.client() as admin:
            [client] = admin.client_list(_type="pubsub")
            admin.config_resetstat()
            # It is pinged again only if its answer was heard.
            await eventually(
                lambda: admin.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) > 1
            )

            assert admin.client_list(_type="pubsub")[0]["id"] == client["id"]
            admin.publish(keyspace.ENDED_CHANNEL, "task_1")
        await eventually(lambda: heard == [None, "task_1"])


async def test_a_frozen_store_is_left_for_a_new_connection(
    own_engine: Engine, open_store: OpenStore
) -> None:
    heard: list[str | None] = []
    async with listening(open_store(own_engine.url), heard, quiet_s=0.1):
        await heard_by_one(own_engine)
        with own_engine.client() as admin:
            [before] = ids = [c["id"] for c in admin.client_list(_type="pubsub")]
            async with asyncio.timeout(60):
                while ids in ([before], []):
                    if ids:  # a listener that had no turn of the CPU meanwhile noticed nothing
                        own_engine.signal(signal.SIGSTOP)
                        await asyncio.sleep(0.5)
                        own_engine.signal(signal.SIGCONT)
                    await asyncio.sleep(0.2)
                    ids = [c["id"] for c in admin.client_list(_type="pubsub")]


class ClosesBadly:
    """A connection that is cancelled while it listens, and fails as it is closed."""

    def __init__(self) -> None:
        self.listening = asyncio.Event()

    async def listen(self, _channel: str) -> "ClosesBadly":
        return self

    async def read(self, _within_s: float) -> None:
        self.listening.set()
        await asyncio.sleep(3600)

    async def close(self) -> None:
        raise ConnectionResetError


async def test_an_error_while_the_connection_is_closed_keeps_no_listener_alive() -> None:
    store = ClosesBadly()

    async def listen() -> None:
        async for _ in RedisSignals(store).ended():  # type: ignore[arg-type]
            pass

    listening = asyncio.create_task(listen())
    await store.listening.wait()
    listening.cancel()
    await asyncio.wait([listening], timeout=10)

    assert listening.cancelled()


async def test_a_listener_ends_when_it_is_told_to_whatever_it_is_doing(
    store: BatchingStore,
) -> None:
    async def listen() -> None:
        async for _ in RedisSignals(store).ended():
            pass

    for step in range(150):
        listeners = [asyncio.create_task(listen()) for _ in range(4)]
        await asyncio.sleep(step * 0.0001)  # connecting, subscribing, listening
        for listener in listeners:
            listener.cancel()
        _, still_there = await asyncio.wait(listeners, timeout=4)
        assert not still_there
