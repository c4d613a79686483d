"""A provider that cannot be reached: nothing was sent, so another attempt is safe."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from app.adapters.http.client import HttpResponse
from app.adapters.http.errors import ConnectError
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendState
from app.adapters.upstream.client import DieyuyunProvider
from app.domain.upstream import TaskImages
from tests.adapters.upstream_script import (
    DONE,
    KEY,
    KOI,
    P0,
    P3,
    Scripted,
    listening,
    provider_at,
    refused,
    reply,
)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """A listener whose queue is full: connecting to it never ends."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_an_unknown_name_is_tried_again_and_never_sent() -> None:
    events: list[str] = []

    async with provider_at("http://koi-provider.invalid/v1", observe=events.append) as provider:
        failed = await refused(provider)

    assert (failed.reason, failed.proof) == ("upstream_unreachable", P0)
    assert failed.note.retryable
    assert events == ["reattempt", "reattempt"]


async def test_a_refused_connection_is_tried_again_and_never_sent(closed_port: int) -> None:
    events: list[str] = []
    started = time.monotonic()

    async with provider_at(f"http://127.0.0.1:{closed_port}/v1", observe=events.append) as provider:
        failed = await refused(provider)

    assert (failed.reason, failed.proof) == ("upstream_unreachable", P0)
    assert events == ["reattempt", "reattempt"]
    assert time.monotonic() - started < 12


async def test_a_provider_that_comes_back_in_time_is_sent_one_post() -> None:
    async with listening(reply(200, DONE)) as upstream:
        port = upstream.port
    revived = Scripted([reply(200, DONE)])

    async with provider_at(f"http://127.0.0.1:{port}/v1") as provider:
        call = asyncio.create_task(provider.dispatch(KOI, asynchronous=True))
        await asyncio.sleep(0.05)
        server = await asyncio.start_server(revived.serve, "127.0.0.1", port)
        answer = await call
    server.close()

    assert isinstance(answer, TaskImages)
    assert revived.posts == 1


async def test_a_black_hole_ends_at_the_connect_timeout(full_backlog: int) -> None:
    started = time.monotonic()

    async with provider_at(
        f"http://127.0.0.1:{full_backlog}/v1", connect_timeout_s=0.3, timeout_s=60
    ) as provider:
        failed = await refused(provider)

    assert (failed.reason, failed.proof) == ("upstream_unreachable", P0)
    assert time.monotonic() - started < 30


async def test_a_deadline_before_the_connection_stands_proves_nothing_was_sent(
    full_backlog: int,
) -> None:
    async with provider_at(f"http://127.0.0.1:{full_backlog}/v1", timeout_s=0.1) as provider:
        failed = await refused(provider)

    assert (failed.reason, failed.proof) == ("upstream_unreachable", P0)


async def test_a_transport_that_tells_nothing_proves_nothing(closed_port: int) -> None:
    class Silent:
        async def send(self, _request: HttpRequest, _send_state: SendState) -> HttpResponse:
            raise ConnectError("refused")

        async def close(self) -> None:
            pass

    provider = DieyuyunProvider(
        f"http://127.0.0.1:{closed_port}/v1",
        KEY,
        Silent(),
        timeout_s=3,
    )

    failed = await refused(provider)
    await provider.close()

    assert failed.proof is P3
