"""The port to the provider: each call is one exchange, and no request is ever sent twice."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

import orjson
import structlog

from app.adapters.http.messages import HttpRequest, SentHeaders, StreamedBody
from app.adapters.http.urls import HttpUrl, parse_url
from app.adapters.upstream.documented import AnswerReader
from app.adapters.upstream.error_mapping import (
    ErrorMapper,
    MessageSanitizer,
    make_error,
    make_parser_error,
    make_unexpected_error,
)
from app.adapters.upstream.exchange import HttpExchange, Observe, request_id
from app.adapters.upstream.reference_body import add_references
from app.adapters.upstream.transport import UpstreamTransport
from app.adapters.upstream.wire import ProviderReply, ReplyParser
from app.domain.errors import BillingEvidence, UpstreamError
from app.domain.images import GenerationRequest
from app.domain.upstream import PollInconclusive, TaskPending, UpstreamAnswer
from app.domain.upstream_ids import is_task_id, quote_path_segment

LARGE_REPLY_BYTES = 256 * 1024
"""Bodies larger than this are parsed in a thread, so that other requests go on."""
MAX_REATTEMPTS = 2
REATTEMPT_WINDOW_S = 5.0
USER_AGENT = "koi/1"


def _observe_nothing(_: str) -> None:
    """The default observer."""


@dataclass(frozen=True, slots=True)
class UpstreamTimeouts:
    """Absolute deadlines of whole exchanges, connecting and reading included, in seconds.

    A submit has as much time as a generation: a provider that ignores `async` answers with the
    images, and giving up early would lose an image that was paid for.
    """

    dispatch_s: float
    poll_s: float
    connect_s: float


class DieyuyunProvider:
    """`ImageProvider` over HTTP.

    `base_url` ends in the API version (`https://open.dieyuyun.com/v1`). The deadlines are those of
    `UpstreamTimeouts`. `response_format` is `url` or `b64_json`. The transport is closed with this.
    """

    def __init__(  # noqa: PLR0913  one parameter for each setting it serves
        self,
        base_url: str,
        api_key: str,
        transport: UpstreamTransport,
        *,
        timeout_s: float,
        poll_timeout_s: float = 10.0,
        connect_timeout_s: float = 5.0,
        observe: Observe = _observe_nothing,
        response_format: str = "url",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        site = base_url.rstrip("/") + "/"
        host = urlsplit(site).hostname or ""
        self._transport = transport
        self._timeouts = UpstreamTimeouts(timeout_s, poll_timeout_s, connect_timeout_s)
        self._exchange = HttpExchange(transport, connect_timeout_s, observe)
        self._observe = observe
        self._response_format = response_format
        self._clock = clock
        errors = ErrorMapper(MessageSanitizer((api_key, host)))
        self._reader = AnswerReader(ReplyParser(site, errors, now, observe))
        self._generations = parse_url(site + "images/generations")
        self._tasks = parse_url(site + "tasks/")
        self._get_headers = SentHeaders(
            ("authorization", f"Bearer {api_key}"),
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("user-agent", USER_AGENT),
        )
        self._post_headers = self._get_headers.with_field("content-type", "application/json")
        self._long_replies = asyncio.Lock()
        self._log = structlog.get_logger()

    async def dispatch(self, request: GenerationRequest, *, asynchronous: bool) -> UpstreamAnswer:
        """Send one generation. Raises `UpstreamError`. It tries again only if no byte of an earlier
        attempt was sent, at most `MAX_REATTEMPTS` times within `REATTEMPT_WINDOW_S`."""
        operation = "submit" if asynchronous else "generate"
        try:
            reply = await self._post(self._body(request, asynchronous))
        except UpstreamError as error:
            self._log.warning("upstream_failed", operation=operation, **_error_log_fields(error))
            raise
        answer = await self._parse_reply(
            operation, lambda reply: self._reader.read_submit(reply, request.prompt), reply
        )
        name = request_id(reply.headers)
        return answer if name is None else replace(answer, request_id=name)

    async def poll(self, upstream_id: str) -> UpstreamAnswer:
        """Ask for a task. Raises `UpstreamError` when the task failed, and `PollInconclusive` when
        the poll told nothing about it."""
        if not is_task_id(upstream_id):
            raise make_error("upstream_invalid_response", BillingEvidence.UNKNOWN)
        url = HttpUrl(self._tasks.origin, self._tasks.target + quote_path_segment(upstream_id))
        request = HttpRequest("GET", url, self._get_headers)
        try:
            reply = await self._exchange(request, self._timeouts.poll_s)
        except UpstreamError as error:
            inconclusive = PollInconclusive(error.reason)
            self._log.debug("poll_troubled", reason=error.reason)
        else:
            return await self._parse_reply(
                "poll", lambda reply: self._reader.read_poll(reply, upstream_id), reply
            )
        raise inconclusive

    async def close(self) -> None:
        """Close all connections; running exchanges fail."""
        await self._transport.close()

    def _body(self, request: GenerationRequest, asynchronous: bool) -> bytes | StreamedBody:
        try:
            return _encode_request(
                request, asynchronous=asynchronous, response_format=self._response_format
            )
        except (TypeError, ValueError) as error:
            self._log.error("upstream_unforeseen", error=type(error).__name__)
        raise make_unexpected_error(sent=False)

    async def _post(self, body: bytes | StreamedBody) -> ProviderReply:
        started = self._clock()
        attempt = 0
        request = HttpRequest("POST", self._generations, self._post_headers, body)
        while True:
            try:
                return await self._exchange(request, self._timeouts.dispatch_s)
            except UpstreamError as error:
                pause_s = random.uniform(0.1, 0.3) * 2**attempt  # noqa: S311  jitter, no secret
                late = self._clock() - started + pause_s > REATTEMPT_WINDOW_S
                if error.reason != "upstream_unreachable" or attempt == MAX_REATTEMPTS or late:
                    raise
            attempt += 1
            self._observe("reattempt")
            await asyncio.sleep(pause_s)

    async def _parse_reply(
        self, operation: str, parse: Callable[[ProviderReply], UpstreamAnswer], reply: ProviderReply
    ) -> UpstreamAnswer:
        try:
            answer = await self._parse_safely(parse, reply)
        except UpstreamError as error:
            error.request_id = request_id(reply.headers)
            if reply.status < 300 and error.reason == "content_policy_violation":
                self._observe("silent_moderation")
            self._log.warning(
                "upstream_failed",
                operation=operation,
                status=reply.status,
                provider_request_id=error.request_id,
                **_error_log_fields(error),
            )
            raise
        except PollInconclusive as inconclusive:
            self._log.debug("poll_troubled", status=reply.status, missing=inconclusive.missing)
            raise
        self._log.debug("upstream_answered", operation=operation, **_result_log_fields(answer))
        if "json" not in reply.headers.get("content-type", "").lower():
            self._observe("wrong_content_type")
        if isinstance(answer, TaskPending) and not answer.is_known_status:
            self._observe("unknown_status")
        return answer

    async def _parse_safely(
        self, parse: Callable[[ProviderReply], UpstreamAnswer], reply: ProviderReply
    ) -> UpstreamAnswer:
        """What a reply means. If our parser fails on it, its status alone decides."""
        try:
            if len(reply.body or b"") > LARGE_REPLY_BYTES:
                # One at a time: they hold the interpreter's lock, so that several would only keep
                # the event loop from it.
                async with self._long_replies:
                    return await asyncio.to_thread(parse, reply)
            return parse(reply)
        except (UpstreamError, PollInconclusive):
            raise
        except Exception as error:  # noqa: BLE001  a job must end, whatever a reply holds
            self._log.error("upstream_unforeseen", error=type(error).__name__)
        # Raised outside the handler: the original error may hold the whole document.
        raise make_parser_error(reply.status)


def _error_log_fields(error: UpstreamError) -> dict[str, str]:
    """Fields for the log, without the message, which may quote a prompt."""
    return {"code": error.reason, "proof": error.proof.value}


def _result_log_fields(answer: UpstreamAnswer) -> dict[str, object]:
    """Fields for the log, without links."""
    if isinstance(answer, TaskPending):
        return {"answer": answer.status, "progress": answer.progress}
    return {"answer": "finished", "images": len(answer.images)}


def _encode_request(
    request: GenerationRequest, *, asynchronous: bool, response_format: str
) -> bytes | StreamedBody:
    """The fields that the provider documents, and no others."""
    fields: dict[str, str | int | bool] = {
        "model": request.model,
        "prompt": request.prompt,
        "n": request.n,
        "size": request.size,
        "quality": request.quality,
        "response_format": response_format,
    }
    if asynchronous:
        fields["async"] = True
    # Copied, because orjson leaves 4 KB behind each of its results, and this one is kept for as
    # long as the provider takes.
    body = bytes(memoryview(orjson.dumps(fields)))
    if not request.references:
        return body
    return add_references(body, request.reference_field, request.references)
