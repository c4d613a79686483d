"""Spans of time that people name: today, yesterday, the last seven days, this month."""

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from app.domain.calendar import Calendar


class UsagePeriod(StrEnum):
    TODAY = "today"
    YESTERDAY = "yesterday"
    WEEK = "7d"
    """Today and the six days before it."""
    MONTH = "month"
    """From the first of this month."""


def span_of(period: UsagePeriod, calendar: Calendar, now_ms: int) -> tuple[int, int]:
    """Unix milliseconds, the second exclusive."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    today = now.astimezone(calendar.zone).date()
    first = _first_day(period, today)
    last = first if period is UsagePeriod.YESTERDAY else today
    return calendar.day(first).starts_ms, min(calendar.day(last).ends_ms, now_ms + 1)


def _first_day(period: UsagePeriod, today: date) -> date:
    match period:
        case UsagePeriod.TODAY:
            return today
        case UsagePeriod.YESTERDAY:
            return today - timedelta(days=1)
        case UsagePeriod.WEEK:
            return today - timedelta(days=6)
        case UsagePeriod.MONTH:
            return today.replace(day=1)
