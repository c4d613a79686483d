"""The provider's JSON: the request we send, and what a reply means in the domain's words.

Order of decision: contract study, section 4. An answer is never trusted further than its text.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from app.adapters.upstream import meaning
from app.adapters.upstream.complaint import Complaint, complaint_in
from app.adapters.upstream.faults import Faults, fault
from app.adapters.upstream.images import NO_HARVEST, Harvest, harvest
from app.adapters.upstream.provider_json import Unreadable, parse
from app.adapters.upstream.retry_after import retry_after_s
from app.adapters.upstream.statuses import Layers, Phase, phase_of, progress_in, word_in
from app.domain.errors import Proof, UpstreamError
from app.domain.images import GenerationRequest
from app.domain.job import TaskStatus
from app.domain.upstream import Answer, Finished, PollTroubled, Running
from app.domain.upstream_ids import names_a_task

OVER = frozenset({Phase.FAILED, Phase.ERRED, Phase.MODERATED, Phase.EXPIRED})
ID_KEYS = ("id", "task_id", "taskId")


def request_body(request: GenerationRequest, *, asynchronous: bool, response_format: str) -> bytes:
    """The documented fields (provider's page) and nothing else."""
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
    return orjson.dumps(fields)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in full. `headers` have lower-case names.

    `body` is None when there was none to use: a redirect, a coding that nobody knows, more bytes
    than the cap, a refusal that broke off. `open_ended`: only the connection's close said where
    the body ends, so that it may be cut short (F11).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray | None
    open_ended: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """What a JSON body says, before anything is decided."""

    phase: Phase | None
    """None when no status is given at all."""
    upstream_id: str | None
    progress: int | None
    complaint: Complaint
    harvest: Harvest

    @property
    def running(self) -> bool:
        return self.phase is not None and self.phase.running

    @property
    def over(self) -> bool:
        return self.phase in OVER


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns replies into answers. `site` is the base URL with a slash at its end; `now` gives
    Unix seconds; `observe` is told of `lenient_json`, JSON that a strict reader refuses."""

    site: str
    faults: Faults
    now: Callable[[], float]
    observe: Callable[[str], None] = lambda _event: None

    def submitted(self, reply: Reply, prompt: str = "") -> Answer:
        """The answer to a POST. Raises `UpstreamError` with the proof that the reply gives; words
        of the `prompt` in it are the caller's, not the provider's."""
        body = self._object_in(reply)
        if body is None and reply.status < 300:
            raise _unreadable(reply)
        said = self._understand(body or {})
        if reply.status >= 300:
            wait_s = self._wait(reply, said)
            raise self.faults.refused(reply.status, said.complaint, wait_s, prompt)
        if said.over:
            raise self._ended(said)
        if said.running:
            return _running(said, said.upstream_id)
        if said.harvest.images:
            return Finished(said.harvest.images)
        return self._imageless(reply, said, prompt)

    def _imageless(self, reply: Reply, said: Statement, prompt: str) -> Answer:
        if said.complaint.faulty and not _accepted(said):
            raise self.faults.reported(said.complaint, self._wait(reply, said), prompt)
        if said.harvest.withheld:
            raise self.faults.moderated(said.complaint)
        if said.upstream_id is not None:
            return _running(said, said.upstream_id)
        if said.harvest.expected or said.phase in (None, Phase.COMPLETED):
            raise fault("empty_result", Proof.UNKNOWN)
        return _running(said, None)

    def polled(self, reply: Reply, upstream_id: str) -> Answer:
        """The answer to a poll. Raises `UpstreamError` when the task has ended badly and
        `PollTroubled` when nothing was learnt about it."""
        body = self._object_in(reply)
        if body is None and reply.status < 300:
            raise PollTroubled(f"a poll was answered with {reply.status} and no JSON object")
        said = self._understand(body or {})
        if reply.status >= 300:
            raise self._poll_refused(reply, said)
        if said.phase is Phase.LOST:
            raise _missing()
        if said.over:
            raise self._poll_over(said)
        if said.running:
            return _running(said, upstream_id)
        if said.harvest.images:
            return Finished(said.harvest.images)
        return self._poll_imageless(reply, said, upstream_id)

    def _poll_imageless(self, reply: Reply, said: Statement, upstream_id: str) -> Answer:
        if said.complaint.faulty:
            raise self._poll_reported(reply, said)
        if said.harvest.withheld:
            raise self.faults.moderated(said.complaint)
        unsaid = said.phase is None and said.upstream_id is None
        if said.phase is Phase.COMPLETED or (unsaid and said.harvest.expected):
            raise PollTroubled("a completed task shows no image", empty=True)
        if unsaid:
            raise PollTroubled("a poll was answered with JSON that says nothing")
        return _running(said, upstream_id)

    def _poll_over(self, said: Statement) -> UpstreamError | PollTroubled:
        if meaning.missing(said.complaint):
            return _missing()
        anonymous = said.phase is Phase.ERRED and said.upstream_id is None
        if anonymous and not meaning.ended(said.complaint):
            return PollTroubled("a poll was answered with an error")
        return self._ended(said)

    def _poll_refused(self, reply: Reply, said: Statement) -> UpstreamError | PollTroubled:
        known = said.complaint.told or bool(said.complaint.message)
        gone = (reply.status in (404, 410) and known) or meaning.missing(said.complaint)
        if not gone and meaning.coded_moderation(reply.status, said.complaint):
            return self.faults.moderated(said.complaint)
        return PollTroubled(
            f"a poll was answered with {reply.status}",
            missing=gone,
            throttled=reply.status == 429,
            retry_after_s=self._wait(reply, said),
        )

    def _poll_reported(self, reply: Reply, said: Statement) -> UpstreamError | PollTroubled:
        """An error in a 200 body without a status word: about the task, or about the poll?"""
        if meaning.missing(said.complaint):
            return _missing()
        about_the_task = said.upstream_id is not None or meaning.ended(said.complaint)
        if about_the_task or meaning.coded_moderation(reply.status, said.complaint):
            return self.faults.failed(said.complaint)
        return PollTroubled(
            "a poll was answered with an error",
            throttled=meaning.status_of(said.complaint) == 429,
            retry_after_s=self._wait(reply, said),
        )

    def _ended(self, said: Statement) -> UpstreamError:
        if said.phase is Phase.EXPIRED:
            return fault("task_expired", Proof.UNKNOWN)
        if said.phase is Phase.MODERATED or said.harvest.withheld:
            return self.faults.moderated(said.complaint)
        return self.faults.failed(said.complaint)

    def _object_in(self, reply: Reply) -> dict[str, Any] | None:
        if reply.body is None:
            return None
        try:
            document = parse(reply.body)
        except Unreadable:
            return None
        if document.odd:
            self.observe("lenient_json")
        return document.value if isinstance(document.value, dict) else None

    def _wait(self, reply: Reply, said: Statement) -> int | None:
        return retry_after_s(reply.headers, said.complaint.retry_after, self.now())

    def _understand(self, body: dict[str, Any]) -> Statement:
        layers = _layers(body)
        word = word_in(layers)
        phase = None if word is None else phase_of(word)
        running = phase is not None and phase.running
        return Statement(
            phase=phase,
            upstream_id=_id_in(layers) or _ticket_in(layers),
            progress=progress_in(layers),
            complaint=complaint_in(layers),
            # Whatever a running task shows is no result yet: previews, an empty url.
            harvest=NO_HARVEST if running else harvest(layers, self.site, phase),
        )


def _missing() -> PollTroubled:
    return PollTroubled("the provider does not know the task", missing=True)


def _unreadable(reply: Reply) -> UpstreamError:
    if reply.open_ended and reply.body is not None:
        return fault("upstream_incomplete", Proof.UNKNOWN)
    return fault("upstream_invalid_response", Proof.UNKNOWN)


def _layers(body: dict[str, Any]) -> Layers:
    """The body and, before it, what its one envelope holds."""
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


def _id_in(layers: Layers) -> str | None:
    """The task's id as it stands, sane or not. Text goes before numbers, which beside it are a
    relative's table rows."""
    named = [layer.get(key) for layer in layers for key in ID_KEYS]
    for name in named:
        if isinstance(name, str) and name:
            return name
    numbers = (n for n in named if isinstance(n, int) and not isinstance(n, bool))
    return next((str(n) for n in numbers if 0 <= n < 10**40), None)


def _ticket_in(layers: Layers) -> str | None:
    """xAI's deferred answer is a `request_id`; beside anything else that is only a log line."""
    ticket = layers[0].get("request_id")
    alone = len(layers) == 1 and not any(key in layers[0] for key in ("data", "error", "code"))
    return ticket if alone and isinstance(ticket, str) and ticket else None


def _accepted(said: Statement) -> bool:
    """A task was named next to a code nobody knows: better to ask for it than to lose it."""
    return (
        said.upstream_id is not None
        and not said.complaint.error
        and meaning.status_of(said.complaint) is None
    )


def _running(said: Statement, upstream_id: str | None) -> Running:
    if upstream_id is None or not names_a_task(upstream_id):
        raise fault("upstream_invalid_response", Proof.UNKNOWN)
    queued = said.phase is Phase.QUEUED
    return Running(
        upstream_id,
        status=TaskStatus.QUEUED if queued else TaskStatus.PROCESSING,
        progress=said.progress,
        recognised=said.phase is not Phase.UNRECOGNISED,
    )
