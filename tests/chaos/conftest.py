"""Two gateways on one store, and a seed for each random run."""

import gc
import random
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.harness import Koi, gateway, quick_sandbox


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """`--chaos-seed` draws the same calls and moments again."""
    asked = request.config.getoption("--chaos-seed")
    return random.randrange(1_000_000) if asked is None else int(asked)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def pair(sandbox: Sandbox, tmp_path: Path) -> Iterator[Any]:
    """Start two gateways with the same settings; in the end their ledger must equal the bill."""
    with ExitStack() as stack:
        store = stack.enter_context(EmbeddedStore(tmp_path / "store"))

        def start(**settings: Any) -> tuple[Koi, Koi]:
            first, second = (
                stack.enter_context(gateway(sandbox, store.url, tmp_path / "koi", **settings))
                for _ in range(2)
            )
            stack.callback(first.assert_ledger_matches_bill)
            return first, second

        yield start


@pytest.fixture(autouse=True)
def swept_up() -> Iterator[None]:
    """Callers that hang up in mid-connect leave sockets to the collector, which would complain in
    the middle of another test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
