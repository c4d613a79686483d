"""Raises of limits for a while: until when, and which can be made."""

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

from app.domain.limits import LimitRaise, Limits
from app.service.admin_errors import RaiseInvalid

MAX_RAISE_DAYS = 366
UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION = re.compile(r"([0-9]{1,5})([mhdw])", re.ASCII)
UNTIL_HELP = "midnight, how long (2h, 3d), or a time such as 2026-11-30T18:00"


def parse_until(text: str, now_ms: int, zone: tzinfo) -> int:
    """Unix milliseconds of `midnight` (the next one in this zone), `2h`, or an ISO time, which is
    in this zone unless it says so. Raises `RaiseInvalid`."""
    word, now = text.strip().lower(), datetime.fromtimestamp(now_ms / 1000, zone)
    if word == "midnight":
        return _ms(datetime.combine(now.date() + timedelta(days=1), time(), zone))
    if match := DURATION.fullmatch(word):
        return now_ms + int(match[1]) * UNITS_S[match[2]] * 1000
    try:
        moment = datetime.fromisoformat(text.strip())
        return _ms(moment if moment.tzinfo is not None else moment.replace(tzinfo=zone))
    except (ValueError, OverflowError):
        raise RaiseInvalid(f"The end of a raise is {UNTIL_HELP}.") from None


def checked_raise(
    limits: Limits, by: Limits, until_ms: int, now_ms: int, reason: str
) -> LimitRaise:
    """Raises `RaiseInvalid` for a raise without effect, an end ahead, or a reason."""
    raised = LimitRaise(by, until_ms, reason)
    named = [name for name, amount in raised.amounts.items() if amount]
    if not named:
        raise RaiseInvalid("Say which limit is raised, and by how much.")
    for name in named:
        if getattr(limits, name) is None:
            raise RaiseInvalid(f"There is no limit {_say(name)} to raise: it is unlimited already.")
    if not now_ms < until_ms <= now_ms + MAX_RAISE_DAYS * 86_400_000:
        raise RaiseInvalid(f"A raise ends later than now, and within {MAX_RAISE_DAYS} days.")
    if not reason:
        raise RaiseInvalid("Say why it is raised.")
    return raised


def _say(name: str) -> str:
    return name.replace("micros", "money").replace("_", " ")


def _ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)
