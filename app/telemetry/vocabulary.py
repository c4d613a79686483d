"""The words a label may take: closed sets, so that no caller can multiply the series."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Generic, TypeVar

from app.domain.codes import INVALID_CODES, UPSTREAM_CODES
from app.domain.errors import GatewayError
from app.domain.job import JobState
from app.domain.recall import CacheOutcome
from app.telemetry.series import Axis

OTHER = "other"
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
STATUSES = frozenset(str(status.value) for status in HTTPStatus)
OPERATIONS = frozenset({"generate", "submit", "poll", "fetch"})
ANSWERS = frozenset({"ok", "troubled", *UPSTREAM_CODES})
ALARMING = ("upstream_auth", "upstream_billing")
"""What the provider says of our key and our balance."""
ENDINGS = frozenset({"completed", "failed", "unknown"})
OPEN_STATES = tuple(state for state in JobState if not state.terminal)
STORE_OUTCOMES = frozenset(
    {
        "ok", "error", "timeout", "connection", "pool", "breaker", "auth", "busy", "loading",
        "readonly", "oom", "misconf", "noreplicas", "masterdown", "clusterdown",
    }
)  # fmt: skip
PROVIDER_EVENTS = frozenset(
    {
        "encoded_answer", "lenient_json", "reattempt", "silent_moderation", "wrong_content_type",
    }
)  # fmt: skip


def failure_codes() -> frozenset[str]:
    """Every code the domain knows."""
    return INVALID_CODES | UPSTREAM_CODES.keys() | set(_codes(GatewayError))


def _codes(kind: type[GatewayError]) -> Iterable[str]:
    yield kind.code
    for narrower in kind.__subclasses__():
        yield from _codes(narrower)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What is only known at the start: models of the catalog, routes of the edge, and so on.

    Anything else is counted under "other".
    """

    models: frozenset[str] = frozenset()
    currency: str = "CNY"
    routes: frozenset[str] = frozenset()
    scripts: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    codes: frozenset[str] = field(default_factory=failure_codes)
    version: str = "unknown"

    def words(self, axis: Axis) -> frozenset[str]:
        fixed = FIXED.get(axis)
        return fixed if fixed is not None else CHOSEN[axis](self)


FIXED: dict[Axis, frozenset[str]] = {
    Axis.METHOD: METHODS,
    Axis.STATUS: STATUSES,
    Axis.CACHE: frozenset({*CacheOutcome, "none"}),
    Axis.STATE: frozenset(state.name.lower() for state in OPEN_STATES),
    Axis.OPERATION: OPERATIONS,
    Axis.ENDING: ENDINGS,
    Axis.RECALLED: frozenset(CacheOutcome),
    Axis.ANSWERED: ANSWERS,
    Axis.STORED: STORE_OUTCOMES,
    Axis.EVENT: PROVIDER_EVENTS,
    Axis.REFUSAL: frozenset(ALARMING),
}
CHOSEN: dict[Axis, Callable[[Vocabulary], frozenset[str]]] = {
    Axis.MODEL: lambda v: v.models,
    Axis.CURRENCY: lambda v: frozenset({v.currency}),
    Axis.ROUTE: lambda v: v.routes,
    Axis.CODE: lambda v: v.codes,
    Axis.LOOP: lambda v: v.loops,
    Axis.SCRIPT: lambda v: v.scripts,
    Axis.VERSION: lambda v: frozenset({v.version}),
}

Meter = TypeVar("Meter")


class Family(Generic[Meter]):
    """The children of one series by their label values, bound once."""

    def __init__(
        self, bind: Callable[[tuple[str, ...]], Meter], words: tuple[frozenset[str], ...]
    ) -> None:
        self._bind = bind
        self._words = words
        self._children: dict[tuple[str, ...], Meter] = {}

    def child(self, *values: str) -> Meter:
        found = self._children.get(values)
        return found if found is not None else self._admit(values)

    def _admit(self, values: tuple[str, ...]) -> Meter:
        pairs = zip(values, self._words, strict=True)
        known = tuple(value if value in words else OTHER for value, words in pairs)
        if known not in self._children:
            self._children[known] = self._bind(known)
        return self._children[known]
