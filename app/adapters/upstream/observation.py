"""One reply of a provider as `koi probe` keeps it: what Koi understands of it, and its shape."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.adapters.upstream.error_dialects import find_provider_error
from app.adapters.upstream.error_mapping import ErrorMapper, MessageSanitizer
from app.adapters.upstream.lenient_json import InvalidJson, parse_lenient_json
from app.adapters.upstream.task_status import find_status_word, parse_phase
from app.adapters.upstream.templates import ReplyTraits, TemplateMaker
from app.adapters.upstream.wire import ProviderReply, ReplyParser, unwrap_layers
from app.domain.errors import BillingEvidence, UpstreamError
from app.domain.images import ProviderImage
from app.domain.upstream import PollInconclusive, TaskPending, UpstreamAnswer

KEPT_HEADERS = ("content-type", "x-request-id", "server", "connection", "keep-alive")
MAX_HEADER_CHARS = 200


@dataclass(frozen=True, slots=True)
class ReplyOutcome:
    """How Koi reads a reply. `kind`: images, task, refused (nothing was made), missing (no such
    task), unclear. `reason`: Koi's own code of a refusal."""

    kind: str
    reason: str | None = None
    task_id: str | None = None
    images: tuple[ProviderImage, ...] = ()


@dataclass(frozen=True, slots=True)
class ObservedReply:
    """`body` is a template (see `templates`), None when the body was no JSON."""

    status: int
    headers: Mapping[str, str]
    outcome: ReplyOutcome
    body: Any
    word: str | None
    code: str
    message: str
    traits: ReplyTraits


class ReplyObserver:
    """Reads replies of one provider with the eyes of the gateway."""

    def __init__(self, base_url: str, secrets: tuple[str, ...], model: str) -> None:
        self._secrets, self._model = secrets, model
        site = base_url.rstrip("/") + "/"
        errors = ErrorMapper(MessageSanitizer(secrets))
        self._parser = ReplyParser(site, errors, time.time)

    def observe_answer(self, reply: ProviderReply, prompt: str = "") -> ObservedReply:
        """The reply to a POST, or to any GET but a poll."""
        try:
            outcome = _outcome(self._parser.parse_submit_reply(reply, prompt))
        except UpstreamError as error:
            outcome = _refusal(error)
        return self._observe(reply, outcome)

    def observe_poll(self, reply: ProviderReply, task_id: str) -> ObservedReply:
        try:
            outcome = _outcome(self._parser.parse_poll_reply(reply, task_id))
        except UpstreamError as error:
            outcome = _refusal(error)
        except PollInconclusive as said:
            outcome = ReplyOutcome("missing" if said.missing else "unclear")
        return self._observe(reply, replace(outcome, task_id=task_id))

    def _observe(self, reply: ProviderReply, outcome: ReplyOutcome) -> ObservedReply:
        document = _document(reply)
        layers = unwrap_layers(document) if isinstance(document, dict) else ({},)
        word = find_status_word(layers)
        kind = outcome.kind
        if outcome.task_id and word is not None and parse_phase(word).is_running:
            kind = "task"
        maker = TemplateMaker(
            self._secrets,
            time.time(),
            task_id=outcome.task_id,
            model=self._model if kind in ("task", "images") else "",
            has_phase=kind in ("task", "images"),
        )
        said = find_provider_error(layers)
        body = None if document is None else maker.make(document)
        return ObservedReply(
            status=reply.status,
            headers=self._headers(reply.headers),
            outcome=outcome,
            body=body,
            word=word,
            code=maker.hide(said.code),
            message=maker.hide(said.message),
            traits=maker.traits,
        )

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        hide = TemplateMaker(self._secrets, 0.0)
        return {
            name: hide.hide(value[:MAX_HEADER_CHARS])
            for name, value in headers.items()
            if name in KEPT_HEADERS or "ratelimit" in name or name.startswith("retry-after")
        }


def _document(reply: ProviderReply) -> Any:
    if reply.body is None:
        return None
    try:
        return parse_lenient_json(reply.body).value
    except InvalidJson:
        return None


def _outcome(answer: UpstreamAnswer) -> ReplyOutcome:
    if isinstance(answer, TaskPending):
        return ReplyOutcome("task", task_id=answer.upstream_id)
    return ReplyOutcome("images", images=answer.images)


def _refusal(error: UpstreamError) -> ReplyOutcome:
    nothing_made = error.proof in (BillingEvidence.NEVER_SENT, BillingEvidence.REFUSED)
    return ReplyOutcome("refused" if nothing_made else "unclear", error.reason)
