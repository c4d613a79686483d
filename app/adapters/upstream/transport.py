"""httpx's transport interface over aiohttp's connections, with kinds of failures kept apart.

httpx's own pool scans every connection for each request and collapses at a few hundred requests in
flight (decision 8).
"""

import asyncio
import select
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum, auto
from types import SimpleNamespace

import aiohttp
import httpx
from aiohttp.connector import Connection
from yarl import URL

from app.adapters.http.tls import public_tls_context

MAX_IDLE_S = 4.0
"""A connection that was idle longer is not reused: the server may be closing it at this moment,
and then nobody would know whether it received the request."""
MAX_HEADERS = 128
MAX_HEADER_BYTES = 8190
READ_BUFFER_BYTES = 128 * 1024


class TlsHandshakeError(httpx.ConnectError):
    """The TLS handshake failed: wrong certificate, wrong name, or no TLS at all."""


class MalformedResponse(httpx.RemoteProtocolError):
    """The reply is no HTTP, or its head is larger than our limits."""


class SendStage(Enum):
    """How far a request got."""

    UNREPORTED = auto()
    WAITING = auto()
    CONNECTING = auto()
    SENT = auto()


@dataclass(slots=True)
class SendState:
    """Where a request is; the caller passes it as the request extension `sending`."""

    stage: SendStage = SendStage.UNREPORTED
    reused: bool = False
    since: float = 0.0
    """When this stage began, by the event loop's clock."""

    def enter(self, stage: SendStage) -> None:
        self.stage, self.since = stage, asyncio.get_running_loop().time()

    @property
    def sent(self) -> bool:
        """False proves that nothing was sent. True only means that something may have been sent,
        also when a transport does not report stages."""
        return self.stage not in (SendStage.WAITING, SendStage.CONNECTING)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Connections to the provider: no redirects, cookies, decompression, proxies or environment.

    `connections` is how many may be open at once. `tls` replaces `public_tls_context`. The session
    opens with the first request, in the event loop that runs it.

    Understands the request extensions `timeout` (httpx's, seconds) and `sending` (`SendState`).
    Raises httpx's exceptions: `TlsHandshakeError` when TLS fails, `MalformedResponse` for bytes
    that are no HTTP.
    """

    def __init__(
        self,
        connections: int = 100,
        *,
        keepalive_s: float = MAX_IDLE_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connections = connections
        self._keepalive_s = keepalive_s
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        send_state: SendState = request.extensions.get("sending") or SendState()
        send_state.enter(SendStage.WAITING)
        _SEND_STATE.set(send_state)
        body = await request.aread()
        try:
            response = await self._send(request, body, send_state)
        except (aiohttp.ClientError, OSError) as error:
            # Do not chain the original error: its text quotes hosts and headers.
            failure = _map_head_error(error, send_state.stage)
        else:
            return httpx.Response(
                response.status,
                headers=list(response.raw_headers),
                stream=_ResponseStream(response),
            )
        raise failure

    async def _send(
        self, request: httpx.Request, body: bytes, send_state: SendState
    ) -> aiohttp.ClientResponse:
        # Each stale connection leaves the pool, so this loop ends.
        while True:
            try:
                return await self._open_session().request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=_checked_header_pairs(request.headers),
                    data=body or None,
                    allow_redirects=False,
                    timeout=_aiohttp_timeout(request.extensions.get("timeout", {})),
                    trace_request_ctx=send_state,
                )
            except _StaleConnection:
                send_state.enter(SendStage.WAITING)
                send_state.reused = False

    async def aclose(self) -> None:
        """Close every connection; running requests fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    keepalive_timeout=self._keepalive_s,
                    ssl=self._tls or public_tls_context(),
                    resolver=aiohttp.ThreadedResolver(),
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                trust_env=False,
                read_bufsize=READ_BUFFER_BYTES,
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
                max_headers=MAX_HEADERS,
                request_class=_Request,
                trace_configs=[_trace_config()],
            )
        return self._session


class _StaleConnection(aiohttp.ClientConnectionError):
    """A kept connection on which the server sent data, or closed it, while it was idle."""


class _Request(aiohttp.ClientRequest):
    """Notes the moment before the first byte is sent, and checks kept connections before use.

    aiohttp would take what a server sent on an idle connection (a late 408, a second answer) for
    the answer to the next request: another caller's image, or a refusal of a POST that the server
    then accepts.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        send_state = _SEND_STATE.get()
        if send_state.reused and _has_unsolicited_data(conn):
            raise _StaleConnection
        send_state.enter(SendStage.SENT)
        try:
            return await super().send(conn)
        except (TypeError, ValueError):
            # The head could not be serialised, so no byte was sent.
            send_state.enter(SendStage.CONNECTING)
            raise


def _has_unsolicited_data(conn: Connection) -> bool:
    protocol, transport = conn.protocol, conn.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    # Data that the event loop has not read yet is still in the socket.
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(waiting.poll(0))


class _ResponseStream(httpx.AsyncByteStream):
    """A response's bytes as they come; closing early closes the connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def __aiter__(self) -> "_ResponseStream":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            failure = _map_body_error(error)
        else:
            if chunk:
                return chunk
            raise StopAsyncIteration
        raise failure

    async def aclose(self) -> None:
        self._response.close()


def _checked_header_pairs(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Raises `ValueError` for an invalid header (RFC 9110, section 5.5): aiohttp raises only after
    the request counts as sent."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw]
    if any(sign in value for _, value in pairs for sign in "\r\n\0"):
        raise ValueError("a header holds a line break")
    return pairs


def _aiohttp_timeout(wanted: Mapping[str, float | None]) -> aiohttp.ClientTimeout:
    connect, pool = wanted.get("connect"), wanted.get("pool")
    whole = None if connect is None or pool is None else connect + pool
    return aiohttp.ClientTimeout(
        total=None, connect=whole, sock_connect=connect, sock_read=wanted.get("read")
    )


def _trace_config() -> aiohttp.TraceConfig:
    """Hooks that note when a connection is being opened, and when a kept one is reused."""

    async def connecting(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.enter(SendStage.CONNECTING)

    async def reusing(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.reused = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(connecting)
    tracing.on_connection_reuseconn.append(reusing)
    return tracing


def _map_head_error(error: Exception, stage: SendStage) -> httpx.TransportError:
    kind = type(error).__name__
    if isinstance(error, asyncio.TimeoutError):
        return _TIMEOUTS[stage](kind)
    if stage is not SendStage.SENT:
        return (
            TlsHandshakeError(kind) if isinstance(error, _TLS_ERRORS) else httpx.ConnectError(kind)
        )
    if isinstance(error, aiohttp.ClientResponseError):
        return MalformedResponse(kind)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return httpx.RemoteProtocolError("the server closed the connection without an answer")
    if isinstance(error, aiohttp.ClientConnectionResetError | BrokenPipeError):
        return httpx.WriteError(kind)
    return httpx.ReadError(kind)


def _map_body_error(error: Exception) -> httpx.TransportError:
    kind = type(error).__name__
    if isinstance(error, asyncio.TimeoutError):
        return httpx.ReadTimeout(kind)
    if isinstance(error, aiohttp.ClientPayloadError):
        return httpx.RemoteProtocolError("the body ended before its end")
    return httpx.ReadError(kind)


_SEND_STATE: ContextVar[SendState] = ContextVar("sending")
_TLS_ERRORS = (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError)
_TIMEOUTS: Mapping[SendStage, type[httpx.TransportError]] = {
    SendStage.WAITING: httpx.PoolTimeout,
    SendStage.CONNECTING: httpx.ConnectTimeout,
    SendStage.SENT: httpx.ReadTimeout,
}
