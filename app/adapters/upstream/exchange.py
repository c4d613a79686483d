"""One request, one reply, one deadline, one proof."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress

import httpx
import structlog

from app.adapters.http.decoding import BodyDamaged, ContentCodingError, Decoder
from app.adapters.upstream.deadline import deadline
from app.adapters.upstream.faults import broken, decided, unforeseen
from app.adapters.upstream.provider_json import BEGINS
from app.adapters.upstream.transport import Sending
from app.adapters.upstream.wire import Reply
from app.domain.upstream_ids import CALL_ID

MOST_BYTES = 64 * 1024 * 1024
MOST_ERROR_BYTES = 1024 * 1024
LONGEST_LEAD = 64 * 1024
"""White space before JSON, sent to keep a connection alive."""
REFUSAL_S = 5.0
"""How long the body of a refusal is waited for: its status has said what matters."""

Observe = Callable[[str], None]
"""Told, once each time: `encoded_answer`, `lenient_json`, `reattempt`, `silent_moderation`,
`unknown_status`, `wrong_content_type`."""


class Courier:
    """Takes a request to the provider and brings back its reply in full.

    `connect_s` bounds waiting for a connection and making one, in seconds each.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, connect_s: float, observe: Observe
    ) -> None:
        self._transport, self._connect_s, self._observe = transport, connect_s, observe
        self._log = structlog.get_logger()

    async def __call__(self, request: httpx.Request, within_s: float) -> Reply:
        """Raises `UpstreamError` for an exchange that failed, whatever failed in it. A refusal or
        redirect whose body broke off is a reply without one: its status stands."""
        sending = Sending()
        request.extensions = {"sending": sending}
        response = None
        try:
            async with deadline(sending, within_s, self._connect_s):
                response = await self._transport.handle_async_request(request)
                return await self._receive(response)
        except (TimeoutError, httpx.TransportError) as error:
            # The original holds the request, and with it the upstream key.
            failure = broken(error, sent=sending.sent, answered=response is not None)
        except Exception as error:  # noqa: BLE001  a job must end, with the proof there is
            self._log.error("upstream_unforeseen", error=type(error).__name__)
            failure = unforeseen(sent=sending.sent)
        finally:
            if response is not None:
                await response.aclose()
        if response is None:
            raise failure
        if decided(response.status_code):
            return Reply(response.status_code, _named(response), None)
        failure.request_id = request_id(response.headers)
        raise failure

    async def _receive(self, response: httpx.Response) -> Reply:
        status = response.status_code
        headers = _named(response)
        open_ended = "content-length" not in headers and "transfer-encoding" not in headers
        body = None
        if not decided(status):
            body = await self._body(response, MOST_BYTES if status < 300 else MOST_ERROR_BYTES)
        elif status >= 400:
            async with asyncio.timeout(REFUSAL_S):
                body = await self._body(response, MOST_ERROR_BYTES)
        return Reply(status, headers, body, open_ended)

    async def _body(self, response: httpx.Response, cap: int) -> bytearray | None:
        """The decoded body, None when that is impossible or more than `cap`."""
        announced = response.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > cap:
            return None
        try:
            decoder = Decoder(response.headers.get("content-encoding", ""), max_bytes=cap)
            if not decoder.plain:
                self._observe("encoded_answer")
            return await _decoded(response, decoder)
        except ContentCodingError:
            return None


def _named(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


async def _decoded(response: httpx.Response, decoder: Decoder) -> bytearray | None:
    body = bytearray()
    hopeful = False
    async for chunk in response.aiter_raw():
        for piece in decoder.feed(chunk):
            body += piece
        if not hopeful and len(body) > LONGEST_LEAD:
            if BEGINS.match(body) is None:
                return None  # a flood of something else
            hopeful = True
    # Without its trailer it may be whole all the same: that is for its reader to say.
    with suppress(BodyDamaged):
        decoder.finish()
    return body


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's name for the call, by which its bill can be searched."""
    name = headers.get("x-request-id", "")
    return name if CALL_ID.fullmatch(name) else None
