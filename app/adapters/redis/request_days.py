"""The days around now, which dated scripts are told: the store picks the one of its own time."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from app.domain.calendar import Calendar, CalendarDay

DAY_RETENTION_MS = 40 * 86_400_000
MONTH_RETENTION_MS = 400 * 86_400_000


class RequestDays:
    """Written anew once a day."""

    def __init__(self, calendar: Calendar, clock: Callable[[], datetime]) -> None:
        self._calendar, self._clock = calendar, clock
        self._clock_offset = timedelta()
        self._days: tuple[CalendarDay, ...] = ()
        self._text = b""

    @property
    def text(self) -> bytes:
        """Today, yesterday and tomorrow, a line each, as `today` in the scripts reads them."""
        days = self._calendar.days_around(self._clock() + self._clock_offset)
        if days is not self._days:
            self._days = yesterday, today, tomorrow = days
            self._text = "\n".join(map(_line, (today, yesterday, tomorrow))).encode()
        return self._text

    def follow_store_clock(self, store_ms: int) -> None:
        """This machine's clock is a day or more off: follow the store's."""
        self._clock_offset = datetime.fromtimestamp(store_ms / 1000, UTC) - self._clock()


def window_kept_until_ms(label: str, calendar: Calendar) -> int:
    """When the counters of a day (`2026-11-23`) or a month (`2026-11`) are forgotten."""
    if len(label) == len("2026-11"):
        return _month_kept_until_ms(calendar.day(date.fromisoformat(f"{label}-01")))
    return _day_kept_until_ms(calendar.day(date.fromisoformat(label)))


def _day_kept_until_ms(day: CalendarDay) -> int:
    return day.ends_ms + DAY_RETENTION_MS


def _month_kept_until_ms(day: CalendarDay) -> int:
    return day.month_ends_ms + MONTH_RETENTION_MS


def _line(day: CalendarDay) -> str:
    spans = (day.starts_ms, day.ends_ms, day.month_ends_ms)
    kept = (_day_kept_until_ms(day), _month_kept_until_ms(day))
    return f"{day.label} {day.month} {' '.join(map(str, (*spans, *kept)))}"
