"""The values each label may have: closed sets, so that no caller can multiply the series."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Generic, TypeVar

from app.domain.cache import CacheOutcome
from app.domain.errors import GatewayError
from app.domain.failure import INVALID_CODES, UPSTREAM_CODES
from app.domain.job import OPEN_STATES
from app.domain.webhooks import DeliveryState
from app.telemetry.metric_specs import Label

OTHER = "other"
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
STATUSES = frozenset(str(status.value) for status in HTTPStatus)
OPERATIONS = frozenset({"generate", "submit", "poll", "fetch"})
UPSTREAM_OUTCOMES = frozenset({"ok", "troubled", *UPSTREAM_CODES})
BREAKER_CODES = ("upstream_auth", "upstream_billing")
"""The provider refuses our key, or our balance: for these the breaker opens."""
DELIVERY_OUTCOMES = tuple(
    state for state in DeliveryState if state not in (DeliveryState.DROPPED, DeliveryState.KEPT)
)
JOB_ENDINGS = frozenset({"completed", "failed", "unknown"})
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


def list_failure_codes() -> frozenset[str]:
    """Every error code of the domain."""
    return INVALID_CODES | UPSTREAM_CODES.keys() | set(_walk_codes(GatewayError))


def _walk_codes(kind: type[GatewayError]) -> Iterable[str]:
    yield kind.code
    for narrower in kind.__subclasses__():
        yield from _walk_codes(narrower)


@dataclass(frozen=True, slots=True)
class LabelValues:
    """The values known only at the start, such as models and routes.

    Any other value is counted as "other".
    """

    models: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset({"main"})
    currency: str = "CNY"
    routes: frozenset[str] = frozenset()
    scripts: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    codes: frozenset[str] = field(default_factory=list_failure_codes)
    version: str = "unknown"

    def allowed(self, label: Label) -> frozenset[str]:
        fixed = FIXED_VALUES.get(label)
        return fixed if fixed is not None else CONFIGURED_VALUES[label](self)


FIXED_VALUES: dict[Label, frozenset[str]] = {
    Label.METHOD: METHODS,
    Label.STATUS: STATUSES,
    Label.CACHE: frozenset({*CacheOutcome, "none"}),
    Label.STATE: frozenset(state.name.lower() for state in OPEN_STATES),
    Label.OPERATION: OPERATIONS,
    Label.ENDING: JOB_ENDINGS,
    Label.RECALLED: frozenset(CacheOutcome),
    Label.ANSWERED: UPSTREAM_OUTCOMES,
    Label.STORED: STORE_OUTCOMES,
    Label.EVENT: PROVIDER_EVENTS,
    Label.MESSAGE: frozenset({"webhook", "notice"}),
    Label.DELIVERY: frozenset(DELIVERY_OUTCOMES),
    Label.REFUSAL: frozenset(BREAKER_CODES),
}
CONFIGURED_VALUES: dict[Label, Callable[[LabelValues], frozenset[str]]] = {
    Label.MODEL: lambda v: v.models,
    Label.PROVIDER: lambda v: v.providers,
    Label.CURRENCY: lambda v: frozenset({v.currency}),
    Label.ROUTE: lambda v: v.routes,
    Label.CODE: lambda v: v.codes,
    Label.LOOP: lambda v: v.loops,
    Label.SCRIPT: lambda v: v.scripts,
    Label.VERSION: lambda v: frozenset({v.version}),
}

Child = TypeVar("Child")


class LabelledMetric(Generic[Child]):
    """The children of one series by their label values, each created once."""

    def __init__(
        self, bind: Callable[[tuple[str, ...]], Child], allowed: tuple[frozenset[str], ...]
    ) -> None:
        self._bind = bind
        self._allowed = allowed
        self._children: dict[tuple[str, ...], Child] = {}

    def child(self, *values: str) -> Child:
        found = self._children.get(values)
        return found if found is not None else self._bind_child(values)

    def _bind_child(self, values: tuple[str, ...]) -> Child:
        pairs = zip(values, self._allowed, strict=True)
        known = tuple(value if value in allowed else OTHER for value, allowed in pairs)
        if known not in self._children:
            self._children[known] = self._bind(known)
        return self._children[known]
