"""Who asks for what, and within which limits: no part of the ledger, so no loss touches it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from hypothesis import strategies as st
from store_rig import CALENDAR, principal

from app.domain.calendar import Calendar, CalendarDay
from app.domain.limits import Limits
from app.domain.principal import Principal

Who = tuple[str, str, str | None]
PEOPLE: tuple[Who, ...] = (("key_1", "ann", "art"), ("key_2", "ann", "art"), ("key_3", "bob", None))

BODIES = {"a": ((1,), 1), "b": ((2, 1), 7), "c": ((1, 1), 0), "d": ((4,), 1)}
"""What can be asked for: images of each upstream call, and the price of one."""


def scope_keys(who: Who) -> list[str]:
    key, user, team = who
    return [f"key:{key}", f"user:{user}", *([f"team:{team}"] if team else []), "house:house"]


@dataclass(frozen=True)
class Asked:
    """A request as its caller makes it: whose, what, and how it may be recognised. `presence` is
    what processes say of earlier callers when they are asked; without it nobody asks."""

    who: Who
    body: str
    parts: tuple[int, ...]
    unit: int
    key: str | None = None
    is_sdk_retry: bool = False
    fresh: bool = False
    presence: str | None = None

    @property
    def n(self) -> int:
        return sum(self.parts)

    @property
    def replay(self) -> str | None:
        """An Idempotency-Key is a user's own."""
        return self.key and f"{self.who[1]} {self.key}"


class VirtualCalendar(Calendar):
    """A calendar whose today is whatever the machine says; the store's clock stays real."""

    def __init__(self) -> None:
        super().__init__(CALENDAR.zone)
        self.today = date(2026, 11, 29)
        self._days: dict[date, CalendarDay] = {}

    def day(self, day: date) -> CalendarDay:
        if day not in self._days:
            self._days[day] = super().day(day)
        return self._days[day]

    def advance(self, days: int) -> None:
        self.today += timedelta(days=days)

    @property
    def labels(self) -> tuple[str, str]:
        day = self.day(self.today)
        return day.label, day.month

    def days_around(self, now: datetime) -> tuple[CalendarDay, ...]:
        shown = []
        for shift in (-1, 0, 1):
            day = self.day(self.today + timedelta(days=shift))
            real = self.day(now.astimezone(self.zone).date() + timedelta(days=400 * shift))
            shown.append(replace(real, label=day.label, month=day.month))
        return tuple(shown)


@dataclass
class Config:
    """Limits in force and the calendar; both are no part of the ledger and outlive every loss."""

    calendar: VirtualCalendar
    limits: dict[str, Limits] = field(default_factory=dict)

    def principal(self, who: Who) -> Principal:
        given = {
            scope_key.partition(":")[0]: self.limits.get(scope_key) for scope_key in scope_keys(who)
        }
        return principal(**given, names=who)

    def known_to(self, asker: Principal) -> "Config":
        """With the limits that a request on its way was given, which others may have replaced."""
        return Config(self.calendar, {scope.id: scope.limits for scope in asker.all_scopes})

    def bounds(self, scope_key: str) -> Iterator[tuple[str, int | None, int | None]]:
        day, month = self.calendar.labels
        limit = self.limits.get(scope_key, Limits())
        yield day, limit.images_per_day, limit.micros_per_day
        yield month, limit.images_per_month, limit.micros_per_month


def rarely(most: int) -> st.SearchStrategy[int | None]:
    """Mostly no limit, so that many limits together still let something through."""
    return st.sampled_from([None] * 15 * most + [0, *range(most // 3, most + 1)])


limits = st.builds(
    Limits,
    images_per_day=rarely(15),
    images_per_month=rarely(20),
    micros_per_day=rarely(40),
    micros_per_month=rarely(60),
    concurrency=rarely(5),
)
