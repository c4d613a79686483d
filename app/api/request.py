"""From the body of a generation request to a command: read it once, fit it to the catalog, and say
what was changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.api import parameters, request_fields
from app.api.errors import MODERATION_CODES
from app.api.image_inputs import (
    ImageInput,
    check_references,
    is_blank,
    is_image_field,
    reject_image_inputs,
)
from app.api.request_body import canonical_json
from app.api.request_fields import ACCEPTED_FIELDS, SIZE_HINT_FIELDS, SUPPORTED_FIELDS
from app.api.request_headers import RequestHeaders
from app.api.settings import EdgeSettings
from app.api.sizes import AUTO, parse_exact_size, resolve_nearest_size
from app.domain.catalog import Catalog, Model
from app.domain.errors import InvalidRequest
from app.domain.images import GenerationRequest, digest
from app.domain.ledger import DedupKeys
from app.domain.patterns import pattern_matches
from app.domain.principal import Principal
from app.domain.webhooks import WebhookEvent
from app.service.generation import GenerateCommand

UNSUPPORTED_FIELDS = frozenset(
    {"background", "input_fidelity", "moderation", "output_compression", "output_format", "style"}
)
"""OpenAI's own fields that this provider lacks."""
NEUTRAL_FIELDS = ACCEPTED_FIELDS | frozenset(
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
"""Fields that do not change the picture: who asks, how it is sent, in which encoding. Any other
field that the provider cannot be sent may ask for a different picture."""
EGRESS_FIELDS = frozenset(
    {
        "api_base", "api_key", "api_type", "api_version", "base_model", "base_url",
        "callback_url", "custom_llm_provider", "endpoint", "extra_headers", "headers", "host",
        "mock_response", "organization", "provider", "proxies", "proxy", "target_url",
        "upstream", "upstream_url", "url", "webhook_url",
    }
)  # fmt: skip
"""Fields with which other gateways let a caller choose where the upstream key goes (S1). They are
dropped, reported and counted."""

FIELDS_NOT_HASHED = SUPPORTED_FIELDS | EGRESS_FIELDS | NEUTRAL_FIELDS
"""Fields that need not be hashed: they are read in full, or do not change the picture."""
EMPTY_VALUES: tuple[Any, ...] = (None, "", [], {})
"""Values of a field that a client sends although its user filled in nothing."""
MODERATION_BLOCKED_MODELS = ("gpt-image-*", "chatgpt-image-*")
"""Callers of these models expect the code `moderation_blocked` when a prompt is refused."""
MAX_FIELDS = 100


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """One request, read. `adjusted` names the fields that were coerced or ignored;
    `egress_override` is true when one of them tried to choose where Koi connects;
    `moderation_code` is the code that this caller expects when its prompt is refused; `webhook` is
    the URL it names, `end_user` for whom it says it asks."""

    ask: GenerateCommand
    asynchronous: bool
    stream: bool
    adjusted: tuple[str, ...]
    egress_override: bool
    moderation_code: str
    end_user: str | None
    webhook: str | None
    webhook_events: tuple[WebhookEvent, ...]


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A body with everything that decides how to read it; its reference images are `inputs`."""

    body: Mapping[str, Any]
    request_headers: RequestHeaders
    principal: Principal
    deployment: str | None = None
    request_id: str | None = None
    inputs: tuple[ImageInput, ...] = ()


def parse_request(raw: RawRequest, catalog: Catalog, settings: EdgeSettings) -> ParsedRequest:
    """Raises `InvalidRequest` naming the field, or `ModelNotFound`."""
    body = raw.body
    _check_names(body, settings.strict)
    called, model = _resolve_model(raw, catalog, settings.strict)
    takes_references = model.references > 0
    reject_image_inputs(body, except_for=FIELDS_NOT_HASHED, takes_references=takes_references)
    check_references(raw.inputs, model, catalog)
    request = GenerationRequest(
        model=model.name,
        prompt=request_fields.PROMPT.parse(body, model.max_prompt_chars),
        n=request_fields.N.parse(body, settings.max_images) or 1,
        size=parse_exact_size(body, model)
        if settings.strict
        else resolve_nearest_size(body, model),
        quality=_resolve_quality(body, model, settings.strict),
        unsent=_hash_unsent_fields(body),
        reference_field=model.reference_field,
    )
    response_format = (
        request_fields.RESPONSE_FORMAT.parse(body)
        or raw.principal.response_format
        or catalog.response_format(called, model)
        or settings.response_format
    )
    asynchronous, stream = _parse_response_mode(body)
    for field in request_fields.ACCEPTED:
        field.parse(body)
    return ParsedRequest(
        ask=GenerateCommand(
            request,
            _build_dedup_keys(raw),
            raw.request_headers.cache,
            str(response_format),
            raw.request_headers.concurrency_wait_s(settings),
            raw.request_id,
        ),
        asynchronous=asynchronous,
        stream=stream,
        adjusted=_list_adjusted(body, request, called),
        egress_override=not EGRESS_FIELDS.isdisjoint(body),
        moderation_code=_choose_moderation_code(called, catalog),
        end_user=request_fields.parse_end_user(body),
        webhook=request_fields.WEBHOOK.parse(body),
        webhook_events=tuple(map(WebhookEvent, request_fields.WEBHOOK_EVENTS.parse(body))),
    )


def _check_names(body: Mapping[str, Any], strict: bool) -> None:
    if len(body) > MAX_FIELDS:
        raise InvalidRequest("unknown_parameter", f"The body has more than {MAX_FIELDS} fields.")
    if not strict:
        return
    for name, value in body.items():
        if name in SUPPORTED_FIELDS or name in ACCEPTED_FIELDS or is_image_field(name):
            # `reject_image_inputs` refuses a picture; an empty picture field asks for nothing.
            continue
        if name in SIZE_HINT_FIELDS and value is None:
            continue
        if name in UNSUPPORTED_FIELDS or name in SIZE_HINT_FIELDS:
            raise InvalidRequest(
                "unsupported_parameter", f"The provider has no parameter {name}.", param=name
            )
        raise parameters.unknown_parameter_error(name)


def _resolve_model(raw: RawRequest, catalog: Catalog, strict: bool) -> tuple[str, Model]:
    """The name the caller used, and the model it means."""
    name = request_fields.MODEL.parse(raw.body) or raw.deployment
    if name is None:
        if strict or raw.body.get("model") == "":
            raise parameters.missing_error("model")
        name = catalog.default_model
    return name, raw.principal.resolve_model(catalog, name)


def _choose_moderation_code(called: str, catalog: Catalog) -> str:
    blocked = any(
        pattern_matches(pattern, name)
        for name in catalog.name_candidates(called)
        for pattern in MODERATION_BLOCKED_MODELS
    )
    return MODERATION_CODES[blocked]


def _resolve_quality(body: Mapping[str, Any], model: Model, strict: bool) -> str:
    """The quality that the request names; an unknown word means the default, unless strict."""
    auto = {AUTO: model.quality_aliases.get(AUTO, model.default_quality)}
    if strict:
        return (
            parameters.parse_choice(body, "quality", model.qualities, auto) or model.default_quality
        )
    written = request_fields.QUALITY.parse(body)
    if written is None or written in model.qualities:
        return written or model.default_quality
    known = {alias.lower(): quality for alias, quality in model.quality_aliases.items()}
    known |= {quality.lower(): quality for quality in model.qualities}
    return known.get(written.strip().lower(), model.default_quality)


def _hash_unsent_fields(body: Mapping[str, Any]) -> str | None:
    """A digest of the fields that may ask for a different picture and cannot be sent on, or None.
    It keeps such requests from sharing a cached picture."""
    hashed_fields = {
        name: value
        for name, value in body.items()
        if not (name in FIELDS_NOT_HASHED or name in SIZE_HINT_FIELDS)
        and not (value in EMPTY_VALUES or (is_image_field(name) and is_blank(value)))
    }
    return digest(canonical_json(hashed_fields)) if hashed_fields else None


def _parse_response_mode(body: Mapping[str, Any]) -> tuple[bool, bool]:
    asynchronous = request_fields.ASYNC.parse(body)
    stream = request_fields.STREAM.parse(body)
    if asynchronous and stream:
        raise InvalidRequest(
            "unsupported_parameter", "stream and async cannot be combined.", param="stream"
        )
    return asynchronous, stream


def _build_dedup_keys(raw: RawRequest) -> DedupKeys:
    key = raw.request_headers.idempotency_key
    return DedupKeys(
        body=digest(raw.deployment, canonical_json(dict(raw.body))),
        idempotency_key=None if key is None else digest(raw.principal.user, key),
        is_sdk_retry=raw.request_headers.is_sdk_retry,
        fresh=raw.request_headers.cache.no_cache,
    )


def _list_adjusted(
    body: Mapping[str, Any], request: GenerationRequest, called: str
) -> tuple[str, ...]:
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
        if name not in SUPPORTED_FIELDS
        and value is not None
        and not (is_image_field(name) and is_blank(value))
    ]
    return (*coerced, *ignored)
