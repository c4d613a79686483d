"""Downloads the provider's images, from public addresses only and with a limit on their size."""

import asyncio
import re
from collections.abc import Iterable
from urllib.parse import urljoin

from app.adapters.egress.client import REQUEST_HEADERS, open_guarded_client
from app.adapters.egress.guard import EgressGuard, EgressPolicy
from app.adapters.http.client import HttpClient, HttpResponse
from app.adapters.http.connecting import Resolver, system_resolver
from app.adapters.http.decoding import ContentCodingError, ContentDecoder, DecodedBodyTooLarge
from app.adapters.http.errors import HttpError
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendState
from app.adapters.http.urls import HttpUrl
from app.adapters.images.link_expiry import expires_ms
from app.domain.media import FetchFailed, FetchRefused, FetchTruncated, ImageDraft

REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 3
MIN_BYTES_PER_S = 64 << 10
"""A download that is at least this fast may go on beyond its timeout."""
PLAIN_HTTP_URL = re.compile(r"http://([^/?#]*?)(?::80)?(?=[/?#]|\Z)", re.IGNORECASE)


class HttpImageFetcher:
    """Downloads an image from a link in a provider's answer.

    https and public addresses only, except for the hosts of `trusted` URLs (the provider's own,
    such as `http://127.0.0.1:9000/v1`). A link with http is tried with https first; plain http
    follows only with `plain`. A name is resolved once for each connection, which goes to the
    addresses that were checked. No cookies, and no credentials or proxies from the environment.
    """

    def __init__(
        self,
        trusted: Iterable[str] = (),
        *,
        max_bytes: int = 100 << 20,
        timeout_s: float = 30.0,
        plain: bool = False,
        resolver: Resolver = system_resolver,
        egress: EgressPolicy | None = None,
    ) -> None:
        """`timeout_s` bounds a whole download, redirects included; every `MIN_BYTES_PER_S` bytes
        that arrive extend it by a second. `egress` is for tests."""
        self._egress = egress or EgressPolicy()
        self._guard = EgressGuard(trusted, self._egress)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._plain = plain
        self._resolver = resolver
        self._client: HttpClient | None = None

    async def fetch(self, url: str, into: ImageDraft) -> bool:
        """Write the body behind a link into a draft. True when the host said where the body ends,
        False when only the end of the connection did, which may have cut the body short.

        Raises `FetchRefused`, `FetchFailed`, and `ImageStoreUnavailable` for the draft.
        """
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                return await self._follow(url, into, deadline)
        except TimeoutError:
            raise FetchFailed(f"the image did not arrive within {self._timeout_s:g} s") from None
        except HttpError as error:
            raise FetchFailed(f"the connection failed: {type(error).__name__}") from None

    def expires_ms(self, url: str) -> int | None:
        """When a signed link expires (Unix milliseconds); None when the link does not say."""
        return expires_ms(url)

    async def close(self) -> None:
        """Close all connections; running downloads fail."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _follow(self, link: str, into: ImageDraft, deadline: asyncio.Timeout) -> bool:
        for _ in range(MAX_REDIRECTS + 1):
            response, url = await self._request(link)
            async with response:
                if response.status not in REDIRECT_STATUSES:
                    return await self._read_image(response, into, deadline)
                link = _resolve_redirect(str(url), response.head.headers.get("location"))
        raise FetchFailed(f"the link redirects more than {MAX_REDIRECTS} times")

    async def _request(self, link: str) -> tuple[HttpResponse, HttpUrl]:
        """The answer to one request and its URL; a link with http is tried with https first."""
        plain = PLAIN_HTTP_URL.match(link)
        if plain is None or self._guard.trusts(link):
            return await self._get(link)
        try:
            answer, url = await self._get(f"https://{plain[1]}{link[plain.end() :]}")
        except HttpError:
            if not self._plain:
                raise
        else:
            if answer.status == 200 or not self._plain:
                return answer, url
            answer.close()
        return await self._get(link, plain=True)

    async def _get(self, link: str, *, plain: bool = False) -> tuple[HttpResponse, HttpUrl]:
        url = self._guard.check_link(link, plain=plain)
        if self._client is None:
            self._client = open_guarded_client(self._resolver, self._guard, self._egress.tls)
        return await self._client.send(HttpRequest("GET", url, REQUEST_HEADERS), SendState()), url

    async def _read_image(
        self, response: HttpResponse, into: ImageDraft, deadline: asyncio.Timeout
    ) -> bool:
        status, head = response.status, response.head
        if status != 200:
            raise FetchFailed(f"the image's host answered {status}", status=status)
        if (head.content_length or 0) > self._max_bytes:
            raise self._too_large(status)
        try:
            codings = head.headers.get("content-encoding", "")
            decoder = ContentDecoder(codings, max_bytes=self._max_bytes)
            await self._copy_body(response, decoder, into, deadline)
            decoder.finish()
        except DecodedBodyTooLarge:
            raise self._too_large(status) from None
        except ContentCodingError as error:
            raise FetchTruncated(f"{error}", status=status) from None
        return not head.is_open_ended or decoder.marks_end

    async def _copy_body(
        self,
        response: HttpResponse,
        decoder: ContentDecoder,
        into: ImageDraft,
        deadline: asyncio.Timeout,
    ) -> None:
        received, end = 0, deadline.when()
        while chunk := await response.read():
            received += len(chunk)
            for piece in decoder.feed(chunk):
                await into.write(piece)
            if end is not None and received > MIN_BYTES_PER_S:
                deadline.reschedule(end + received / MIN_BYTES_PER_S)

    def _too_large(self, status: int) -> FetchFailed:
        return FetchFailed(f"the image is larger than {self._max_bytes} bytes", status=status)


def _resolve_redirect(url: str, location: str | None) -> str:
    """RFC 9110, section 10.2.2. Works on the text, since a signed query must not be re-encoded."""
    if not location:
        raise FetchFailed("the link redirects to nowhere")
    try:
        return urljoin(url, location.strip())
    except ValueError:
        raise FetchRefused("the link redirects to no valid URL") from None
