"""The transport on real sockets: TLS, kept connections, limits, and what each failure is called."""

import asyncio
import gzip
import os
import threading
import time

import pytest

from app.adapters.http.client import HttpClient, HttpTimeouts
from app.adapters.http.connecting import CachingResolver
from app.adapters.http.errors import PoolTimeout, ReadTimeout
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendStage, SendState
from app.adapters.http.tls import public_tls_context
from app.adapters.http.urls import parse_url
from app.adapters.upstream.transport import open_transport
from app.domain.upstream import TaskImages
from tests.adapters.upstream_script import (
    DONE,
    KOI,
    P3,
    Exchange,
    Scripted,
    hang,
    head,
    listening,
    raw,
    refused,
    reply,
    scripted,
    slowly,
)

SPOKEN = threading.Event()


async def unasked(exchange: Exchange) -> None:
    """A good answer, and then another one that nobody asked for."""
    await reply(200, DONE)(exchange)
    body = b'{"data":[{"url":"https://cdn.example.com/of-another-caller.png"}]}'
    stray = head(200, f"Content-Length: {len(body)}") + body
    sock = exchange.writer.get_extra_info("socket").fileno()

    def speak() -> None:
        os.write(sock, stray)
        SPOKEN.set()

    threading.Timer(0.05, speak).start()


@pytest.mark.parametrize("pause_s", [0.0, 0.15])
async def test_what_a_kept_connection_said_unasked_is_nobodys_answer(pause_s: float) -> None:
    SPOKEN.clear()
    async with scripted(unasked, reply(200, DONE)) as (provider, upstream):
        first = await provider.dispatch(KOI, asynchronous=False)
        if pause_s:
            assert await asyncio.to_thread(SPOKEN.wait, 10)
            await asyncio.sleep(pause_s)
        else:
            assert SPOKEN.wait(10)  # the event loop has no chance to read it before the next call
            time.sleep(0.15)
        second = await provider.dispatch(KOI, asynchronous=False)

    assert first == second
    assert upstream.posts == 2
    assert [asked.connection for asked in upstream.asked] == [1, 2]


async def close_after_answer(exchange: Exchange) -> None:
    await reply(200, DONE)(exchange)
    exchange.writer.close()


@pytest.mark.parametrize("pause_s", [0.0, 0.1])
async def test_a_connection_closed_while_kept_is_not_used_again(pause_s: float) -> None:
    async with scripted(close_after_answer, reply(200, DONE)) as (provider, upstream):
        await provider.dispatch(KOI, asynchronous=False)
        if pause_s:
            await asyncio.sleep(pause_s)
        else:
            time.sleep(0.1)
        await provider.dispatch(KOI, asynchronous=False)

    assert [asked.connection for asked in upstream.asked] == [1, 2]


async def test_a_kept_connection_that_dies_under_a_post_is_no_proof() -> None:
    async def close(exchange: Exchange) -> None:
        exchange.writer.close()

    async with scripted(reply(200, DONE), close) as (provider, upstream):
        await provider.dispatch(KOI, asynchronous=False)
        failed = await refused(provider)

    assert (failed.reason, failed.proof) == ("upstream_ambiguous", P3)
    assert upstream.posts == 2


async def test_an_idle_connection_ages_out() -> None:
    async with listening(reply(200, DONE)) as upstream:
        transport = open_transport(keepalive_s=0.05)
        for _ in range(2):
            await fetch(transport, upstream)
            await asyncio.sleep(0.2)
        await transport.close()

    assert upstream.connections == 2


async def fetch(
    transport: HttpClient, upstream: Scripted, send_state: SendState | None = None
) -> bytes:
    request = HttpRequest("GET", parse_url(f"http://127.0.0.1:{upstream.port}/"))
    pieces = []
    async with await transport.send(request, send_state or SendState()) as response:
        while piece := await response.read():
            pieces.append(piece)
    return b"".join(pieces)


def impatient(connections: int, **timeouts: float) -> HttpClient:
    return HttpClient(
        connections,
        keepalive_s=4,
        resolve=CachingResolver(),
        tls=public_tls_context,
        timeouts=HttpTimeouts(**timeouts),
    )


async def test_a_full_pool_is_called_so_and_nothing_was_sent() -> None:
    async with listening(hang) as upstream:
        transport = impatient(1, pool_s=0.05)
        first = asyncio.create_task(fetch(transport, upstream))
        while not upstream.asked:
            await asyncio.sleep(0.01)
        send_state = SendState()

        with pytest.raises(PoolTimeout):
            await fetch(transport, upstream, send_state)

        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await transport.close()

    assert not send_state.sent
    assert len(upstream.asked) == 1


async def test_compressed_bytes_stay_compressed() -> None:
    body = gzip.compress(bytes(100_000))

    async with listening(raw(200, body, "Content-Encoding: gzip")) as upstream:
        transport = open_transport()
        received = await fetch(transport, upstream)
        await transport.close()

    assert received == body


async def test_a_read_timeout_is_called_so_and_may_have_been_sent() -> None:
    async with listening(hang) as upstream:
        transport = impatient(1, read_s=0.05)
        send_state = SendState()

        with pytest.raises(ReadTimeout):
            await fetch(transport, upstream, send_state)

        await transport.close()

    assert send_state.stage is SendStage.SENT


async def test_200_slow_calls_at_once_each_get_their_answer_in_one_slow_time() -> None:
    async def own(exchange: Exchange) -> None:
        link = f"https://cdn.example.com/{len(exchange.asked.json['prompt'])}.png"
        await reply(200, {"data": [{"url": link}]})(exchange)

    started = time.monotonic()

    async with scripted(slowly(own, 0.5), connections=200, timeout_s=20) as (
        provider,
        upstream,
    ):
        requests = [type(KOI)("m", "k" * size, 1, "s", "q") for size in range(1, 201)]
        answers = await asyncio.gather(
            *(provider.dispatch(request, asynchronous=False) for request in requests)
        )

    got = [
        image.url for answer in answers if isinstance(answer, TaskImages) for image in answer.images
    ]
    assert got == [f"https://cdn.example.com/{size}.png" for size in range(1, 201)]
    assert upstream.posts == 200
    assert time.monotonic() - started < 60
