"""httpx's transport interface over aiohttp's connections, with failures kept apart.

The stock httpx pool rescans every connection for each request and collapses at a few hundred in
flight (performance study, section 2; ecosystem study, section 4.1).
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

KEEPALIVE_S = 4.0
"""An idle connection older than this is never reused (reliability study, F6)."""
MOST_HEADERS = 128
LONGEST_HEADER = 8190
READ_AHEAD = 128 * 1024


class TlsFailed(httpx.ConnectError):
    """The TLS handshake failed: wrong certificate, wrong name, or no TLS at all."""


class MalformedResponse(httpx.RemoteProtocolError):
    """Bytes came back that are no HTTP, or a head beyond our limits."""


class Step(Enum):
    """How far a request got."""

    UNTOLD = auto()
    WAITING = auto()
    CONNECTING = auto()
    SENT = auto()


@dataclass(slots=True)
class Sending:
    """Where a request is; the caller passes it as the request extension `sending`."""

    step: Step = Step.UNTOLD
    reused: bool = False
    since: float = 0.0
    """When that step began, by the loop's clock."""

    def reach(self, step: Step) -> None:
        self.step, self.since = step, asyncio.get_running_loop().time()

    @property
    def sent(self) -> bool:
        """False is proof that nothing was sent. True only says that something may have been, as
        under a transport that tells nothing."""
        return self.step not in (Step.WAITING, Step.CONNECTING)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Connections to the provider: no redirects, cookies, decompression, proxies or environment.

    `connections` is how many may be open at once. `tls` replaces the default context (public
    certificate authorities, TLS 1.2 and up, verification on). The session opens with the first
    request, in the loop that runs it.

    Understands the request extensions `timeout` (httpx's, seconds) and `sending` (`Sending`).
    Raises httpx's exceptions, and for a TLS failure `TlsFailed`, for no HTTP `MalformedResponse`.
    """

    def __init__(
        self,
        connections: int = 100,
        *,
        keepalive_s: float = KEEPALIVE_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._connections = connections
        self._keepalive_s = keepalive_s
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        sending: Sending = request.extensions.get("sending") or Sending()
        sending.reach(Step.WAITING)
        _SENDING.set(sending)
        body = await request.aread()
        try:
            response = await self._send(request, body, sending)
        except (aiohttp.ClientError, OSError) as error:
            # The originals quote hosts and headers; none of them survives as context.
            failure = _before_head(error, sending.step)
        else:
            return httpx.Response(
                response.status, headers=list(response.raw_headers), stream=_Body(response)
            )
        raise failure

    async def _send(
        self, request: httpx.Request, body: bytes, sending: Sending
    ) -> aiohttp.ClientResponse:
        # Every stale connection found leaves the pool, so this ends.
        while True:
            try:
                return await self._open_session().request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=_text_pairs(request.headers),
                    data=body or None,
                    allow_redirects=False,
                    timeout=_timeout(request.extensions.get("timeout", {})),
                    trace_request_ctx=sending,
                )
            except _Stale:
                sending.reach(Step.WAITING)
                sending.reused = False

    async def aclose(self) -> None:
        """Close every connection; requests under way fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    keepalive_timeout=self._keepalive_s,
                    ssl=self._tls or _default_tls(),
                    resolver=aiohttp.ThreadedResolver(),
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                trust_env=False,
                read_bufsize=READ_AHEAD,
                max_line_size=LONGEST_HEADER,
                max_field_size=LONGEST_HEADER,
                max_headers=MOST_HEADERS,
                request_class=_Request,
                trace_configs=[_tracing()],
            )
        return self._session


class _Stale(aiohttp.ClientConnectionError):
    """A kept connection that spoke, or ended, while nothing was asked of it."""


class _Request(aiohttp.ClientRequest):
    """Marks the moment before the first byte, and never trusts a kept connection blindly.

    aiohttp would take whatever a server said on an idle connection (a late 408, a second answer)
    for the answer to the next request: another caller's picture, or a refusal of a POST that was
    accepted.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        sending = _SENDING.get()
        if sending.reused and _has_spoken(conn):
            raise _Stale
        sending.reach(Step.SENT)
        try:
            return await super().send(conn)
        except (TypeError, ValueError):
            # The head could not be written down at all, so that no byte of it left.
            sending.reach(Step.CONNECTING)
            raise


def _has_spoken(conn: Connection) -> bool:
    protocol, transport = conn.protocol, conn.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    # What the loop has not read yet still waits in the socket.
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(waiting.poll(0))


class _Body(httpx.AsyncByteStream):
    """A response's bytes as they come; closing early closes the connection."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            failure = _within_body(error)
        else:
            if chunk:
                return chunk
            raise StopAsyncIteration
        raise failure

    async def aclose(self) -> None:
        self._response.close()


def _default_tls() -> ssl.SSLContext:
    """httpx's own authorities, deaf to SSL_CERT_FILE and its kin."""
    context = httpx.create_ssl_context(trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _text_pairs(headers: httpx.Headers) -> list[tuple[str, str]]:
    """Raises `ValueError` for what is no header (RFC 9110, section 5.5): aiohttp would say so only
    when the request counts as sent."""
    pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers.raw]
    if any(sign in value for _, value in pairs for sign in "\r\n\0"):
        raise ValueError("a header holds a line break")
    return pairs


def _timeout(wanted: Mapping[str, float | None]) -> aiohttp.ClientTimeout:
    connect, pool = wanted.get("connect"), wanted.get("pool")
    whole = None if connect is None or pool is None else connect + pool
    return aiohttp.ClientTimeout(
        total=None, connect=whole, sock_connect=connect, sock_read=wanted.get("read")
    )


def _tracing() -> aiohttp.TraceConfig:
    """Hooks that tell waiting for a connection from making one, and a kept one from a new one."""

    async def connecting(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.reach(Step.CONNECTING)

    async def reusing(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        context.trace_request_ctx.reused = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_start.append(connecting)
    tracing.on_connection_reuseconn.append(reusing)
    return tracing


def _before_head(error: Exception, step: Step) -> httpx.TransportError:
    kind = type(error).__name__
    if isinstance(error, asyncio.TimeoutError):
        return _TIMEOUTS[step](kind)
    if step is not Step.SENT:
        return TlsFailed(kind) if isinstance(error, _TLS_ERRORS) else httpx.ConnectError(kind)
    if isinstance(error, aiohttp.ClientResponseError):
        return MalformedResponse(kind)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return httpx.RemoteProtocolError("the server closed the connection without an answer")
    if isinstance(error, aiohttp.ClientConnectionResetError | BrokenPipeError):
        return httpx.WriteError(kind)
    return httpx.ReadError(kind)


def _within_body(error: Exception) -> httpx.TransportError:
    kind = type(error).__name__
    if isinstance(error, asyncio.TimeoutError):
        return httpx.ReadTimeout(kind)
    if isinstance(error, aiohttp.ClientPayloadError):
        return httpx.RemoteProtocolError("the body ended before its end")
    return httpx.ReadError(kind)


_SENDING: ContextVar[Sending] = ContextVar("sending")
_TLS_ERRORS = (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError)
_TIMEOUTS: Mapping[Step, type[httpx.TransportError]] = {
    Step.WAITING: httpx.PoolTimeout,
    Step.CONNECTING: httpx.ConnectTimeout,
    Step.SENT: httpx.ReadTimeout,
}
