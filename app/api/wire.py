"""From a request body to what is asked: understand once, coerce by catalog, report changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.api import fields
from app.api.controls import Controls
from app.api.json_reader import SAFE_NAME, canonical
from app.api.settings import EdgeSettings
from app.domain.catalog import Catalog, Model
from app.domain.errors import InvalidRequest, ModelNotFound
from app.domain.images import GenerationRequest, digest
from app.domain.ledger import Repeat
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
STEERING = frozenset(
    {
        "api_base", "api_key", "api_type", "api_version", "base_model", "base_url",
        "callback_url", "custom_llm_provider", "endpoint", "extra_headers", "headers", "host",
        "mock_response", "organization", "provider", "proxies", "proxy", "target_url",
        "upstream", "upstream_url", "url", "webhook", "webhook_url",
    }
)  # fmt: skip
"""Fields with which other gateways let a caller choose where the upstream key goes (S1)."""

FORMATS = ("url", "b64_json")
MOST_FIELDS = 100
LONGEST_MODEL = 256
LONGEST_USER = 512
MOST_PARTIAL_IMAGES = 3


@dataclass(frozen=True, slots=True)
class Understood:
    """One request, understood. `adjusted` names the fields that were coerced or ignored;
    `steered` is true when some of them tried to choose the way out."""

    ask: Ask
    asynchronous: bool
    stream: bool
    adjusted: tuple[str, ...]
    steered: bool


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
    request = GenerationRequest(
        model=model.name,
        prompt=fields.prompt(body, model.max_prompt_chars),
        n=fields.whole(body, "n", 1, edge.max_images) or 1,
        size=_choice(body, "size", model.sizes, model.size_aliases, edge.strict),
        quality=_choice(body, "quality", model.qualities, model.quality_aliases, edge.strict),
    )
    response_format = fields.word(body, "response_format", FORMATS, {}) or _default_format(called)
    asynchronous, stream = _manner(body)
    _check_accepted(body)
    return Understood(
        ask=Ask(request, _repeat(asked), asked.controls.cache, response_format),
        asynchronous=asynchronous,
        stream=stream,
        adjusted=_adjusted(body, request, called),
        steered=not STEERING.isdisjoint(body),
    )


def _check_names(body: Mapping[str, Any], strict: bool) -> None:
    if len(body) > MOST_FIELDS:
        raise InvalidRequest("unknown_parameter", f"The body has more than {MOST_FIELDS} fields.")
    if not strict:
        return
    for name in body:
        if name in UNDERSTOOD or name in ACCEPTED:
            continue
        shown = name if SAFE_NAME.fullmatch(name) else None
        if name in DOCUMENTED:
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
    model = catalog.find(name)
    if model is None or not asked.principal.may_use(model.name):
        raise ModelNotFound(
            "The model does not exist or this key may not use it; see GET /v1/models.",
            param="model",
        )
    return name, model


def _choice(
    body: Mapping[str, Any],
    name: str,
    known: tuple[str, ...],
    aliases: Mapping[str, str],
    strict: bool,
) -> str:
    return fields.word(body, name, known, {} if strict else aliases) or known[0]


def _default_format(called: str) -> str:
    """OpenAI's gpt-image models only ever answered base64, so their callers read nothing else."""
    return "b64_json" if called.startswith("gpt-image") else "url"


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
        if body.get(name) not in (None, "", value)
    ]
    if not body.get("model") and called != request.model:
        coerced.append("model")
    ignored = [name for name, value in body.items() if name not in UNDERSTOOD and value is not None]
    return (*coerced, *ignored)
