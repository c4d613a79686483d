"""Limits, the scopes they bind, and what is left of them.

Refusals that keep one caller from using up what is everybody's.
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum

from app.domain.errors import AdmissionRefused


@dataclass(frozen=True, slots=True)
class Limits:
    """What a scope may use; `None` is unlimited. Money in micro-units of the catalog's currency."""

    images_per_day: int | None = None
    images_per_month: int | None = None
    micros_per_day: int | None = None
    micros_per_month: int | None = None
    requests_per_minute: int | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and (isinstance(limit, bool) or limit < 0):
                raise ValueError(f"{field.name} must be a whole number, 0 or more")

    @property
    def has_budget(self) -> bool:
        return self.micros_per_day is not None or self.micros_per_month is not None


class ScopeKind(StrEnum):
    KEY = "key"
    USER = "user"
    TEAM = "team"
    HOUSE = "house"


@dataclass(frozen=True, slots=True)
class Scope:
    """One holder of limits: a key, a user, a team, or the house (the whole deployment)."""

    kind: ScopeKind
    name: str
    limits: Limits

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class SpendingStop:
    """An operator's word that a scope may buy nothing until it is resumed; what runs goes on, and
    what is cached is answered. `scope` is a `Scope.id`, `at_ms` Unix milliseconds."""

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


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """One limit of one scope as it stands: images, requests, jobs or micro-units.

    `used` is settled, `held` is reserved; `reset_s` is seconds until the window ends (requests:
    until the pace is fully recovered). `limit` is None where the scope is unlimited.
    """

    scope: ScopeKind
    name: str
    kind: LimitKind
    window: LimitWindow
    limit: int | None
    used: int
    held: int
    reset_s: int

    @property
    def remaining(self) -> int | None:
        return None if self.limit is None else max(self.limit - self.used - self.held, 0)


@dataclass(frozen=True, slots=True)
class LimitSnapshot:
    """All allowances that bind one principal, at one moment."""

    statuses: tuple[LimitStatus, ...] = ()

    def after_settlement(self, n: int, billed: int, unit_micros: int | None) -> "LimitSnapshot":
        """This standing once a reservation of `n` images has become `billed` ones."""
        per_image = {LimitKind.IMAGES: 1, LimitKind.MONEY: unit_micros or 0}
        return LimitSnapshot(
            tuple(
                replace(
                    a,
                    used=a.used + billed * per_image[a.kind],
                    held=a.held - n * per_image[a.kind],
                )
                if a.kind in per_image
                else a
                for a in self.statuses
            )
        )

    def tightest(self, kind: LimitKind) -> LimitStatus | None:
        """The allowance of this meter that will refuse first, of those that are the caller's to
        know: what the house used is nobody's business but the operator's."""
        shown = [a for a in self.statuses if a.scope is not ScopeKind.HOUSE]
        bound = [a for a in shown if a.kind is kind and a.limit is not None]
        return min(bound, key=lambda a: (a.remaining or 0, a.reset_s), default=None)

    @property
    def binding(self) -> LimitStatus | None:
        """Of all limits the one of which the smallest share is left; None when unlimited."""
        bound = [a for a in self.statuses if a.limit is not None]
        return min(bound, key=lambda a: (_share_left(a), -a.reset_s), default=None)


def _share_left(allowance: LimitStatus) -> float:
    return (allowance.remaining or 0) / allowance.limit if allowance.limit else 0.0


@dataclass(frozen=True, slots=True)
class FreeUseCaps:
    """What a user may have for nothing in an hour; None is unlimited.

    `replays` are answers of the cache that an Idempotency-Key is bound to; `refusals` are requests
    that the provider got, refused, and did not charge for.
    """

    replays: int | None = None
    refusals: int | None = None


NO_CAPS = FreeUseCaps()


class TooManyWaiting(AdmissionRefused):
    """One caller's share of those who wait, or are being answered, is taken."""

    code = "too_many_waiting"
    retryable = True


class TooManyRefusals(AdmissionRefused):
    """The provider refused too many of a user's requests within the hour, each for free."""

    code = "too_many_refusals"
