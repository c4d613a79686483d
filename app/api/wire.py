"""From a request body to what is asked: understand once, coerce by catalog, report changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.api import fields
from app.api.controls import Controls
from app.api.errors import MODERATION_CODES
from app.api.json_reader import SAFE_NAME, canonical
from app.api.references import blank, names_picture, refuse_references
from app.api.settings import EdgeSettings
from app.api.sizes import AUTO, SHAPE_FIELDS, exact_size, nearest_size
from app.domain.catalog import Catalog, Model
from app.domain.errors import InvalidRequest, ModelNotFound
from app.domain.images import GenerationRequest, ResponseFormat, digest
from app.domain.ledger import Repeat
from app.domain.patterns import matches
from app.domain.principal import Principal
from app.service.started import Ask

UNDERSTOOD = frozenset(
    {"model", "prompt", "n", "size", "quality", "response_format", "stream", "async"}
)
ACCEPTED = frozenset({"user", "safety_identifier", "partial_images"})
"""Checked, then left out: the provider knows nothing like them."""
DOCUMENTED = frozenset(
    {"background", "input_fidelity", "moderation", "output_compression", "output_format", "style"}
)
"""OpenAI's own fields that this provider lacks."""
NEUTRAL = ACCEPTED | frozenset(
    {
        "chat_id", "client_request_id", "conversation_id", "drop_params",
        "enable_sync_mode", "extra_query", "idempotency_key", "input_fidelity",
        "litellm_call_id", "litellm_metadata", "litellm_session_id", "litellm_trace_id",
        "max_retries", "message_id", "metadata", "moderation", "num_retries",
        "output_compression", "output_format", "prompt_cache_key", "request_id",
        "request_timeout", "return_base64", "service_tier", "session_id", "store",
        "stream_options", "sync_mode", "tags", "timeout", "trace_id", "user_id",
    }
)  # fmt: skip
"""Fields that leave the picture as it is: who asks, how it is sent, in which encoding. Any other
field that cannot be sent on may be a wish for another picture."""
STEERING = frozenset(
    {
        "api_base", "api_key", "api_type", "api_version", "base_model", "base_url",
        "callback_url", "custom_llm_provider", "endpoint", "extra_headers", "headers", "host",
        "mock_response", "organization", "provider", "proxies", "proxy", "target_url",
        "upstream", "upstream_url", "url", "webhook", "webhook_url",
    }
)  # fmt: skip
"""Fields with which other gateways let a caller choose where the upstream key goes (S1)."""

NO_WISHES = UNDERSTOOD | STEERING | NEUTRAL
"""Fields whose values say nothing about the picture that is not read from them."""
NOTHING: tuple[Any, ...] = (None, "", [], {})
"""Values by which interfaces send every field they have, asked for or not."""
BLOCKED_NAMES = ("gpt-image-*", "chatgpt-image-*")
"""Callers of these know a refusal by moderation as `moderation_blocked`."""
MOST_FIELDS = 100
LONGEST_MODEL = 256
LONGEST_USER = 512
MOST_PARTIAL_IMAGES = 3


@dataclass(frozen=True, slots=True)
class Understood:
    """One request, understood. `adjusted` names the fields that were coerced or ignored;
    `steered` is true when some of them tried to choose the way out; `moderation` is how the caller
    calls a refusal by moderation."""

    ask: Ask
    asynchronous: bool
    stream: bool
    adjusted: tuple[str, ...]
    steered: bool
    moderation: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A body with everything that decides how to read it."""

    body: Mapping[str, Any]
    controls: Controls
    principal: Principal
    deployment: str | None = None


def understand(asked: Asked, catalog: Catalog, edge: EdgeSettings) -> Understood:
    """Raises `InvalidRequest` naming the field, or `ModelNotFound`."""
    body = asked.body
    _check_names(body, edge.strict)
    called, model = _model(asked, catalog, edge.strict)
    refuse_references(body, but=NO_WISHES)
    request = GenerationRequest(
        model=model.name,
        prompt=fields.prompt(body, model.max_prompt_chars),
        n=fields.whole(body, "n", 1, edge.max_images) or 1,
        size=exact_size(body, model) if edge.strict else nearest_size(body, model),
        quality=_quality(body, model, edge.strict),
        unsent=_unsent(body),
    )
    response_format = (
        fields.word(body, "response_format", tuple(ResponseFormat), {})
        or asked.principal.response_format
        or catalog.response_format(called, model)
        or edge.response_format
    )
    asynchronous, stream = _manner(body)
    _check_accepted(body)
    return Understood(
        ask=Ask(
            request,
            _repeat(asked),
            asked.controls.cache,
            str(response_format),
            asked.controls.slot_wait_s(edge),
        ),
        asynchronous=asynchronous,
        stream=stream,
        adjusted=_adjusted(body, request, called),
        steered=not STEERING.isdisjoint(body),
        moderation=_moderation(called, catalog),
    )


def _check_names(body: Mapping[str, Any], strict: bool) -> None:
    if len(body) > MOST_FIELDS:
        raise InvalidRequest("unknown_parameter", f"The body has more than {MOST_FIELDS} fields.")
    if not strict:
        return
    for name, value in body.items():
        if name in UNDERSTOOD or name in ACCEPTED or names_picture(name):
            # A picture is refused by its own words, and an empty place for one asks for nothing.
            continue
        if name in SHAPE_FIELDS and value is None:
            continue
        shown = name if SAFE_NAME.fullmatch(name) else None
        if name in DOCUMENTED or name in SHAPE_FIELDS:
            raise InvalidRequest(
                "unsupported_parameter", "The provider has no such parameter.", param=shown
            )
        raise InvalidRequest("unknown_parameter", "Unknown parameter.", param=shown)


def _model(asked: Asked, catalog: Catalog, strict: bool) -> tuple[str, Model]:
    """The name the caller used, and the model it means."""
    name = fields.text(asked.body, "model", LONGEST_MODEL) or asked.deployment
    if name is None:
        if strict or asked.body.get("model") == "":
            raise fields.missing("model")
        name = catalog.default_model
    model = catalog.called(name)
    if model is None or not asked.principal.may_use(model.name):
        raise ModelNotFound
    return name, model


def _moderation(called: str, catalog: Catalog) -> str:
    blocked = any(
        matches(pattern, name) for name in catalog.spellings(called) for pattern in BLOCKED_NAMES
    )
    return MODERATION_CODES[blocked]


def _quality(body: Mapping[str, Any], model: Model, strict: bool) -> str:
    """The quality that is meant; a word nobody knows is the default one."""
    auto = {AUTO: model.quality_aliases.get(AUTO, model.default_quality)}
    if strict:
        return fields.word(body, "quality", model.qualities, auto) or model.default_quality
    written = fields.text(body, "quality", fields.LONGEST_WORD)
    if written is None or written in model.qualities:
        return written or model.default_quality
    known = {alias.lower(): quality for alias, quality in model.quality_aliases.items()}
    known |= {quality.lower(): quality for quality in model.qualities}
    return known.get(written.strip().lower(), model.default_quality)


def _unsent(body: Mapping[str, Any]) -> str | None:
    """A digest of the fields that ask for a certain picture and cannot be sent on, or None."""
    wishes = {
        name: value
        for name, value in body.items()
        if not (name in NO_WISHES or name in SHAPE_FIELDS)
        and not (value in NOTHING or (names_picture(name) and blank(value)))
    }
    return digest(canonical(wishes)) if wishes else None


def _manner(body: Mapping[str, Any]) -> tuple[bool, bool]:
    asynchronous = fields.flag(body, "async")
    stream = fields.flag(body, "stream")
    if asynchronous and stream:
        raise InvalidRequest(
            "unsupported_parameter", "stream and async cannot be combined.", param="stream"
        )
    return asynchronous, stream


def _check_accepted(body: Mapping[str, Any]) -> None:
    fields.text(body, "user", LONGEST_USER)
    fields.text(body, "safety_identifier", LONGEST_USER)
    fields.whole(body, "partial_images", 0, MOST_PARTIAL_IMAGES)


def _repeat(asked: Asked) -> Repeat:
    key = asked.controls.idempotency_key
    return Repeat(
        body=digest(asked.deployment, canonical(dict(asked.body))),
        idempotency_key=None if key is None else digest(asked.principal.user, key),
        marked=asked.controls.marked,
        fresh=asked.controls.cache.no_cache,
    )


def _adjusted(body: Mapping[str, Any], request: GenerationRequest, called: str) -> tuple[str, ...]:
    coerced = [
        name
        for name, value in (
            ("model", request.model),
            ("size", request.size),
            ("quality", request.quality),
        )
        if body.get(name) not in (None, value)
    ]
    if not body.get("model") and called != request.model:
        coerced.append("model")
    ignored = [
        name
        for name, value in body.items()
        if name not in UNDERSTOOD
        and value is not None
        and not (names_picture(name) and blank(value))
    ]
    return (*coerced, *ignored)
