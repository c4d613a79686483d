"""Connections for downloading images: only to checked addresses, without cookies or credentials."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from app.adapters.http.tls import public_tls_context
from app.adapters.images.egress_guard import EgressGuard

MAX_CONNECTIONS = 64
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
READ_BUFFER_BYTES = 64 << 10
REQUEST_HEADERS = {
    "Accept": "image/*,*/*;q=0.8",
    "Accept-Encoding": "identity",
    "User-Agent": "koi",
}

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> IP addresses as text; `OSError` when the name is unknown."""


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the operating system."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def open_guarded_session(
    resolver: Resolver, guard: EgressGuard, tls: ssl.SSLContext | None
) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=MAX_CONNECTIONS,
        resolver=_GuardedResolver(resolver, guard),
        ssl=tls or public_tls_context(),
        use_dns_cache=False,
    )
    return aiohttp.ClientSession(
        connector=connector,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=REQUEST_HEADERS,
        read_bufsize=READ_BUFFER_BYTES,
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
        ),
    )


class _GuardedResolver(AbstractResolver):
    """Checks addresses inside the client's resolver: the client connects to these very addresses,
    and no second lookup can return others."""

    def __init__(self, resolver: Resolver, guard: EgressGuard) -> None:
        self._resolver = resolver
        self._guard = guard

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002  both are used
    ) -> list[ResolveResult]:
        addresses = await self._resolver(host, port)
        if not addresses:
            raise OSError("the name has no address")
        self._guard.check_addresses(host, addresses)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ip_address(address).version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """There is nothing to close."""
