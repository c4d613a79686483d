"""Posts messages to the receivers of webhooks and notices."""

import asyncio
from collections.abc import Iterable, Mapping

from app.adapters.egress.client import open_guarded_client
from app.adapters.egress.guard import EgressGuard, EgressPolicy
from app.adapters.http.client import HttpClient
from app.adapters.http.connecting import Resolver, system_resolver
from app.adapters.http.errors import HttpError
from app.adapters.http.messages import HttpRequest, SentHeaders
from app.adapters.http.send_state import SendState
from app.domain.media import FetchRefused
from app.domain.webhooks import ReceiverAnswer, ReceiverUnreachable

MAX_ANSWER_BYTES = 4096
"""How much of an answer is read; the connection is closed where there is more."""


class HttpWebhookPoster:
    """Posts to https URLs at public addresses, and to trusted ones at any address.

    `hosts` may be private and use http. A name is resolved once for each connection, which goes to
    the addresses that were checked.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        *,
        timeout_s: float = 10.0,
        resolver: Resolver = system_resolver,
        egress: EgressPolicy | None = None,
    ) -> None:
        self._egress = egress or EgressPolicy()
        self._guard = EgressGuard([f"http://{host}" for host in hosts], self._egress)
        self._timeout_s, self._resolver = timeout_s, resolver
        self._client: HttpClient | None = None

    def check_url(self, url: str) -> None:
        try:
            self._guard.check_link(url)
        except FetchRefused as error:
            raise ReceiverUnreachable(error.reason, refused=True) from None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> ReceiverAnswer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(url, headers, body)
        except TimeoutError:
            raise ReceiverUnreachable(f"no answer within {self._timeout_s:g} s") from None
        except FetchRefused as error:
            raise ReceiverUnreachable(error.reason, refused=True) from None
        except HttpError as error:
            reason = f"the connection failed: {type(error).__name__}"
            raise ReceiverUnreachable(reason) from None

    async def close(self) -> None:
        """Close all connections; running posts fail."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> ReceiverAnswer:
        target = self._guard.check_link(url)
        if self._client is None:
            self._client = open_guarded_client(self._resolver, self._guard, self._egress.tls)
        sent = SentHeaders(("User-Agent", "koi"), *headers.items())
        async with await self._client.send(
            HttpRequest("POST", target, sent, body), SendState()
        ) as response:
            return ReceiverAnswer(response.status, await response.read())
