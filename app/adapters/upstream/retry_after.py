"""How long the provider asks to wait, in every form that it and compatible ones use."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

MIN_RETRY_AFTER_S = 1
MAX_RETRY_AFTER_S = 60

SECONDS = re.compile(r"\d{1,300}(?:\.\d{1,30})?", re.ASCII)
DURATION = re.compile(
    r"(?=\d)(?:(\d{1,5})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,9}(?:\.\d{1,9})?)s)?"
    r"(?:(\d{1,12}(?:\.\d{1,9})?)ms)?",
    re.ASCII,
)
MIN_UNIX_TIME_S = 1e9
"""Larger numbers are Unix times, not durations of thirty years."""


def retry_after_s(headers: Mapping[str, str], said: Any, now: float) -> int | None:
    """Whole seconds to wait, 1 to 60; None when neither headers nor body name a time.

    `headers` have lower-case names, `said` is the body's `retry_after`, `now` is Unix seconds.
    """
    wait = _first_legible(headers, now)
    if wait is None and not isinstance(said, bool) and isinstance(said, int | float | str):
        wait = _seconds(str(said))
    return None if wait is None else math.ceil(min(max(wait, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S))


def _first_legible(headers: Mapping[str, str], now: float) -> float | None:
    for name, read in RETRY_HEADERS:
        text = headers.get(name)
        wait = None if text is None else read(text.strip(), now)
        if wait is not None:
            return wait
    return None


def _milliseconds(text: str, _now: float) -> float | None:
    return float(text) / 1000 if SECONDS.fullmatch(text) else None


def _seconds_or_date(text: str, now: float) -> float | None:
    wait = _seconds(text)
    return _until_date(text, now) if wait is None else wait


def _reset(text: str, now: float) -> float | None:
    """ "42ms", "1m30s", seconds, or the Unix time (in seconds or milliseconds) of the reset."""
    if not SECONDS.fullmatch(text):
        return _duration(text)
    number = float(text)
    if number < MIN_UNIX_TIME_S:
        return number
    return (number / 1000 if number >= MIN_UNIX_TIME_S * 1000 else number) - now


def _seconds(text: str) -> float | None:
    return float(text) if SECONDS.fullmatch(text) else _duration(text)


def _duration(text: str) -> float | None:
    match = DURATION.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds, millis = (float(group or 0) for group in match.groups())
    return hours * 3600 + minutes * 60 + seconds + millis / 1000


def _until_date(text: str, now: float) -> float | None:
    """RFC 9110, section 5.6.7; a date without a zone is taken as UTC."""
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None  # a year, day or zone that does not exist


RETRY_HEADERS: tuple[tuple[str, Callable[[str, float], float | None]], ...] = (
    ("retry-after-ms", _milliseconds),
    ("retry-after", _seconds_or_date),
    ("x-ratelimit-reset-requests", _reset),
    ("x-ratelimit-reset", _reset),
    ("ratelimit-reset", _reset),
)
