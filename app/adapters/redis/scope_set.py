"""A principal as the ledger sees it: scope keys, the limits on each, and what is left of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

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
MAX_KNOWN_PRINCIPALS = 1024
_LIMIT_FIELDS: dict[int, tuple[Principal, dict[str, Any]]] = {}
"""By the principal's identity: a hash of the whole value would cost more than its fields."""


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

    @staticmethod
    def limit_fields(principal: Principal) -> dict[str, Any]:
        """For a script. A principal stands for many requests, so its fields are kept."""
        kept = _LIMIT_FIELDS.get(id(principal))
        if kept is None or kept[0] is not principal:
            keys = scope_keys_of(principal.key_id, principal.user, principal.team)
            if len(_LIMIT_FIELDS) >= MAX_KNOWN_PRINCIPALS:
                _LIMIT_FIELDS.clear()
            limits = [_limits(scope.limits) for scope in principal.all_scopes]
            kept = _LIMIT_FIELDS[id(principal)] = principal, {"scope_keys": keys, "limits": limits}
        return dict(kept[1])

    def fields(self) -> dict[str, Any]:
        """The same for scopes that need not be one principal's."""
        return {
            "scope_keys": [scope_key_of(scope) for scope in self.scopes],
            "limits": [_limits(scope.limits) for scope in self.scopes],
        }

    def snapshot(self, texts: Sequence[str], *, unlimited: bool = False) -> LimitSnapshot:
        """`texts` are the `limits` of a script's reply; `unlimited` shows what has no limit too."""
        standing = _Standing(self.scopes, texts, unlimited)
        return LimitSnapshot(standing.statuses, find_tightest=standing.tightest)


class _Standing:
    """How the limits of some scopes stand, unpacked once somebody asks."""

    __slots__ = ("_amounts", "_scopes", "_texts", "_unlimited")

    def __init__(self, scopes: Sequence[Scope], texts: Sequence[str], unlimited: bool) -> None:
        self._scopes, self._texts, self._unlimited = scopes, texts, unlimited
        self._amounts: list[_Amounts] | None = None

    def statuses(self) -> Iterator[LimitStatus]:
        for scope, amounts in zip(self._scopes, self._unpack(), strict=True):
            for kind, window, limit_of, always, read in COUNTED:
                limit = limit_of(scope.limits)
                if limit is None and not (self._unlimited and always):
                    continue
                yield _status(scope, kind, window, limit, read(amounts, limit))

    def tightest(self, kind: LimitKind) -> LimitStatus | None:
        """See `LimitSnapshot.tightest`."""
        least, best = None, None
        counted, house = COUNTED_OF[kind], ScopeKind.HOUSE
        for scope, amounts in zip(self._scopes, self._unpack(), strict=True):
            if scope.kind is house:
                continue
            for one in counted:
                limit = one.limit_of(scope.limits)
                if limit is None:
                    continue
                used, held, reset_s = stands = one.read(amounts, limit)
                room = max(limit - used - held, 0), reset_s
                if least is None or room < least:
                    least, best = room, (scope, kind, one.window, limit, stands)
        return None if best is None else _status(*best)

    def _unpack(self) -> "list[_Amounts]":
        if self._amounts is None:
            ends, *scopes = self._texts
            day_s, month_s = map(int, ends.split())
            self._amounts = [_Amounts(day_s, month_s, *map(int, t.split())) for t in scopes]
        return self._amounts


def _status(
    scope: Scope,
    kind: LimitKind,
    window: LimitWindow,
    limit: int | None,
    stands: tuple[int, int, int],
) -> LimitStatus:
    status = LimitStatus(scope.kind, scope.name, kind, window, limit, *stands)
    return status if scope.raised is None else _with_raise(status, scope.raised)


def _with_raise(status: LimitStatus, raised: LimitRaise) -> LimitStatus:
    by = raised.amounts[LIMIT_FIELDS[status.kind, status.window]]
    if not by or status.limit is None:
        return status
    return status._replace(raised_by=by, raised_until_ms=raised.until_ms)


class _Amounts(NamedTuple):
    """What a script's reply says of one scope, after the seconds to the ends of the windows. The
    last two are there when one of their limits is set."""

    day_s: int
    month_s: int
    day_images: int
    day_micros: int
    day_held_images: int
    day_held_micros: int
    month_images: int
    month_micros: int
    month_held_images: int
    month_held_micros: int
    rate_us: int
    """Until the full burst of requests is available again."""
    running: int
    images_rate_us: int = 0
    day_requests: int = 0


ReadAmounts = Callable[[_Amounts, int | None], tuple[int, int, int]]


class CountedLimit(NamedTuple):
    """A limit, and how what is used and held of it and the seconds to its reset are read, which for
    a rate depends on the limit. One that is not `always` counted is so only when it is set."""

    kind: LimitKind
    window: LimitWindow
    limit_of: Callable[[Limits], int | None]
    always: bool
    read: ReadAmounts


def _counted(
    kind: LimitKind, window: LimitWindow, read: ReadAmounts, *, always: bool = True
) -> CountedLimit:
    return CountedLimit(kind, window, attrgetter(LIMIT_FIELDS[kind, window]), always, read)


def _rate(us: int, per_minute: int | None) -> tuple[int, int, int]:
    """How many of a rate a minute have not been recovered yet."""
    spent = -(-us // max(60_000_000 // per_minute, 1)) if per_minute else 0
    return spent, 0, -(-us // 1_000_000)


_KIND, _WINDOW = LimitKind, LimitWindow
COUNTED = (
    _counted(_KIND.REQUESTS, _WINDOW.MINUTE, lambda a, limit: _rate(a.rate_us, limit)),
    _counted(_KIND.CONCURRENCY, _WINDOW.NOW, lambda a, _: (0, a.running, 0)),
    _counted(_KIND.IMAGES, _WINDOW.DAY, lambda a, _: (a.day_images, a.day_held_images, a.day_s)),
    _counted(
        _KIND.IMAGES, _WINDOW.MONTH, lambda a, _: (a.month_images, a.month_held_images, a.month_s)
    ),
    _counted(_KIND.MONEY, _WINDOW.DAY, lambda a, _: (a.day_micros, a.day_held_micros, a.day_s)),
    _counted(
        _KIND.MONEY, _WINDOW.MONTH, lambda a, _: (a.month_micros, a.month_held_micros, a.month_s)
    ),
    _counted(
        _KIND.IMAGES,
        _WINDOW.MINUTE,
        lambda a, limit: _rate(a.images_rate_us, limit),
        always=False,
    ),
    _counted(_KIND.REQUESTS, _WINDOW.DAY, lambda a, _: (a.day_requests, 0, a.day_s), always=False),
)
COUNTED_OF = {kind: tuple(one for one in COUNTED if one.kind is kind) for kind in LimitKind}


def scope_key_of(scope: Scope) -> str:
    """What names a scope in counters and notices."""
    return HOUSE_SCOPE_KEY if scope.kind is ScopeKind.HOUSE else scope.id


def scope_keys_of(key: str, user: str, team: str | None) -> list[str]:
    """Where an amount is counted; the same as `scope_keys_of` in the scripts' prelude.

    A correction may leave out key or user.
    """
    keys = [f"{kind}:{name}" for kind, name in (("key", key), ("user", user)) if name]
    return [*keys, *([f"team:{team}"] if team is not None else []), HOUSE_SCOPE_KEY]


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
