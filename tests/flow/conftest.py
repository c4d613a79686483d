"""Flow tests: one store engine for the session, emptied before each test; a sandbox each."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.harness import Koi, gateway, quick_sandbox


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as store:
        yield store.url


@pytest.fixture
def store_url(engine: str) -> str:
    with redis.Redis.from_url(engine) as client:
        client.flushall()
    return engine


@pytest.fixture(scope="session")
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(provider: Sandbox) -> Sandbox:
    provider.reset()
    return provider


Start = Callable[..., Koi]


@pytest.fixture
def start(sandbox: Sandbox, store_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a gateway with settings; in the end the ledger of each must equal the bill."""
    with contextlib.ExitStack() as stack:
        started: list[Koi] = []

        def run(**settings: Any) -> Koi:
            koi = stack.enter_context(gateway(sandbox, store_url, tmp_path / "koi", **settings))
            started.append(koi)
            return koi

        yield run
        if started:
            started[0].assert_ledger_matches_bill()


@pytest.fixture
def koi(start: Start) -> Koi:
    return start()
