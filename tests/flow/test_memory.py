"""What requests leave behind, and what a caller takes while it waits."""

import gc
import json
import socket
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.api.state import AccessRecord
from app.sandbox.server import Sandbox
from tests.flow.conftest import Start
from tests.harness import KOI, Koi, gateway

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


CALLERS = 60
KB_EACH = 30
"""What a caller takes in this process, with what the test itself takes for it: 28.2 now."""


def ordered(koi: Koi, key: str, number: int) -> socket.socket:
    """A connection on which a generation was ordered; its answer is still to come."""
    host, port = koi.url.removeprefix("http://").split(":")
    body = json.dumps({**KOI, "prompt": f"koi number {number}"}).encode()
    head = (
        f"POST /v1/images/generations HTTP/1.1\r\nHost: {host}:{port}\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection((host, int(port)))
    connection.sendall(head.encode() + body)
    return connection


def test_a_caller_that_waits_takes_little_memory(
    sandbox: Sandbox, store_url: str, tmp_path: Path
) -> None:
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=CALLERS) as provider:
        url = f"http://127.0.0.1:{provider.getsockname()[1]}/v1"
        settings = {"upstream_base_url": url, "upstream_mode": "sync", "upstream_timeout_s": 60}
        koi = stack.enter_context(gateway(sandbox, store_url, tmp_path / "koi", **settings))
        key = koi.key()

        def order(number: int) -> socket.socket:
            """The provider's end of the connection on which it was asked for this generation."""
            stack.enter_context(ordered(koi, key, number))
            asked = stack.enter_context(provider.accept()[0])
            assert asked.recv(65_536)
            return asked

        calls = [order(number) for number in range(2)]
        tracemalloc.start()
        calls += [order(number) for number in range(2, 2 + CALLERS)]
        kb_each = tracemalloc.get_traced_memory()[0] / CALLERS / 1024
        tracemalloc.stop()
        for call in calls:
            call.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    assert kb_each < KB_EACH
