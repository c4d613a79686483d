"""Calendar days and months of one time zone, as spans a store script can choose from.

The store's clock decides which day it is; it knows no time zones, so it is handed the spans
around now and picks the one that holds its own time.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Day:
    """One calendar day. Times are Unix milliseconds; `label` is 2026-11-23, `month` 2026-11."""

    label: str
    month: str
    starts_ms: int
    ends_ms: int
    month_ends_ms: int


class Calendar:
    def __init__(self, zone: ZoneInfo) -> None:
        self.zone = zone
        self._days: dict[date, Day] = {}

    def around(self, now: datetime) -> tuple[Day, ...]:
        """Yesterday, today and tomorrow of an aware datetime."""
        today = now.astimezone(self.zone).date()
        return tuple(self.day(today + timedelta(days=shift)) for shift in (-1, 0, 1))

    def day(self, day: date) -> Day:
        if day not in self._days:
            if len(self._days) > 16:
                self._days.clear()
            next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            self._days[day] = Day(
                label=day.isoformat(),
                month=f"{day:%Y-%m}",
                starts_ms=self._midnight(day),
                ends_ms=self._midnight(day + timedelta(days=1)),
                month_ends_ms=self._midnight(next_month),
            )
        return self._days[day]

    def _midnight(self, day: date) -> int:
        return int(datetime.combine(day, time(), self.zone).timestamp() * 1000)
