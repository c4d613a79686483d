"""The HTTP client on real sockets: what is sent, which connections are kept, what is read when."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest

from app.adapters.http.client import REST_S, HttpClient, HttpTimeouts
from app.adapters.http.connection import READ_BUFFER_BYTES
from app.adapters.http.errors import BodyTruncated, ConnectError, ConnectTimeout, ReadError
from app.adapters.http.messages import HttpRequest, SentHeaders
from app.adapters.http.send_state import SendStage, SendState
from app.adapters.http.tls import public_tls_context
from app.adapters.http.urls import parse_url
from tests.adapters.upstream_script import (
    Exchange,
    Script,
    Scripted,
    head,
    listening,
    raw,
    reply,
)

HELLO = head(200, "Content-Length: 5") + b"hello"


@asynccontextmanager
async def client_of(
    addresses: Sequence[str] = ("127.0.0.1",),
    connections: int = 4,
    rest_s: float = 0.0,
    **timeouts: float,
) -> AsyncIterator[HttpClient]:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    client = HttpClient(
        connections,
        keepalive_s=4,
        resolve=resolve,
        tls=public_tls_context,
        timeouts=HttpTimeouts(**timeouts),
        rest_s=rest_s,
    )
    try:
        yield client
    finally:
        await client.close()


def url_of(upstream: Scripted, path: str = "/") -> str:
    return f"http://koi.example:{upstream.port}{path}"


async def body_of(
    client: HttpClient, upstream: Scripted, method: str = "GET", state: SendState | None = None
) -> bytes:
    request = HttpRequest(method, parse_url(url_of(upstream)))
    pieces = []
    async with await client.send(request, state or SendState()) as response:
        while piece := await response.read():
            pieces.append(piece)
    return b"".join(pieces)


def in_pieces(stream: bytes, *cuts: int) -> Script:
    async def script(exchange: Exchange) -> None:
        edges = [0, *cuts, len(stream)]
        pieces = [stream[at:to] for at, to in pairwise(edges)]
        await exchange.send(*pieces, pause_s=0.002)

    return script


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", (("X", "a\r\nY: b"),)),
        ("GET", "/", (("X", "a\n"),)),
        ("GET", "/", (("X", "a\0"),)),
        ("GET", "/", (("X\r\nY", "a"),)),
        ("GET", "/", (("X Y", "a"),)),
        ("GET", "/", (("", "a"),)),
        ("GET", "/", (("X", "锦"),)),
        ("GET / HTTP/1.1\r\nX", "/", ()),
        ("get", "/", ()),
    ],
)
async def test_what_would_be_another_request_is_never_sent(
    method: str, path: str, headers: tuple[tuple[str, str], ...]
) -> None:
    state = SendState()
    async with listening(reply(200, {})) as upstream, client_of() as client:
        request = HttpRequest(method, parse_url(url_of(upstream, path)), SentHeaders(*headers))
        with pytest.raises(ValueError, match="holds what it must not"):
            await client.send(request, state)

        assert (await body_of(client, upstream)) == b"{}"

    assert not state.sent
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("sign", ["\r\nX: y", "\n", " HTTP/1.1\r\n", "锦", "\0"])
async def test_a_target_is_encoded_and_breaks_no_line(sign: str) -> None:
    async with listening(reply(200, {})) as upstream, client_of() as client:
        request = HttpRequest("GET", parse_url(url_of(upstream, f"/a{sign}b?c={sign}")))
        (await client.send(request, SendState())).close()

    (asked,) = upstream.asked
    assert asked.line.startswith("GET /a%")
    assert [name for name, _ in asked.headers] == ["Host"]


async def test_an_answer_in_pieces_is_read_and_its_connection_kept() -> None:
    async with listening(in_pieces(HELLO, 3, 20, 43, 45)) as upstream, client_of() as client:
        assert [await body_of(client, upstream) for _ in range(3)] == [b"hello"] * 3

    assert upstream.connections == 1


async def test_a_smuggled_second_answer_is_nobodys() -> None:
    async def smuggle(exchange: Exchange) -> None:
        forged = head(200, "Content-Length: 6") + b"forged"
        await exchange.send(HELLO + forged)

    async with listening(smuggle, in_pieces(HELLO)) as upstream, client_of() as client:
        assert [await body_of(client, upstream) for _ in range(2)] == [b"hello"] * 2

    assert upstream.connections == 2


async def test_a_second_answer_that_comes_a_moment_later_is_nobodys() -> None:
    forged = head(200, "Content-Length: 6") + b"forged"

    async def answer_twice(exchange: Exchange) -> None:
        await exchange.send(HELLO, forged, pause_s=0.02)

    # Longer than usual: a busy machine may be late with what comes a moment later.
    async with listening(answer_twice) as upstream, client_of(rest_s=4 * REST_S) as client:
        for _ in range(12):
            assert await body_of(client, upstream) == b"hello"
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("rest_s", "connections"), [(60.0, 2), (0.0, 1)])
async def test_a_connection_rests_before_it_is_used_again(rest_s: float, connections: int) -> None:
    async with listening(reply(200, {})) as upstream, client_of(rest_s=rest_s) as client:
        assert [await body_of(client, upstream) for _ in range(2)] == [b"{}"] * 2

    assert upstream.connections == connections


async def test_connections_that_rest_are_kept_beside_those_that_are_used() -> None:
    async with (
        listening(reply(200, {})) as upstream,
        client_of(connections=1, rest_s=REST_S) as client,
    ):
        for _ in range(4):
            await body_of(client, upstream)
        opened = upstream.connections
        await asyncio.sleep(2 * REST_S)
        for _ in range(opened):
            await body_of(client, upstream)

        assert upstream.connections == opened


async def test_an_answer_before_the_request_was_read_ends_the_connection() -> None:
    """What is left of it would be read as the beginning of the next request."""
    connections = 0
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head(413, "Content-Length: 0"))
        await done.wait()
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024)
    url = parse_url(f"http://koi.example:{server.sockets[0].getsockname()[1]}/")
    async with client_of() as client:
        for _ in range(2):
            request = HttpRequest("POST", url, body=bytes(32 << 20))
            async with await client.send(request, SendState()) as response:
                assert response.status == 413
    done.set()
    server.close()
    await asyncio.sleep(0.05)

    assert connections == 2


async def test_a_body_is_not_read_faster_than_it_is_taken() -> None:
    size = 64 << 20
    sent = 0

    async def pour(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(head(200, f"Content-Length: {size}"))
        piece = bytes(64 << 10)
        with suppress(OSError):
            while sent < size:
                await exchange.send(piece)
                sent += len(piece)

    async with listening(pour) as upstream, client_of() as client:
        request = HttpRequest("GET", parse_url(url_of(upstream)))
        async with await client.send(request, SendState()) as response:
            while sent <= READ_BUFFER_BYTES:
                await asyncio.sleep(0.01)
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.2)
            in_flight, taken = sent, 0
            while piece := await response.read():
                taken += len(piece)

    assert taken == size
    assert in_flight < size // 2
    assert in_flight > READ_BUFFER_BYTES


async def test_a_request_whose_only_address_is_dead_was_not_sent() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        state = SendState()
        async with client_of() as client:
            with pytest.raises(ConnectError):
                await client.send(
                    HttpRequest("POST", parse_url(f"http://koi.example:{port}/")), state
                )

    assert state.stage is SendStage.CONNECTING


async def test_every_address_is_tried() -> None:
    dead = ["127.0.0.3", "127.0.0.2", "::1"]
    async with (
        listening(in_pieces(HELLO)) as upstream,
        client_of([*dead, "127.0.0.1"]) as client,
    ):
        assert await body_of(client, upstream) == b"hello"

    assert upstream.connections == 1


async def test_an_address_that_swallows_everything_holds_up_no_other() -> None:
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [filler, *(socket.socket() for _ in range(3))]
        for each in fillers:
            each.setblocking(False)
            each.connect_ex(("127.0.0.2", port))
        asked = Scripted([in_pieces(HELLO)], port=port)
        server = await asyncio.start_server(asked.serve, "127.0.0.1", port)
        async with client_of(["127.0.0.2", "127.0.0.1"]) as client:
            assert await body_of(client, asked) == b"hello"
        async with client_of(["127.0.0.2"], connect_s=0.1) as client:
            with pytest.raises(ConnectTimeout):
                await body_of(client, asked)
        server.close()
        await asyncio.sleep(0.05)
        for each in fillers:
            each.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_connection_that_dies_under_a_request_is_not_tried_again(method: str) -> None:
    async def die(exchange: Exchange) -> None:
        exchange.writer.close()

    async with listening(in_pieces(HELLO), die) as upstream, client_of() as client:
        await body_of(client, upstream)
        state = SendState()
        with pytest.raises(ReadError):
            await body_of(client, upstream, method, state)

    assert state.sent
    assert len(upstream.asked) == 2


async def test_a_cut_body_is_called_so() -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.send(head(200, "Content-Length: 9") + b"hello")
        exchange.writer.close()

    async with listening(cut) as upstream, client_of() as client:
        with pytest.raises(BodyTruncated, match="the body ended before its end"):
            await body_of(client, upstream)


async def test_the_end_of_the_connection_ends_a_body_without_a_length() -> None:
    async def closing(exchange: Exchange) -> None:
        await exchange.send(head(200, "Connection: close") + b"hello")
        exchange.writer.close()

    async with listening(closing) as upstream, client_of() as client:
        assert await body_of(client, upstream) == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_what_has_no_body_ends_with_its_head(status: int) -> None:
    async with listening(raw(status, b"")) as upstream, client_of() as client:
        assert [await body_of(client, upstream) for _ in range(2)] == [b""] * 2

    assert upstream.connections == 1


async def test_an_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    script = in_pieces(head(200, "Content-Length: 5"))
    async with listening(script) as upstream, client_of() as client:
        assert await body_of(client, upstream, "HEAD") == b""


async def test_slots_are_given_back_however_an_exchange_ends() -> None:
    async def reset(exchange: Exchange) -> None:
        exchange.reset()

    scripts = [reset, in_pieces(b"no http\r\n\r\n"), in_pieces(HELLO)]
    async with listening(*scripts) as upstream, client_of(connections=1, pool_s=5) as client:
        for _ in range(2):
            with suppress(Exception):
                await body_of(client, upstream)
        waiting = asyncio.create_task(body_of(client, upstream))
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        assert await body_of(client, upstream) == b"hello"


async def test_many_requests_share_few_connections_in_turn() -> None:
    async with listening(in_pieces(HELLO)) as upstream, client_of(connections=2) as client:
        bodies = await asyncio.gather(*(body_of(client, upstream) for _ in range(20)))

    assert bodies == [b"hello"] * 20
    assert upstream.connections == 2


async def test_closing_ends_what_runs() -> None:
    async def never(exchange: Exchange) -> None:
        await exchange.gone()

    async with listening(never) as upstream, client_of() as client:
        running = asyncio.create_task(body_of(client, upstream))
        while not upstream.asked:
            await asyncio.sleep(0.01)
        await client.close()
        with pytest.raises(ReadError):
            await running
