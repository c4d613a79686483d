"""Calendar days and months of one time zone, as spans a store script can choose from.

The store's clock decides which day it is. The store knows no time zones, so it gets the spans of
the days around now and picks the one that contains its own time.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """One calendar day. Times are Unix milliseconds; `label` is 2026-11-23, `month` 2026-11."""

    label: str
    month: str
    starts_ms: int
    ends_ms: int
    month_ends_ms: int


class Calendar:
    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._around: tuple[CalendarDay, ...] = ()

    def days_around(self, now: datetime) -> tuple[CalendarDay, ...]:
        """Yesterday, today and tomorrow of an aware datetime; the same tuple all day long."""
        around, now_ms = self._around, now.timestamp() * 1000
        if not around or not around[1].starts_ms <= now_ms < around[1].ends_ms:
            today = now.astimezone(self.zone).date()
            self._around = tuple(self.day(today + timedelta(days=shift)) for shift in (-1, 0, 1))
        return self._around

    def day(self, day: date) -> CalendarDay:
        next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        return CalendarDay(
            label=day.isoformat(),
            month=f"{day:%Y-%m}",
            starts_ms=self._midnight(day),
            ends_ms=self._midnight(day + timedelta(days=1)),
            month_ends_ms=self._midnight(next_month),
        )

    def _midnight(self, day: date) -> int:
        return int(datetime.combine(day, time(), self.zone).timestamp() * 1000)


def format_time(at_ms: int | None) -> str | None:
    """Unix milliseconds as RFC 3339 in UTC, to the second."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
