"""Requests to the provider: one at a time, never faster than its pace, each sent once."""

import asyncio
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from app.adapters.http.messages import HttpRequest, SentHeaders
from app.adapters.http.urls import HttpUrl, parse_url
from app.adapters.upstream.exchange import HttpExchange
from app.adapters.upstream.transport import open_transport
from app.adapters.upstream.wire import ProviderReply
from app.domain.upstream_ids import quote_path_segment
from app.probe.questions import Body

READ_TIMEOUT_S = 20.0
CONNECT_TIMEOUT_S = 10.0
POLL_PATHS = ("tasks/{}", "images/generations/{}", "images/{}")
"""Where tasks are read: as documented, then as compatible providers have it."""


@dataclass(frozen=True, slots=True)
class ProviderAccess:
    """The provider and our key. `pause_s`: the least time between two requests; `timeout_s`: for a
    generation; `poll_s`: between two polls."""

    base_url: str
    key: str
    timeout_s: float
    poll_s: float
    pause_s: float

    def __repr__(self) -> str:
        return "ProviderAccess()"

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).hostname or ""


class ProviderCalls:
    """The requests of a probe. All methods raise `UpstreamError` when no whole answer came."""

    def __init__(self, access: ProviderAccess) -> None:
        self.access = access
        self._site = access.base_url.rstrip("/") + "/"
        self._transport = open_transport(2)
        self._exchange = HttpExchange(self._transport, CONNECT_TIMEOUT_S, lambda _event: None)
        self._next_s = 0.0

    async def close(self) -> None:
        await self._transport.close()

    async def get(self, path: str, *, auth: str = "bearer") -> ProviderReply:
        """`path` below the base URL; from the root of the host when it begins with a slash."""
        request = HttpRequest("GET", self._url(path), self._headers(auth))
        return await self._send(request, READ_TIMEOUT_S)

    async def poll(self, task_id: str, pattern: str) -> ProviderReply:
        return await self.get(pattern.format(quote_path_segment(task_id)))

    async def post(
        self,
        body: Body | bytes,
        *,
        auth: str = "bearer",
        idempotency_key: str | None = None,
        hang_up_s: float | None = None,
    ) -> ProviderReply:
        """One generation. With `hang_up_s` the connection is closed after so long, and
        `TimeoutError` is raised."""
        headers = self._headers(auth).with_field("content-type", "application/json")
        if idempotency_key is not None:
            headers = headers.with_field("idempotency-key", idempotency_key)
        content = body if isinstance(body, bytes) else orjson.dumps(dict(body))
        request = HttpRequest("POST", self._url("images/generations"), headers, content)
        return await self._send(request, self.access.timeout_s, hang_up_s)

    async def _send(
        self, request: HttpRequest, within_s: float, hang_up_s: float | None = None
    ) -> ProviderReply:
        wait_s = self._next_s - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        self._next_s = time.monotonic() + self.access.pause_s
        async with asyncio.timeout(hang_up_s):
            return await self._exchange(request, within_s)

    def _url(self, path: str) -> HttpUrl:
        if path.startswith("/"):
            parts = urlsplit(self._site)
            return parse_url(f"{parts.scheme}://{parts.netloc}{path}")
        return parse_url(self._site + path)

    def _headers(self, auth: str) -> SentHeaders:
        shared = (("accept", "application/json"), ("user-agent", "koi-probe"))
        named = {
            "bearer": (("authorization", f"Bearer {self.access.key}"),),
            "x-api-key": (("x-api-key", self.access.key),),
            "wrong": (("authorization", "Bearer sk-koi-probe-wrong-key"),),
            "none": (),
        }
        return SentHeaders(*named[auth], *shared)
