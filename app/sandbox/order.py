"""The table of models, and the validation of a generation request."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.sandbox.contract import Problem, Profile, Refused
from app.sandbox.references import FIELD, read_references
from app.sandbox.switches import Switches

MAX_BODY_BYTES = 1_000_000
"""Without reference images."""
TOO_LARGE = Problem(413, "request_too_large", "the request body is over 1 MB")
GROK_SIZES = frozenset({"1024x1024", "1536x1024", "1024x1536"})
GROK_QUALITIES = frozenset({"standard", "hd"})
GPT_QUALITIES = frozenset({"auto", "low", "medium", "high"})
_KNOWN_FIELDS = frozenset(
    {"model", "prompt", "size", "quality", "n", "response_format", "async", "deferred", "user"}
)
_SIZE = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
_NAMED_SIDES: Mapping[str, int] = MappingProxyType(
    {"auto": 1024, "1K": 1024, "2K": 2048, "3K": 3072, "4K": 4096}
)
_LARGEST_SIDE = 6240


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model; `sizes` None means any size within the limits of the sides. It takes so many
    `references`, each for `reference_fen` hundredths of a yuan and image."""

    name: str
    modes: str = "both"  # both, async (only), sync (only)
    max_n: int = 10
    sizes: frozenset[str] | None = None
    qualities: frozenset[str] | None = None
    references: int = 0
    reference_fen: int = 0


_ROWS = (
    ModelRow("grok-imagine", sizes=GROK_SIZES, qualities=GROK_QUALITIES),
    ModelRow("gpt-image-2", sizes=GROK_SIZES | {"auto"}, qualities=GPT_QUALITIES),
    ModelRow("gpt-image-2-official", "sync", 10, GROK_SIZES | {"auto"}, GPT_QUALITIES),
    ModelRow("gemini-3.1-flash-image", sizes=GROK_SIZES, qualities=GROK_QUALITIES),
    ModelRow("flux-1.1-pro", sizes=GROK_SIZES | {"1344x768", "768x1344"}),
    ModelRow("doubao-seedream-4.0", max_n=15, references=14),
    ModelRow("doubao-seedream-4.5", max_n=15, references=14, reference_fen=5),
    ModelRow("wan2.7-image", max_n=4),
    ModelRow("wan2.6-t2i", max_n=4),
    ModelRow("wan2.2-t2i-plus", "async", 4),
    ModelRow("wan2.2-t2i-flash", "async", 4),
    ModelRow("wanx2.1-t2i-turbo", "async", 4),
    ModelRow("wanx2.1-t2i-plus", "async", 4),
    ModelRow("qwen-image-2.0", "sync", 6),
    ModelRow("qwen-image-max", "sync", 1),
    ModelRow("qwen-image-plus", max_n=1),
    # Names of models at compatible providers.
    ModelRow("grok-imagine-image"),
    ModelRow("grok-2-image"),
)
MODELS: Mapping[str, ModelRow] = MappingProxyType({row.name: row for row in _ROWS})


@dataclass(frozen=True, slots=True)
class Order:
    """A valid generation request; flag, model and profile decide on `answers_with_task`."""

    model: str
    prompt: str
    width: int
    height: int
    n: int
    response_format: str
    answers_with_task: bool
    quality: str = "standard"
    references: tuple[str, ...] = ()


def read_order(body: bytes, profile: Profile, switches: Switches) -> Order:
    """Validates a request body. Raises Refused."""
    if len(body) > MAX_BODY_BYTES and f'"{FIELD}"'.encode() not in body:
        raise Refused(TOO_LARGE)
    fields = _parse(body)
    model = _model(fields, profile, switches)
    _refuse_fields(fields, model, profile, switches)
    prompt = _prompt(fields, switches)
    n = fields.get("n", 1)
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= model.max_n:
        raise _bad("n", f"n must be an integer from 1 to {model.max_n}")
    if not profile.ignores_size and switches.strict_quality:
        _quality(fields, model)
    width, height = _size(fields, model, profile, switches)
    wants_task = _wants_task(fields, model, profile, switches)
    wanted = fields.get("response_format") or profile.default_format
    if wanted not in {"url", "b64_json"}:
        raise _bad("response_format", "response_format is url or b64_json")
    if profile.url_only or (wants_task and not switches.async_b64):
        wanted = "url"
    quality = str(fields.get("quality") or "standard")
    references = read_references(fields, model.references, n) if model.references else ()
    return Order(model.name, prompt, width, height, n, wanted, wants_task, quality, references)


def _bad(param: str, message: str, status: int = 400) -> Refused:
    return Refused(Problem(status, "invalid_value", message, param=param))


def _parse(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except ValueError:
        raise Refused(Problem(400, "invalid_json", "the body is not JSON")) from None
    if not isinstance(fields, dict):
        raise Refused(Problem(400, "invalid_json", "the body is not a JSON object"))
    return fields


def _model(fields: dict[str, Any], profile: Profile, switches: Switches) -> ModelRow:
    name = fields.get("model")
    if not isinstance(name, str) or not name:
        raise Refused(Problem(400, "missing_parameter", "model is required", param="model"))
    row = MODELS.get(name)
    if row is None and name in profile.models:
        row = ModelRow(name)
    if row is not None:
        return row
    if switches.unknown_model_status == 503:
        message = f"no available channel for model {name}"
        raise Refused(Problem(503, "model_not_found", message, "new_api_error"))
    raise Refused(Problem(404, "model_not_found", f"no model {name}", param="model"))


def _refuse_fields(
    fields: dict[str, Any], model: ModelRow, profile: Profile, switches: Switches
) -> None:
    known = _KNOWN_FIELDS | ({FIELD} if model.references else frozenset())
    for name in fields:
        if name in profile.forbidden_fields:
            raise _bad(name, f"Argument not supported: {name}")
        if switches.strict_fields and name not in known:
            raise _bad(name, f"unknown field {name}", status=422)


def _prompt(fields: dict[str, Any], switches: Switches) -> str:
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Refused(Problem(400, "missing_parameter", "prompt is required", param="prompt"))
    if switches.prompt_limit is not None and len(prompt) > switches.prompt_limit:
        raise _bad("prompt", f"prompt is longer than {switches.prompt_limit} characters")
    return prompt


def _quality(fields: dict[str, Any], model: ModelRow) -> None:
    quality = fields.get("quality")
    if quality is None or model.qualities is None:
        return
    if quality not in model.qualities:
        raise _bad("quality", f"quality is one of {', '.join(sorted(model.qualities))}")


def _size(
    fields: dict[str, Any], model: ModelRow, profile: Profile, switches: Switches
) -> tuple[int, int]:
    size = fields.get("size") or "1024x1024"
    if profile.ignores_size:
        return 1024, 1024
    if not isinstance(size, str) or (model.sizes is not None and size not in model.sizes):
        if switches.strict_size:
            raise _bad("size", f"size {size} is not supported by {model.name}")
        size = "1024x1024"
    if size in _NAMED_SIDES:
        return _NAMED_SIDES[size], _NAMED_SIDES[size]
    match = _SIZE.fullmatch(size)
    if match is None or max(map(int, match.groups())) > _LARGEST_SIDE:
        raise _bad("size", f"size {size} is not understood")
    width, height = int(match[1]), int(match[2])
    return (width, height) if switches.pixel_exact else _one_megapixel(width, height)


def _one_megapixel(width: int, height: int) -> tuple[int, int]:
    """The size that xAI delivers: about one megapixel, sides in multiples of 16."""
    shrink = (1024 * 1024 / (width * height)) ** 0.5
    return int(width * shrink) // 16 * 16, int(height * shrink) // 16 * 16


def _wants_task(
    fields: dict[str, Any], model: ModelRow, profile: Profile, switches: Switches
) -> bool:
    flag = fields.get("deferred" if profile.tasks == "deferred" else "async", False)
    if flag is not None and not isinstance(flag, bool):
        raise _bad("async", "async is a boolean")
    if profile.tasks == "never" or model.modes == "sync":
        return False
    if profile.tasks == "always" or model.modes == "async" or switches.force_task_on_sync:
        return True
    return bool(flag)
