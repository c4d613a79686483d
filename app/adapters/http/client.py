"""A small HTTP/1.1 client over kept connections, for requests that may cost money.

It does nothing unasked: no redirects, cookies, decompression, proxies, environment, and no second
attempt once anything was written. Decision 31 says why it is our own.
"""

import asyncio
import ssl
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter

from app.adapters.http.connecting import Resolver, open_connection
from app.adapters.http.connection import HttpConnection
from app.adapters.http.errors import ConnectError, ConnectTimeout, PoolTimeout
from app.adapters.http.messages import HttpRequest, ResponseHead
from app.adapters.http.send_state import SendStage, SendState
from app.adapters.http.urls import Origin


@dataclass(frozen=True, slots=True)
class HttpTimeouts:
    """Seconds for each step; None for no limit. `read_s` is how long the server may be silent."""

    pool_s: float | None = None
    connect_s: float | None = None
    read_s: float | None = None


NO_TIMEOUTS = HttpTimeouts()
REST_S = 0.1
"""For how long a connection is not used again after an answer."""
IDLE_SHARE = 4
"""How many connections may be kept for each that may be in use: those that rest come on top."""
CLOSE_TURNS = 100
"""For how many turns of the event loop `close` waits until all connections are really closed."""


class HttpClient:
    """At most `connections` exchanges at once; the others wait, first come, first served.

    A connection that was idle for `keepalive_s` is not reused: the server may be closing it at this
    moment, and then nobody would know whether it received the request. Nor is one in the first
    `rest_s` after an answer: a server that answers twice, as some do after a time limit of their
    own, would give the second answer to the next request. `resolve` gives the addresses to connect
    to; what it raises, `send` raises. `tls` makes the context for https, once.
    """

    def __init__(
        self,
        connections: int,
        *,
        keepalive_s: float,
        resolve: Resolver,
        tls: Callable[[], ssl.SSLContext],
        timeouts: HttpTimeouts = NO_TIMEOUTS,
        rest_s: float = REST_S,
    ) -> None:
        self._slots = asyncio.Semaphore(connections)
        self._max_idle = IDLE_SHARE * connections
        self._keepalive_s, self._rest_s = keepalive_s, rest_s
        self._resolve = resolve
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._timeouts = timeouts
        self._idle: dict[Origin, list[HttpConnection]] = {}
        self._open: set[HttpConnection] = set()
        self._forget = self._open.discard
        self._sweeper: asyncio.TimerHandle | None = None

    async def send(self, request: HttpRequest, send_state: SendState) -> "HttpResponse":
        """Send a request once and return its answer as soon as the head is there.

        Read it to its end or close it: until then it has its connection. `send_state` tells how far
        the request got. Raises `HttpError`; `ValueError`, before anything is sent, for a request
        that cannot be written.
        """
        send_state.enter(SendStage.WAITING)
        encoded = request.encode()
        await self._take_slot()
        connection = None
        try:
            connection = await self._get_connection(request.url.origin, send_state)
            send_state.enter(SendStage.SENT)
            connection.begin(encoded, bodiless=request.method == "HEAD")
            del encoded  # not to be kept for as long as the server takes
            if not isinstance(request.body, bytes):
                await connection.send_body(request.body)
            head = await connection.read_head(self._timeouts.read_s)
        except BaseException:
            self._slots.release()
            if connection is not None:
                connection.abort()
            raise
        release = partial(self._release, request.url.origin, connection)
        return HttpResponse(head, connection, self._timeouts.read_s, release)

    async def close(self) -> None:
        """Close every connection; running exchanges fail."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._idle.clear()
        for connection in list(self._open):
            connection.abort()
        for _ in range(CLOSE_TURNS):
            if not self._open:
                break
            await asyncio.sleep(0)

    async def _take_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        try:
            async with asyncio.timeout(self._timeouts.pool_s):
                await self._slots.acquire()
        except TimeoutError:
            raise PoolTimeout("no connection became free") from None

    async def _get_connection(self, origin: Origin, send_state: SendState) -> HttpConnection:
        kept = self._take_idle(origin)
        if kept is not None:
            return kept
        send_state.enter(SendStage.CONNECTING)
        if self._timeouts.connect_s is None:
            return await self._connect(origin)
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                return await self._connect(origin)
        except TimeoutError:
            raise ConnectTimeout("no connection was open in time") from None

    async def _connect(self, origin: Origin) -> HttpConnection:
        try:
            addresses = await self._resolve(origin.host, origin.port)
        except OSError as error:
            raise ConnectError(type(error).__name__) from None
        if self._tls is None and origin.is_tls:
            self._tls = self._make_tls()
        tls = self._tls if origin.is_tls else None
        connection = await open_connection(
            origin, addresses, tls, lambda: HttpConnection(self._forget)
        )
        if not connection.is_open:
            raise ConnectError("the connection was closed as soon as it was open")
        self._open.add(connection)
        return connection

    def _take_idle(self, origin: Origin) -> HttpConnection | None:
        """Of the rested connections the one that was used last. Stale ones are closed on the way.
        The list is in the order of their answers."""
        idle = self._idle.get(origin)
        if not idle:
            return None
        now = time.monotonic()
        rested = bisect_right(idle, now - self._rest_s, key=attrgetter("idle_since"))
        for at in reversed(range(rested)):
            connection = idle.pop(at)
            if connection.idle_since > now - self._keepalive_s and connection.is_silent:
                return connection
            connection.abort()
        return None

    def _release(self, origin: Origin, connection: HttpConnection) -> None:
        """Take a connection back whose answer was read, or given up."""
        self._slots.release()
        if not connection.end():
            return
        idle = self._idle.get(origin)
        if idle is None:
            idle = self._idle[origin] = []
        idle.append(connection)
        if len(idle) > self._max_idle:
            idle.pop(0).abort()
        if self._sweeper is None:
            self._start_sweeper()

    def _start_sweeper(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(self._keepalive_s, self._close_stale)

    def _close_stale(self) -> None:
        oldest = time.monotonic() - self._keepalive_s
        for origin, idle in list(self._idle.items()):
            kept = [connection for connection in idle if connection.idle_since > oldest]
            for connection in idle:
                if connection.idle_since <= oldest:
                    connection.abort()
            if kept:
                idle[:] = kept
            else:
                del self._idle[origin]
        self._sweeper = None
        if self._idle:
            self._start_sweeper()


class HttpResponse:
    """An answer whose body is still to be read; an async context manager that closes it."""

    def __init__(
        self,
        head: ResponseHead,
        connection: HttpConnection,
        read_s: float | None,
        release: Callable[[], None],
    ) -> None:
        self.head = head
        self._connection = connection
        self._read_s = read_s
        self._release: Callable[[], None] | None = release

    @property
    def status(self) -> int:
        return self.head.status

    async def read(self) -> bytes:
        """The next bytes of the body, as they came; empty at its end. Raises `HttpError`."""
        if self._release is None:
            return b""
        piece = await self._connection.read_piece(self._read_s)
        if not piece:
            self.close()
        return piece

    def close(self) -> None:
        """Let go of the connection; it is closed unless the whole answer has come."""
        if self._release is not None:
            release, self._release = self._release, None
            release()

    async def __aenter__(self) -> "HttpResponse":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
