"""Every behaviour of the sandbox provider that a test or an operator may change."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

# The provider documents that there are limits, not which: these numbers are guesses.
DOCUMENTED_LIMITS: Mapping[str, Any] = MappingProxyType({"rpm": 60, "burst": 5, "concurrency": 10})


class UnknownSwitch(ValueError):
    """A switch name, or the type of a value, that the sandbox provider does not know."""


@dataclass(frozen=True, slots=True)
class Switches:
    """Seconds are real seconds; the time scale multiplies drawn latencies only."""

    # Time
    latency_s: float | None = None
    latency_factor: float = 1.0
    tail_rate: float = 0.0
    api_latency: bool = True
    # Limits per key, None = off
    rpm: int | None = None
    burst: int | None = None
    concurrency: int | None = None
    polls_count: bool = True
    retry_after_form: str = "rotate"
    ratelimit_headers: bool = False
    # Validation
    strict_size: bool = True
    strict_quality: bool = True
    strict_fields: bool = False
    prompt_limit: int | None = None
    unknown_model_status: int = 404
    balance_status: int = 402
    # Tasks
    force_task_on_sync: bool = False
    submit_status: int = 200
    async_b64: bool = True
    done_shape: str = "flat"
    failed_shape: str = "object"
    missing_form: str = "404"
    status_words: str = "documented"
    progress_form: str = "int"
    result_in_fail_reason: bool = False
    task_ttl_s: float = 86_400.0
    # Results
    link_ttl_s: float = 86_400.0
    fresh_links: bool = False
    cdn_status: int | None = None
    image_format: str = "jpeg"
    pixel_exact: bool = True
    revised_prompt: str = "present"
    created_as_text: bool = False
    picture_style: str = "koi"
    # Faults and money
    fault_rate: float = 0.0
    fault_names: tuple[str, ...] = ("500", "502-html", "429-int", "reset-after-accept")
    fault_bills: str = "table"
    moderation_billed: bool = False
    failed_billed: bool = False
    billing_route: bool = False

    def changed(self, changes: Mapping[str, Any]) -> "Switches":
        """A copy with changes. Raises UnknownSwitch on a bad name, type or word."""
        known = {field.name: getattr(Switches(), field.name) for field in fields(self)}
        clean = dict(changes)
        for name, value in changes.items():
            if name not in known:
                raise UnknownSwitch(f"no switch is called {name!r}; known: {', '.join(known)}")
            if isinstance(value, list):
                clean[name] = tuple(value)
            _check(name, clean[name], known[name])
        return replace(self, **clean)


_OPTIONAL_NUMBERS = frozenset(
    {"latency_s", "rpm", "burst", "concurrency", "prompt_limit", "cdn_status"}
)
_WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "retry_after_form": frozenset(
            {"rotate", "none", "int", "float", "date", "ms", "long", "garbage", "huge"}
        ),
        "done_shape": frozenset({"flat", "bare", "result", "data", "code", "results", "images"}),
        "failed_shape": frozenset({"object", "string", "fail_reason", "code"}),
        "missing_form": frozenset({"404", "400", "unknown"}),
        "status_words": frozenset({"documented", "openai"}),
        "progress_form": frozenset({"int", "percent", "fraction"}),
        "image_format": frozenset({"jpeg", "png"}),
        "revised_prompt": frozenset({"present", "absent", "empty"}),
        "picture_style": frozenset({"koi", "plain"}),
        "fault_bills": frozenset({"table", "always", "never"}),
    }
)


def _check(name: str, value: Any, default: Any) -> None:
    if name in _OPTIONAL_NUMBERS:
        right = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    elif isinstance(default, float):
        right = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        right = type(value) is type(default)
    if not right:
        raise UnknownSwitch(f"switch {name!r} does not take {value!r}")
    if name in _WORDS and value not in _WORDS[name]:
        raise UnknownSwitch(f"switch {name!r} is one of {', '.join(sorted(_WORDS[name]))}")
