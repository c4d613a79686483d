"""The facts as a file that `koi sandbox --profile FILE` plays back; `app/sandbox/recorded.py` reads
it. What is not known is left out, and the sandbox does as documented there."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.adapters.upstream.error_dialects import CODE_KEYS, MESSAGE_KEYS
from app.probe.facts import ProviderFacts

FORMAT = 1
PLAIN = ("tasks", "default_format", "url_only", "ignores_size", "relative_links", "data_prefix")
SWITCHES = (
    "async_b64",
    "pixel_exact",
    "strict_size",
    "strict_quality",
    "strict_fields",
    "submit_status",
    "revised_prompt",
    "rpm",
    "retry_after_form",
)
IMAGE_FORMATS = ("jpeg", "png")
LONG_PROMPT_LIMIT = 5_999
"""What is known of a provider that refused 6,000 characters."""
SITUATIONS = {
    "bad_size": ("bad_size", "size"),
    "bad_quality": ("bad_quality", "quality"),
    "bad_style": ("style",),
    "bad_n": ("bad_n", "too_many"),
    "bad_prompt": ("long_prompt",),
    "bad_koi_probe": ("unknown_field",),
    "bad_key": ("bad_key",),
    "bad_model": ("bad_model",),
    "bad_json": ("bad_json",),
    "no_prompt": ("no_prompt",),
    "no_route": ("no_route",),
    "empty_balance": ("empty_balance",),
    "unknown_task": ("unknown_task",),
    "malformed_task": ("malformed_task",),
}
"""What the sandbox refuses, and the questions that tell how."""


def profile_toml(facts: ProviderFacts, name: str, model: str) -> str:
    """The file's text."""
    return "".join(f"{line}\n" for line in _lines(facts, name, model))


def _lines(facts: ProviderFacts, name: str, model: str) -> Iterator[str]:
    yield f"# How {name} answered `koi probe`. Play it back: koi sandbox --profile FILE"
    yield f"format = {FORMAT}"
    plain = {key: getattr(facts, key) for key in PLAIN}
    more = {
        "running_status": facts.running_status,
        "forbidden_fields": sorted(facts.forbidden_fields),
        "models": [model],
    }
    yield from _table({"name": name, **plain, **more})
    if facts.task_id is not None:
        form = facts.task_id
        yield "\n[task_id]"
        yield from _table({"prefix": form.prefix, "alphabet": form.alphabet, "length": form.length})
    yield "\n[words]"
    yield from _table(facts.words)
    yield "\n[switches]"
    yield from _table(_switches(facts))
    yield "\n[bodies]"
    yield from _table({key: _json(body) for key, body in facts.bodies.items()})
    for key, (status, body) in _errors(facts).items():
        yield f"\n[errors.{key}]"
        yield from _table({"status": status, "body": _json(body)})


def _switches(facts: ProviderFacts) -> dict[str, Any]:
    switches = {key: getattr(facts, key) for key in SWITCHES}
    if facts.image_format in IMAGE_FORMATS:
        switches["image_format"] = facts.image_format
    if facts.link_ttl_s is not None:
        switches["link_ttl_s"] = float(facts.link_ttl_s)
    if facts.prompt_refused:
        switches["prompt_limit"] = LONG_PROMPT_LIMIT
    if facts.tells_balance:
        switches["billing_route"] = True
    if facts.rpm is not None:
        switches["ratelimit_headers"] = True
    return switches


def _errors(facts: ProviderFacts) -> dict[str, tuple[int, Any]]:
    errors = {}
    for situation, questions in SITUATIONS.items():
        for question in questions:
            if question in facts.refusals:
                errors[situation] = facts.refusals[question]
                break
    if "bad_key" in errors:
        status, body = errors["bad_key"]
        # A provider whose errors differ in `type` sends it for each; others always write the same.
        types = {str(named) for _, seen in errors.values() if (named := _type_of(seen))}
        errors["any"] = (status, envelope(body, own_type=len(types) > 1))
    return errors


def envelope(body: Any, *, own_type: bool) -> Any:
    """The body of an error for any other one: its own words give way to placeholders."""
    if not isinstance(body, Mapping):
        return body
    return {key: _envelope_field(key, value, own_type) for key, value in body.items()}


def _type_of(body: Any) -> Any:
    error = body.get("error") if isinstance(body, Mapping) else None
    return error.get("type") if isinstance(error, Mapping) else None


def _envelope_field(key: str, value: Any, own_type: bool) -> Any:
    if isinstance(value, Mapping):
        return envelope(value, own_type=own_type)
    if key == "type" and own_type:
        return "$type"
    if key in MESSAGE_KEYS or (key == "error" and isinstance(value, str)):
        return "$message"
    if key in CODE_KEYS and isinstance(value, str):
        return "$code"
    return {"param": "$param"}.get(key, value)


def _json(body: Any) -> str:
    return json.dumps(body, ensure_ascii=False)


def _table(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if value is not None:
            yield f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, int | float):
        return str(value)
    # A JSON string is a TOML string but for this one character.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
