"""What the provider's JSON replies mean: images, a pending task, or an error.

A reply may contradict itself. What is decided first wins: HTTP status, status word, images, error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.adapters.upstream import error_dialects
from app.adapters.upstream.error_dialects import ProviderError, find_provider_error
from app.adapters.upstream.error_mapping import ErrorMapper, make_error
from app.adapters.upstream.image_extraction import NO_IMAGES, ExtractedImages, extract_images
from app.adapters.upstream.lenient_json import InvalidJson, parse_lenient_json
from app.adapters.upstream.retry_after import retry_after_s
from app.adapters.upstream.task_status import (
    JsonLayers,
    TaskPhase,
    find_progress,
    find_status_word,
    parse_phase,
)
from app.domain.errors import BillingEvidence, UpstreamError
from app.domain.job import TaskStatus
from app.domain.upstream import PollInconclusive, TaskImages, TaskPending, UpstreamAnswer
from app.domain.upstream_ids import is_task_id

FAILED_PHASES = frozenset(
    {TaskPhase.FAILED, TaskPhase.ERRED, TaskPhase.MODERATED, TaskPhase.EXPIRED}
)
ID_KEYS = ("id", "task_id", "taskId")


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """A reply in full. `headers` have lower-case names.

    `body` is None when there is none to use: a redirect, an unknown content coding, too many bytes,
    a refusal that is cut short. `open_ended`: only the close of the connection marks the end of
    the body, which therefore may be cut short.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray | None
    open_ended: bool = False


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """What a JSON body holds, before anything is decided."""

    phase: TaskPhase | None
    """None when the body has no status."""
    upstream_id: str | None
    progress: int | None
    provider_error: ProviderError
    extracted: ExtractedImages

    @property
    def is_running(self) -> bool:
        return self.phase is not None and self.phase.is_running

    @property
    def is_failed(self) -> bool:
        return self.phase in FAILED_PHASES


@dataclass(frozen=True, slots=True)
class ReplyParser:
    """Turns replies into answers. `site` is the base URL with a slash at its end; `now` returns
    Unix seconds; `observe` is told `lenient_json` when a strict parser would refuse the JSON."""

    site: str
    errors: ErrorMapper
    now: Callable[[], float]
    observe: Callable[[str], None] = lambda _event: None

    def parse_submit_reply(self, reply: ProviderReply, prompt: str = "") -> UpstreamAnswer:
        """The answer to a POST. Raises `UpstreamError` with the evidence that the reply gives.
        Words of the `prompt` that the reply repeats do not count as the provider's."""
        body = self._parse_object(reply)
        if body is None and reply.status < 300:
            raise _unparsable_reply_error(reply)
        parsed = self._parse_body(body or {})
        if reply.status >= 300:
            wait_s = self._retry_after(reply, parsed)
            raise self.errors.map_refusal(reply.status, parsed.provider_error, wait_s, prompt)
        if parsed.is_failed:
            raise self._map_task_failure(parsed)
        if parsed.is_running:
            return _task_pending(parsed, parsed.upstream_id)
        if parsed.extracted.images:
            return TaskImages(parsed.extracted.images)
        return self._decide_submit_without_images(reply, parsed, prompt)

    def _decide_submit_without_images(
        self, reply: ProviderReply, parsed: ParsedReply, prompt: str
    ) -> UpstreamAnswer:
        if parsed.provider_error.is_failure and not _is_accepted(parsed):
            raise self.errors.map_error_in_success(
                parsed.provider_error, self._retry_after(reply, parsed), prompt
            )
        if parsed.extracted.is_withheld:
            raise self.errors.map_moderation(parsed.provider_error)
        if parsed.upstream_id is not None:
            return _task_pending(parsed, parsed.upstream_id)
        if parsed.extracted.has_image_field or parsed.phase in (None, TaskPhase.COMPLETED):
            raise make_error("empty_result", BillingEvidence.UNKNOWN)
        return _task_pending(parsed, None)

    def parse_poll_reply(self, reply: ProviderReply, upstream_id: str) -> UpstreamAnswer:
        """The answer to a poll. Raises `UpstreamError` when the task has failed, and
        `PollInconclusive` when the poll told nothing about it."""
        body = self._parse_object(reply)
        if body is None and reply.status < 300:
            raise PollInconclusive(f"a poll was answered with {reply.status} and no JSON object")
        parsed = self._parse_body(body or {})
        if reply.status >= 300:
            raise self._map_poll_status(reply, parsed)
        if parsed.phase is TaskPhase.LOST:
            raise _task_missing()
        if parsed.is_failed:
            raise self._map_poll_failure(parsed)
        if parsed.is_running:
            return _task_pending(parsed, upstream_id)
        if parsed.extracted.images:
            return TaskImages(parsed.extracted.images)
        return self._decide_poll_without_images(reply, parsed, upstream_id)

    def _decide_poll_without_images(
        self, reply: ProviderReply, parsed: ParsedReply, upstream_id: str
    ) -> UpstreamAnswer:
        if parsed.provider_error.is_failure:
            raise self._map_poll_error(reply, parsed)
        if parsed.extracted.is_withheld:
            raise self.errors.map_moderation(parsed.provider_error)
        unsaid = parsed.phase is None and parsed.upstream_id is None
        if parsed.phase is TaskPhase.COMPLETED or (unsaid and parsed.extracted.has_image_field):
            raise PollInconclusive("a completed task shows no image", empty=True)
        if unsaid:
            raise PollInconclusive("a poll was answered with JSON that says nothing")
        return _task_pending(parsed, upstream_id)

    def _map_poll_failure(self, parsed: ParsedReply) -> UpstreamError | PollInconclusive:
        if error_dialects.is_task_missing(parsed.provider_error):
            return _task_missing()
        anonymous = parsed.phase is TaskPhase.ERRED and parsed.upstream_id is None
        if anonymous and not error_dialects.is_task_failure(parsed.provider_error):
            return PollInconclusive("a poll was answered with an error")
        return self._map_task_failure(parsed)

    def _map_poll_status(
        self, reply: ProviderReply, parsed: ParsedReply
    ) -> UpstreamError | PollInconclusive:
        known = parsed.provider_error.is_from_provider or bool(parsed.provider_error.message)
        gone = (reply.status in (404, 410) and known) or error_dialects.is_task_missing(
            parsed.provider_error
        )
        if not gone and error_dialects.has_moderation_code(reply.status, parsed.provider_error):
            return self.errors.map_moderation(parsed.provider_error)
        return PollInconclusive(
            f"a poll was answered with {reply.status}",
            missing=gone,
            throttled=reply.status == 429,
            retry_after_s=self._retry_after(reply, parsed),
        )

    def _map_poll_error(
        self, reply: ProviderReply, parsed: ParsedReply
    ) -> UpstreamError | PollInconclusive:
        """An error in a 200 body without a status word: it is about the task, or only the poll."""
        if error_dialects.is_task_missing(parsed.provider_error):
            return _task_missing()
        about_the_task = parsed.upstream_id is not None or error_dialects.is_task_failure(
            parsed.provider_error
        )
        if about_the_task or error_dialects.has_moderation_code(
            reply.status, parsed.provider_error
        ):
            return self.errors.map_task_failure(parsed.provider_error)
        return PollInconclusive(
            "a poll was answered with an error",
            throttled=error_dialects.infer_status(parsed.provider_error) == 429,
            retry_after_s=self._retry_after(reply, parsed),
        )

    def _map_task_failure(self, parsed: ParsedReply) -> UpstreamError:
        if parsed.phase is TaskPhase.EXPIRED:
            return make_error("task_expired", BillingEvidence.UNKNOWN)
        if parsed.phase is TaskPhase.MODERATED or parsed.extracted.is_withheld:
            return self.errors.map_moderation(parsed.provider_error)
        return self.errors.map_task_failure(parsed.provider_error)

    def _parse_object(self, reply: ProviderReply) -> dict[str, Any] | None:
        if reply.body is None:
            return None
        try:
            document = parse_lenient_json(reply.body)
        except InvalidJson:
            return None
        if document.is_nonstandard:
            self.observe("lenient_json")
        return document.value if isinstance(document.value, dict) else None

    def _retry_after(self, reply: ProviderReply, parsed: ParsedReply) -> int | None:
        return retry_after_s(reply.headers, parsed.provider_error.retry_after, self.now())

    def _parse_body(self, body: dict[str, Any]) -> ParsedReply:
        layers = unwrap_layers(body)
        word = find_status_word(layers)
        phase = None if word is None else parse_phase(word)
        running = phase is not None and phase.is_running
        return ParsedReply(
            phase=phase,
            upstream_id=_find_task_id(layers) or _find_deferred_id(layers),
            progress=find_progress(layers),
            provider_error=find_provider_error(layers),
            # What a running task shows is no result yet: previews, an empty url.
            extracted=NO_IMAGES if running else extract_images(layers, self.site, phase),
        )


def _task_missing() -> PollInconclusive:
    return PollInconclusive("the provider does not know the task", missing=True)


def _unparsable_reply_error(reply: ProviderReply) -> UpstreamError:
    if reply.open_ended and reply.body is not None:
        return make_error("upstream_incomplete", BillingEvidence.UNKNOWN)
    return make_error("upstream_invalid_response", BillingEvidence.UNKNOWN)


def unwrap_layers(body: dict[str, Any]) -> JsonLayers:
    """The body and, before it, the content of its envelope if it has one."""
    content = body.get("data")
    if isinstance(content, list):
        content = content[0] if content and _is_task(content[0]) else None
    for inner in (content, body.get("output"), body.get("task")):
        if isinstance(inner, dict):
            return (inner, body)
    return (body,)


def _is_task(item: Any) -> bool:
    return (
        isinstance(item, dict) and ("task_id" in item or "taskId" in item) and not item.get("url")
    )


def _find_task_id(layers: JsonLayers) -> str | None:
    """The task's id, not validated yet. Text goes before numbers: where both are there, the number
    is the row of a provider's database."""
    named = [layer.get(key) for layer in layers for key in ID_KEYS]
    for name in named:
        if isinstance(name, str) and name:
            return name
    numbers = (n for n in named if isinstance(n, int) and not isinstance(n, bool))
    return next((str(n) for n in numbers if 0 <= n < 10**40), None)


def _find_deferred_id(layers: JsonLayers) -> str | None:
    """xAI's deferred answer has only a `request_id`; beside other fields that is just for logs."""
    ticket = layers[0].get("request_id")
    alone = len(layers) == 1 and not any(key in layers[0] for key in ("data", "error", "code"))
    return ticket if alone and isinstance(ticket, str) and ticket else None


def _is_accepted(parsed: ParsedReply) -> bool:
    """A task id beside an unknown code: the task may exist, so it is polled and not given up."""
    return (
        parsed.upstream_id is not None
        and not parsed.provider_error.error
        and error_dialects.infer_status(parsed.provider_error) is None
    )


def _task_pending(parsed: ParsedReply, upstream_id: str | None) -> TaskPending:
    if upstream_id is None or not is_task_id(upstream_id):
        raise make_error("upstream_invalid_response", BillingEvidence.UNKNOWN)
    queued = parsed.phase is TaskPhase.QUEUED
    return TaskPending(
        upstream_id,
        status=TaskStatus.QUEUED if queued else TaskStatus.PROCESSING,
        progress=parsed.progress,
        is_known_status=parsed.phase is not TaskPhase.UNRECOGNISED,
    )
