"""Fetches the provider's pictures, from public places only and never more than is sane."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from app.adapters.images.expiry import expires_ms
from app.adapters.images.guard import Egress, EgressGuard
from app.domain.media import FetchFailed, FetchRefused, inspect

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 3
MOST_CONNECTIONS = 64
CONNECT_TIMEOUT_S = 10.0
OUTGOING = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "koi"}

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) -> IP addresses as text; `OSError` when the name is unknown."""


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the operating system."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class ImageFetcher:
    """Brings an image's bytes from a link a provider gave.

    https and public addresses only, except for the hosts of `trusted` URLs (the provider's own,
    such as `http://127.0.0.1:9000/v1`). A name is resolved once per connection, and the
    connection goes to the addresses that were checked. No cookies, credentials or proxies from
    the environment.
    """

    def __init__(
        self,
        trusted: Iterable[str] = (),
        *,
        max_bytes: int = 20 * 1024 * 1024,
        timeout_s: float = 30.0,
        resolver: Resolver = system_resolver,
        egress: Egress | None = None,
    ) -> None:
        """`timeout_s` bounds a whole fetch, redirects included; `egress` is for tests."""
        self._egress = egress or Egress()
        self._guard = EgressGuard(trusted, self._egress)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str) -> bytes:
        """The bytes behind a link, known to be an image; `FetchRefused` or `FetchFailed`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                body = await self._follow(url)
        except TimeoutError:
            raise FetchFailed(f"the image did not arrive within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            # Their texts quote the link, which is a secret: only the kind of failure passes.
            raise FetchFailed(f"the connection failed: {type(error).__name__}") from None
        if inspect(body) is None:
            raise FetchFailed("what came is not an image")
        return body

    def expires_ms(self, url: str) -> int | None:
        """When a signed link itself ends (Unix milliseconds); None when it does not say."""
        return expires_ms(url)

    async def close(self) -> None:
        """Close all connections; fetches still under way fail."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _follow(self, link: str) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            url = self._guard.admit(link)
            async with self._open_session().get(url, allow_redirects=False) as response:
                if response.status not in REDIRECTS:
                    return await self._read(response)
                link = _joined(url, response.headers.get("Location"))
        raise FetchFailed(f"the link redirects more than {MOST_REDIRECTS} times")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        status = response.status
        if status != 200:
            raise FetchFailed(f"the image's host answered {status}", status=status)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise FetchFailed("the image came in a content encoding", status=status)
        too_big = FetchFailed(f"the image is larger than {self._max_bytes} bytes", status=status)
        if (response.content_length or 0) > self._max_bytes:
            raise too_big
        chunks, received = [], 0
        async for chunk in response.content.iter_any():
            received += len(chunk)
            if received > self._max_bytes:
                raise too_big
            chunks.append(chunk)
        return b"".join(chunks)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=MOST_CONNECTIONS,
                resolver=_GuardedResolver(self._resolver, self._guard),
                ssl=self._egress.tls or _public_authorities(),
                use_dns_cache=False,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=OUTGOING,
                read_bufsize=256 * 1024,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            )
        return self._session


def _public_authorities() -> ssl.SSLContext:
    """Those the provider's own transport believes: the same on every machine, and deaf to
    SSL_CERT_FILE and its kin (reliability study, S3)."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _GuardedResolver(AbstractResolver):
    """Sits where the client dials, so that what is checked is what is connected to."""

    def __init__(self, resolver: Resolver, guard: EgressGuard) -> None:
        self._resolver = resolver
        self._guard = guard

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002  both are welcome
    ) -> list[ResolveResult]:
        addresses = await self._resolver(host, port)
        if not addresses:
            raise OSError("the name has no address")
        self._guard.admit_addresses(host, addresses)
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
        """Nothing is held."""


def _joined(url: URL, location: str | None) -> str:
    if not location:
        raise FetchFailed("the link redirects to nowhere")
    try:
        return str(url.join(URL(location, encoded=True)))
    except ValueError:
        raise FetchRefused("the link redirects to no valid URL") from None
