"""One request and its reply within one deadline, or an error with evidence about the bill.

A process that was stopped or got no CPU learns at the same moment that its deadline has passed and
that a reply waits in its socket. The reply is read first: it may hold an image that was paid for.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType

import structlog

from app.adapters.http.client import HttpResponse
from app.adapters.http.decoding import ContentCodingError, ContentDecoder, CorruptEncodedBody
from app.adapters.http.errors import HttpError
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendState
from app.adapters.upstream.error_mapping import (
    is_definite_refusal,
    make_unexpected_error,
    map_transport_error,
)
from app.adapters.upstream.lenient_json import JSON_START
from app.adapters.upstream.transport import UpstreamTransport
from app.adapters.upstream.wire import ProviderReply
from app.domain.upstream_ids import CALL_ID_PATTERN

MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_ERROR_REPLY_BYTES = 1024 * 1024
MAX_LEADING_BYTES = 64 * 1024
"""Some servers send white space before the JSON, to keep a connection alive."""
ERROR_BODY_TIMEOUT_S = 5.0
"""How long to wait for the body of a refusal, whose status has said what matters."""

Observe = Callable[[str], None]
"""Is told each oddity of a reply: `encoded_answer`, `lenient_json`, `reattempt`,
`silent_moderation`, `unknown_status`, `wrong_content_type`."""


class HttpExchange:
    """Sends a request to the provider and returns the whole reply.

    `connect_s`: seconds to wait for a free connection, and as many to open a new one.
    """

    def __init__(self, transport: UpstreamTransport, connect_s: float, observe: Observe) -> None:
        self._transport, self._connect_s, self._observe = transport, connect_s, observe
        self._log = structlog.get_logger()

    async def __call__(self, request: HttpRequest, within_s: float) -> ProviderReply:
        """Raises `UpstreamError` when the exchange fails in any way. A refusal or redirect whose
        body is cut short is returned as a reply without a body, since its status is enough."""
        send_state = SendState()
        response = None
        try:
            with Deadline(send_state, within_s, self._connect_s):
                response = await self._transport.send(request, send_state)
                return await self._read_reply(response)
        except (TimeoutError, HttpError) as error:
            failure = map_transport_error(
                error, sent=send_state.sent, answered=response is not None
            )
        except Exception as error:  # noqa: BLE001  a job must end, whatever fails
            self._log.error("upstream_unforeseen", error=type(error).__name__)
            failure = make_unexpected_error(sent=send_state.sent)
        finally:
            if response is not None:
                response.close()
        # Raised outside the handler: the original error may hold the request with the upstream key.
        if response is None:
            raise failure
        if is_definite_refusal(response.status):
            return ProviderReply(response.status, response.head.headers, None)
        failure.request_id = request_id(response.head.headers)
        raise failure

    async def _read_reply(self, response: HttpResponse) -> ProviderReply:
        status = response.status
        body = None
        if not is_definite_refusal(status):
            body = await self._read_body(
                response, MAX_REPLY_BYTES if status < 300 else MAX_ERROR_REPLY_BYTES
            )
        elif status >= 400:
            async with asyncio.timeout(ERROR_BODY_TIMEOUT_S):
                body = await self._read_body(response, MAX_ERROR_REPLY_BYTES)
        return ProviderReply(status, response.head.headers, body, response.head.is_open_ended)

    async def _read_body(self, response: HttpResponse, cap: int) -> bytes | bytearray | None:
        """The decoded body; None when it cannot be decoded or is larger than `cap`."""
        if (response.head.content_length or 0) > cap:
            return None
        try:
            codings = response.head.headers.get("content-encoding", "")
            decoder = ContentDecoder(codings, max_bytes=cap)
            if not decoder.is_identity:
                self._observe("encoded_answer")
            return await _read_decoded(response, decoder)
        except ContentCodingError:
            return None


async def _read_decoded(response: HttpResponse, decoder: ContentDecoder) -> bytearray | None:
    body = bytearray()
    looks_like_json = False
    while chunk := await response.read():
        for piece in decoder.feed(chunk):
            body += piece
        if not looks_like_json and len(body) > MAX_LEADING_BYTES:
            if JSON_START.match(body) is None:
                return None  # too many bytes that are no JSON
            looks_like_json = True
    # A body whose coding is cut short may still hold the whole JSON: the parser finds out.
    with suppress(CorruptEncodedBody):
        decoder.finish()
    return body


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's id of the call, under which its bill lists it."""
    name = headers.get("x-request-id", "")
    return name if CALL_ID_PATTERN.fullmatch(name) else None


STALL_THRESHOLD_S = 0.25
"""A timer that fires so late shows that the process was stopped or got no CPU."""
GRACE_S = 2.0
MAX_GRACES = 3
"""A limit, since on a machine that is always late every timer fires late."""


class Deadline:
    """A block that raises `TimeoutError` when the whole takes longer than `within_s`, or waiting
    for a free connection or opening one takes longer than `connect_s`."""

    def __init__(self, send_state: SendState, within_s: float, connect_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._send_state, self._connect_s = send_state, connect_s
        began = self._loop.time()
        self._end = began + within_s
        self._graces = MAX_GRACES
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancelling = task, task.cancelling()
        self._has_passed = False
        self._schedule(began + min(connect_s, within_s))

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        # As `asyncio.timeout` tells its own cancellation from one by somebody else.
        is_own = self._has_passed and self._task.uncancel() <= self._cancelling
        if is_own and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def _schedule(self, when: float) -> None:
        self._scheduled_at = when
        self._timer: asyncio.Handle = self._loop.call_at(when, self._check)

    def _check(self) -> None:
        now = self._loop.time()
        due = self._end
        if not self._send_state.sent:
            due = min(due, self._send_state.since + self._connect_s)
        if now < due:
            self._schedule(due)
        elif now - self._scheduled_at > STALL_THRESHOLD_S and self._graces:
            self._graces -= 1
            self._schedule(now + GRACE_S)
        else:
            self._timer = self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        self._has_passed = True
        self._task.cancel()
