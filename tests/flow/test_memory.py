"""What requests leave behind, and what a caller takes while it waits."""

import gc
import time
from collections.abc import Iterator

import pytest

from app.api.state import AccessRecord
from tests.flow.conftest import Start
from tests.harness import KOI, Koi

REQUESTS = 6
OF_THE_CONNECTION = 1
"""A connection keeps its latest request until the next one begins."""


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def records() -> int:
    return sum(isinstance(found, AccessRecord) for found in gc.get_objects())


def records_after(path: str, koi: Koi, **fields: object) -> int:
    """How many more there are after some requests, once the receipts of their callers were sent."""
    before = records()
    with koi.client() as client:
        for number in range(REQUESTS):
            if fields:
                client.post(path, json={**fields, "prompt": f"koi number {number}"})
            else:
                client.get(path)
        deadline = time.monotonic() + 5
        while (left := records() - before) > OF_THE_CONNECTION and time.monotonic() < deadline:
            time.sleep(0.05)
    return left


@pytest.mark.usefixtures("no_collector")
def test_a_request_that_is_over_leaves_nothing_to_the_collector(start: Start) -> None:
    koi = start()

    assert records_after("/v1/images/generations", koi, **KOI) <= OF_THE_CONNECTION
    assert records_after("/v1/tasks/none", koi) <= OF_THE_CONNECTION
    assert records_after("/v1/nothing", koi) <= OF_THE_CONNECTION
