"""Limits, the scopes that have them, what is left of them, and the refusals of free use."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import NamedTuple

from app.domain.errors import AdmissionRefused, InsufficientQuota, RateLimited

MAX_COUNT = 10**12
"""Of whatever is counted or limited: the store's scripts write much bigger numbers as `1e+15`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a scope may use; None is unlimited. Money in micro-units of the catalog's currency."""

    images_per_day: int | None = None
    images_per_month: int | None = None
    micros_per_day: int | None = None
    micros_per_month: int | None = None
    requests_per_minute: int | None = None
    concurrency: int | None = None
    images_per_minute: int | None = None
    requests_per_day: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and (isinstance(limit, bool) or limit < 0):
                raise ValueError(f"{field.name} must be a whole number, 0 or more")

    @property
    def has_budget(self) -> bool:
        return self.micros_per_day is not None or self.micros_per_month is not None


@dataclass(frozen=True, slots=True)
class LimitRaise:
    """What a user, team or key may use beyond its limits until `until_ms` (the store's clock), and
    why. Of `by`, what is None is not raised; a limit that is not set stays unlimited."""

    by: Limits
    until_ms: int
    reason: str

    def apply_to(self, limits: Limits) -> Limits:
        return Limits(
            **{name: _raised(getattr(limits, name), by) for name, by in self.amounts.items()}
        )

    @property
    def amounts(self) -> dict[str, int | None]:
        return {field.name: getattr(self.by, field.name) for field in fields(Limits)}


def _raised(limit: int | None, by: int | None) -> int | None:
    return None if limit is None else limit + (by or 0)


class ScopeKind(StrEnum):
    KEY = "key"
    USER = "user"
    TEAM = "team"
    HOUSE = "house"


@dataclass(frozen=True, slots=True)
class Scope:
    """One holder of limits: a key, a user, a team, or the house, which is the whole deployment."""

    kind: ScopeKind
    name: str
    limits: Limits
    raised: LimitRaise | None = None
    """The raise in force, which is part of `limits` already."""

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class SpendingStop:
    """An operator's order that a scope spends nothing until it is resumed. Running jobs go on, and
    the cache still answers. `scope` is a `Scope.id`, `at_ms` Unix milliseconds."""

    scope: str
    reason: str
    at_ms: int


class LimitKind(StrEnum):
    REQUESTS = "requests"
    CONCURRENCY = "concurrency"
    IMAGES = "images"
    MONEY = "money"


class LimitWindow(StrEnum):
    MINUTE = "minute"
    DAY = "day"
    MONTH = "month"
    NOW = "now"


LIMIT_FIELDS = {
    (LimitKind.REQUESTS, LimitWindow.MINUTE): "requests_per_minute",
    (LimitKind.REQUESTS, LimitWindow.DAY): "requests_per_day",
    (LimitKind.CONCURRENCY, LimitWindow.NOW): "concurrency",
    (LimitKind.IMAGES, LimitWindow.MINUTE): "images_per_minute",
    (LimitKind.IMAGES, LimitWindow.DAY): "images_per_day",
    (LimitKind.IMAGES, LimitWindow.MONTH): "images_per_month",
    (LimitKind.MONEY, LimitWindow.DAY): "micros_per_day",
    (LimitKind.MONEY, LimitWindow.MONTH): "micros_per_month",
}
"""What the fields of `Limits` limit."""


class LimitStatus(NamedTuple):
    """What is used of one limit of one scope: images, requests, jobs or micro-units.

    `used` is settled, `held` is reserved. `reset_s` is the seconds until the window ends, or for a
    rate a minute until the full burst is available again. `limit` None means unlimited. A tuple,
    because each request makes two dozen.
    """

    scope: ScopeKind
    name: str
    kind: LimitKind
    window: LimitWindow
    limit: int | None
    used: int
    held: int
    reset_s: int
    raised_by: int = 0
    raised_until_ms: int | None = None
    """What of the limit is a raise, and until when."""

    @property
    def remaining(self) -> int | None:
        return None if self.limit is None else max(self.limit - self.used - self.held, 0)

    def is_known(self, *, priced: bool) -> bool:
        """Whether `used` and `held` are the whole of it. While models have no price money is not,
        unless a budget lets none of them through."""
        return priced or self.limit is not None or self.kind is not LimitKind.MONEY


class SettledReservation(NamedTuple):
    """A reservation of `n` images that was settled with `billed` images."""

    n: int
    billed: int
    unit_micros: int

    def apply_to(self, status: LimitStatus) -> LimitStatus:
        """What is left of a limit afterwards."""
        if status.kind is LimitKind.IMAGES:
            each = 1
        elif status.kind is LimitKind.MONEY:
            each = self.unit_micros
        else:
            return status
        if status.window is LimitWindow.MINUTE:
            return status._replace(used=max(status.used - (self.n - self.billed), 0))
        used, held = status.used + self.billed * each, status.held - self.n * each
        return status._replace(used=used, held=held)


StatusReader = Callable[[], Iterable[LimitStatus]]
"""Makes all statuses."""
FindTightest = Callable[[LimitKind], LimitStatus | None]


class LimitSnapshot:
    """All limits of one principal at one moment: their statuses, or what makes these once somebody
    asks. Of most snapshots nobody does, or for the tightest ones only: `find_tightest` answers
    that, before the settlement, for less."""

    __slots__ = ("_find_tightest", "_known", "_read", "_settlement")

    def __init__(
        self,
        statuses: tuple[LimitStatus, ...] | StatusReader = (),
        settlement: SettledReservation | None = None,
        find_tightest: FindTightest | None = None,
    ) -> None:
        self._known: tuple[LimitStatus, ...] | None = None
        self._read = statuses if callable(statuses) else lambda: statuses
        self._settlement, self._find_tightest = settlement, find_tightest

    @property
    def statuses(self) -> tuple[LimitStatus, ...]:
        if self._known is None:
            found = self._read()
            if self._settlement is not None:
                found = map(self._settlement.apply_to, found)
            self._known = tuple(found)
        return self._known

    def after_settlement(self, n: int, billed: int, unit_micros: int | None) -> "LimitSnapshot":
        """This snapshot after a reservation of `n` images was settled with `billed` images."""
        settlement = SettledReservation(n, billed, unit_micros or 0)
        # What was held is used now: then the same limit is the tightest.
        same = self.tightest if n == billed else None
        return LimitSnapshot(lambda: self.statuses, settlement, same)

    def tightest(self, kind: LimitKind) -> LimitStatus | None:
        """The limit of this kind that will refuse first. The house's limits are left out: what the
        whole deployment uses is for the operator only."""
        if self._find_tightest is not None:
            found = self._find_tightest(kind)
            moved = self._settlement
            return found if found is None or moved is None else moved.apply_to(found)
        bound = [
            status
            for status in self.statuses
            if status.kind is kind
            and status.limit is not None
            and status.scope is not ScopeKind.HOUSE
        ]
        return min(bound, key=_room_left, default=None)

    @property
    def binding(self) -> LimitStatus | None:
        """Of all limits the one of which the smallest share is left; None when unlimited."""
        bound = [status for status in self.statuses if status.limit is not None]
        return min(bound, key=lambda status: (_share_left(status), -status.reset_s), default=None)


def _room_left(status: LimitStatus) -> tuple[int, int]:
    return status.remaining or 0, status.reset_s


def _share_left(status: LimitStatus) -> float:
    return (status.remaining or 0) / status.limit if status.limit else 0.0


@dataclass(frozen=True, slots=True)
class FreeUseCaps:
    """What a user may have for free in an hour; None is unlimited.

    `replays` are cache answers that are kept for an Idempotency-Key; `refusals` are requests that
    the provider received, refused, and did not charge.
    """

    replays: int | None = None
    refusals: int | None = None


NO_CAPS = FreeUseCaps()


class TooManyWaiting(AdmissionRefused):
    """One caller has too many requests waiting or being answered in this process."""

    code = "too_many_waiting"
    retryable = True


class TooManyRefusals(AdmissionRefused):
    """The provider refused too many of a user's requests within the hour, each for free."""

    code = "too_many_refusals"


class UsedUp(AdmissionRefused):
    """Until `until_ms` (Unix) a limit refuses this, whatever becomes of what still runs."""

    def __init__(self, message: str, until_ms: int) -> None:
        super().__init__(message)
        self.until_ms = until_ms


class QuotaUsedUp(UsedUp, InsufficientQuota):
    """What is settled refuses it: that does not fall by itself."""


class ImageRateLimited(RateLimited):
    """Too many images per minute. Another request may ask for fewer and fit."""


class DailyRequestsUsed(UsedUp, RateLimited):
    """All requests of the day are made. No client should wait for hours, so it has no
    `retry_after_s`."""
