"""From a name to an open socket: every address is tried, the next one a little later."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

from app.adapters.http.connection import HttpConnection
from app.adapters.http.errors import ConnectError, TlsHandshakeError
from app.adapters.http.urls import Origin, ip_literal

STAGGER_S = 0.25
"""How long one address may take until the next is tried beside it (RFC 8305, section 8)."""
NAME_CACHE_S = 10.0
MAX_CACHED_NAMES = 256

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> IP addresses as text; `OSError` when the name is unknown."""


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the operating system, in a thread."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("no such name") from None
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class CachingResolver:
    """Asks for a name once in `NAME_CACHE_S`, also when a thousand connections open at once."""

    def __init__(self, resolver: Resolver = system_resolver) -> None:
        self._resolver = resolver
        self._lookups: dict[tuple[str, int], tuple[float, asyncio.Task[Sequence[str]]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        literal = ip_literal(host)
        if literal is not None:
            return [literal]
        now = asyncio.get_running_loop().time()
        until, lookup = self._lookups.get((host, port), (0.0, None))
        if lookup is None or now >= until or _has_failed(lookup):
            if len(self._lookups) >= MAX_CACHED_NAMES:
                self._lookups.clear()
            lookup = asyncio.ensure_future(self._resolve(host, port))
            lookup.add_done_callback(_has_failed)  # nobody may be left to hear of a failure
            self._lookups[host, port] = (now + NAME_CACHE_S, lookup)
        return await asyncio.shield(lookup)

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        return await self._resolver(host, port)


def _has_failed(lookup: "asyncio.Task[Sequence[str]]") -> bool:
    return lookup.done() and (lookup.cancelled() or lookup.exception() is not None)


async def open_connection(
    origin: Origin,
    addresses: Sequence[str],
    tls: ssl.SSLContext | None,
    make: Callable[[], HttpConnection],
) -> HttpConnection:
    """A connection to one of the addresses. With `tls` the certificate must be for the origin's
    name, whatever the address. Raises `ConnectError`; `TlsHandshakeError` when an address failed in
    that, and no other could be reached."""
    name = None if tls is None else origin.host.rstrip(".")  # certificates have no dot at the end
    connect = partial(
        asyncio.get_running_loop().create_connection, make, ssl=tls, server_hostname=name
    )
    left = list(addresses)
    failure = ConnectError("the name has no address")
    connection: HttpConnection
    while left:
        tried, left = left, []
        try:
            if len(tried) == 1:
                # The loop's own way to one address costs a third of a socket made here.
                _, connection = await connect(tried[0], origin.port, flags=socket.AI_NUMERICHOST)
            else:
                sock, address = await _open_socket(tried, origin.port)
                left = [other for other in tried if other != address]
                _, connection = await connect(sock=sock)
        except ssl.SSLError as error:
            failure = TlsHandshakeError(type(error).__name__)
        except OSError as error:
            if left or not isinstance(failure, TlsHandshakeError):
                failure = ConnectError(type(error).__name__)
        else:
            return connection
    raise failure


async def _open_socket(addresses: Sequence[str], port: int) -> tuple[socket.socket, str]:
    """The first socket that connects, and its address. Raises `OSError` when none does."""
    attempts: dict[asyncio.Task[socket.socket], str] = {}
    try:
        for index, address in enumerate(addresses):
            attempts[asyncio.ensure_future(_connect(address, port))] = address
            last = index + 1 == len(addresses)
            winner = await _first_success(attempts, None if last else STAGGER_S)
            if winner is not None:
                return winner.result(), attempts.pop(winner)
    finally:
        for attempt in attempts:
            attempt.cancel()
            attempt.add_done_callback(_close_unused)
    raise OSError("no address can be reached")


async def _first_success(
    attempts: "Collection[asyncio.Task[socket.socket]]", within_s: float | None
) -> "asyncio.Task[socket.socket] | None":
    """The first attempt that connects; None when all have failed, or the time is over."""
    running = {attempt for attempt in attempts if not attempt.done()}
    while running:
        done, running = await asyncio.wait(
            running, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
        )
        winner = next((attempt for attempt in done if attempt.exception() is None), None)
        if winner is not None or not done:
            return winner
    return None


def _close_unused(attempt: "asyncio.Task[socket.socket]") -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address, port))
    except BaseException:
        sock.close()
        raise
    return sock
