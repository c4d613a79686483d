"""A principal as the ledger sees it: scope keys, the limits on each, and what is left of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import orjson

from app.domain.limits import (
    LIMIT_FIELDS,
    LimitKind,
    LimitRaise,
    Limits,
    LimitSnapshot,
    LimitStatus,
    LimitWindow,
    Scope,
    ScopeKind,
)
from app.domain.principal import Principal

HOUSE_SCOPE_KEY = "house"
MAX_KNOWN_LIMITS = 1024
_Amounts = tuple[LimitKind, LimitWindow, int | None, int, int, int]


@dataclass(frozen=True, slots=True)
class ScopeSet:
    """The scopes of a principal in the order of their scope keys: key, user, team, house.

    Every job is counted in all of them, limited or not, so that usage is known and a limit that is
    set later finds the counters right.
    """

    scopes: tuple[Scope, ...]

    @classmethod
    def of(cls, principal: Principal) -> "ScopeSet":
        return cls(principal.all_scopes)

    @property
    def has_budget(self) -> bool:
        return any(scope.limits.has_budget for scope in self.scopes)

    def limit_fields(self, principal: Principal) -> dict[str, Any]:
        return {
            "scope_keys": scope_keys_of(principal.key_id, principal.user, principal.team),
            "limits": [_limits(scope.limits) for scope in self.scopes],
        }

    def fields(self) -> dict[str, Any]:
        """The same for scopes that need not be one principal's."""
        return {
            "scope_keys": [scope_key_of(scope) for scope in self.scopes],
            "limits": [_limits(scope.limits) for scope in self.scopes],
        }

    def snapshot(self, texts: Sequence[str], *, unlimited: bool = False) -> LimitSnapshot:
        """`texts` are the `limits` of a script's reply; `unlimited` shows what has no limit too."""
        return LimitSnapshot(partial(self._statuses, texts, unlimited))

    def _statuses(self, texts: Sequence[str], unlimited: bool) -> Iterator[LimitStatus]:
        day_s, month_s = map(int, texts[0].split())
        for scope, text in zip(self.scopes, texts[1:], strict=True):
            kind, name, raised = scope.kind, scope.name, scope.raised
            for amounts in _amounts(scope.limits, text, day_s, month_s):
                if amounts[2] is not None or unlimited:
                    status = LimitStatus(kind, name, *amounts)
                    yield status if raised is None else _with_raise(status, raised)


def _with_raise(status: LimitStatus, raised: LimitRaise) -> LimitStatus:
    by = raised.amounts[LIMIT_FIELDS[status.kind, status.window]]
    if not by or status.limit is None:
        return status
    return status._replace(raised_by=by, raised_until_ms=raised.until_ms)


def _amounts(limits: Limits, text: str, day_s: int, month_s: int) -> Iterator[_Amounts]:
    """Each limit with what is used and held of it, and the seconds to its reset."""
    day_images, day_micros, day_held, day_held_micros, *more = map(int, text.split())
    images, micros, held, held_micros, spent_us, running, *rates = more
    rate = limits.requests_per_minute
    made = _spent(spent_us, rate)
    kind, window = LimitKind, LimitWindow
    yield kind.REQUESTS, window.MINUTE, rate, made, 0, _ceil_s(spent_us)
    yield kind.CONCURRENCY, window.NOW, limits.concurrency, 0, running, 0
    yield kind.IMAGES, window.DAY, limits.images_per_day, day_images, day_held, day_s
    yield kind.IMAGES, window.MONTH, limits.images_per_month, images, held, month_s
    yield kind.MONEY, window.DAY, limits.micros_per_day, day_micros, day_held_micros, day_s
    yield kind.MONEY, window.MONTH, limits.micros_per_month, micros, held_micros, month_s
    if rates:
        images_us, requests = rates
        if (rate := limits.images_per_minute) is not None:
            yield kind.IMAGES, window.MINUTE, rate, _spent(images_us, rate), 0, _ceil_s(images_us)
        if limits.requests_per_day is not None:
            yield kind.REQUESTS, window.DAY, limits.requests_per_day, requests, 0, day_s


def _spent(us: int, rate: int | None) -> int:
    """How many of a rate a minute have not been recovered yet."""
    return -(-us // max(60_000_000 // rate, 1)) if rate else 0


def _ceil_s(us: int) -> int:
    return -(-us // 1_000_000)


def scope_key_of(scope: Scope) -> str:
    """What names a scope in counters and notices."""
    return HOUSE_SCOPE_KEY if scope.kind is ScopeKind.HOUSE else scope.id


def scope_keys_of(key: str, user: str, team: str | None) -> list[str]:
    """Where an amount is counted; the same as `scope_keys_of` in the scripts' prelude.

    A correction may leave out key or user.
    """
    keys = [f"{kind}:{name}" for kind, name in (("key", key), ("user", user)) if name]
    return [*keys, *([f"team:{team}"] if team is not None else []), HOUSE_SCOPE_KEY]


@lru_cache(MAX_KNOWN_LIMITS)
def _limits(limits: Limits) -> orjson.Fragment:
    """The limits that are set, as scripts read them."""
    named = {
        "requests": limits.requests_per_minute,
        "concurrency": limits.concurrency,
        "images_day": limits.images_per_day,
        "images_month": limits.images_per_month,
        "micros_day": limits.micros_per_day,
        "micros_month": limits.micros_per_month,
        "images_minute": limits.images_per_minute,
        "requests_day": limits.requests_per_day,
    }
    given = {name: limit for name, limit in named.items() if limit is not None}
    return orjson.Fragment(orjson.dumps(given))
