"""Real store engines on unix sockets, started once, emptied before every test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest
import uvloop
from store_rig import Engine, OpenStore, keyring_on, ledger_on, running

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.connection import connect
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from tests.store_node import programs

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


@pytest.fixture(scope="session", params=sorted(programs()))
def server(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """Each engine in turn, shared by the session."""
    with running(programs()[request.param]) as engine:
        yield engine


@pytest.fixture
def engine(server: Engine) -> Engine:
    """A shared engine, empty and with its scripts forgotten."""
    with server.client() as client:
        client.config_set("maxmemory", 0)
        client.flushall()
        client.script_flush()
    return server


@pytest.fixture
def own_engine() -> Iterator[Engine]:
    """An engine to kill, freeze or fill."""
    with running(next(iter(programs().values()))) as engine:
        yield engine


@pytest.fixture
async def open_store() -> AsyncIterator[OpenStore]:
    stores: list[BatchingStore] = []

    def opened(url: str, *, timeout_s: float = 10, **options: Any) -> BatchingStore:
        store = BatchingStore(connect(url, timeout_s=timeout_s), timeout_s=timeout_s, **options)
        stores.append(store)
        return store

    yield opened
    for store in stores:
        await store.aclose()


@pytest.fixture
async def store(engine: Engine, open_store: OpenStore) -> BatchingStore:
    return open_store(engine.url, timeout_s=20)


@pytest.fixture
async def ledger(store: BatchingStore) -> RedisLedger:
    return ledger_on(store)


@pytest.fixture
async def keyring(store: BatchingStore) -> RedisKeyRing:
    return keyring_on(store)


def pytest_asyncio_loop_factories() -> Mapping[str, LoopFactory]:
    """The loop that gateways run on."""
    return {"uvloop": uvloop.new_event_loop}
