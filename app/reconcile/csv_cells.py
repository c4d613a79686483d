"""One cell of a bill: the amounts and times that a provider, Excel or .NET writes, read one way.

A cell that could be read in two ways is refused: `1,234` is a thousand in one country and
little more than one in another. `FileSpelling` keeps a file to one spelling from its first line on.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from app.domain.money import parse_micros
from app.domain.upstream_ids import encode_call_id, is_task_id

CURRENCY_MARKS: Mapping[str, str] = {"CNY": r"¥|元|CNY|RMB", "USD": r"\$|USD"}
NUMBER = r"[0-9][0-9.,]{0,30}+(?:E-[0-9]{1,2})?+"
POINTED = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?(?:E-[0-9]{1,2})?", re.ASCII | re.IGNORECASE)
POINTED_GROUPS = re.compile(
    r"[0-9]{1,3}(?:(?:,[0-9]{3}){1,4}\.[0-9]{1,12}|(?:,[0-9]{3}){2,4})", re.ASCII
)
COMMAED = re.compile(
    r"(?:0,[0-9]{1,12}|[0-9]{1,12},(?:[0-9]{1,2}|[0-9]{4,12}))(?:E-[0-9]{1,2})?",
    re.ASCII | re.IGNORECASE,
)
COMMAED_GROUPS = re.compile(
    r"[0-9]{1,3}(?:(?:\.[0-9]{3}){1,4},[0-9]{1,12}|(?:\.[0-9]{3}){2,4})", re.ASCII
)
"""Three digits behind a comma may be decimals or thousands, unless other separators decide."""
COUNT = re.compile(r"-?[0-9]{1,6}", re.ASCII)
DAY = r"([0-9]{1,4})([-/.])([0-9]{1,2})\2([0-9]{1,4})"
CHINESE_DAY = re.compile(r"([0-9]{4})年([0-9]{1,2})月([0-9]{1,2})日 ?", re.ASCII)
TIME = re.compile(
    rf"{DAY}[T ]([0-9]{{1,2}}):([0-9]{{2}})(?::([0-9]{{2}})(?:\.[0-9]{{1,9}})?)?"
    r"(?: ?([AP])M)?(?: ?(?:(Z|UTC|GMT)|([+-])([0-9]{2}):?([0-9]{2})))?",
    re.ASCII | re.IGNORECASE,
)
MAX_UTC_OFFSET = timedelta(hours=15)
"""No zone is further from Greenwich."""
MAX_FOLDED_CHARS = 200
"""Folding a letter with many marks takes the square of them, in one piece that holds up every other
thread; a heading or an amount is shorter."""
REPLACEMENT_CHARACTER = "\ufffd"
"""What stands for bytes that are no letter of the file's encoding."""


@dataclass(slots=True)
class FileSpelling:
    """How one file writes decimals and days, as the first line shows that does."""

    seen: dict[str, str] = field(default_factory=dict)

    def require_same(self, what: str, how: str, text: str) -> None:
        """Raises `ValueError` when the file was written otherwise until here."""
        if how and self.seen.setdefault(what, how) != how:
            raise ValueError(
                f"{quote(text)} is not certain: lines above have the {what} as in "
                f"{self.seen[what]}, this one as in {how}"
            )


@lru_cache(maxsize=16)
def amount_pattern(currency: str) -> re.Pattern[str]:
    """An amount with its sign and mark. No backtracking: a cell may be 64 KB of blanks."""
    mark = f"(?:{CURRENCY_MARKS.get(currency, re.escape(currency))})?+"
    return re.compile(rf"(-?)\s*+{mark}\s*+(-?)\s*+({NUMBER})\s*+{mark}", re.IGNORECASE | re.ASCII)


def parse_amount_micros(text: str, currency: str, spelling: FileSpelling) -> int:
    """Micro-units; raises `ValueError` for what is no amount or more than one."""
    micros, decimals = _parse_amount(text, currency)
    spelling.require_same("decimals", decimals, text)
    return micros


@lru_cache(maxsize=1024)
def _parse_amount(text: str, currency: str) -> tuple[int, str]:
    """And how its decimals are written, if that shows."""
    plain = fold_width(text)
    match = amount_pattern(currency).fullmatch(plain)
    if match is None or (match[1] and match[2]):
        raise ValueError(f"{quote(text)} is not an amount in {currency}")
    number, decimals = _parse_decimal(match[3])
    if number is None:
        why = "its marks may stand for thousands or for decimals"
        raise ValueError(f"{quote(text)} is not an amount in {currency} for certain: {why}")
    micros = parse_micros(number)
    return (-micros if match[1] or match[2] else micros), decimals


def fold_width(text: str) -> str:
    """Wide letters of East Asian keyboards as narrow ones. A long text is left as it is."""
    return text if len(text) > MAX_FOLDED_CHARS else unicodedata.normalize("NFKC", text)


def _parse_decimal(number: str) -> tuple[str | None, str]:
    if POINTED.fullmatch(number):
        return number, "1.5" if "." in number else ""
    if POINTED_GROUPS.fullmatch(number):
        return number.replace(",", ""), "1.5"
    if COMMAED.fullmatch(number) or COMMAED_GROUPS.fullmatch(number):
        return number.replace(".", "").replace(",", "."), "1,5"
    return None, ""


def parse_moment_ms(text: str, zone: tzinfo, spelling: FileSpelling) -> int:
    """Unix milliseconds of a whole second; raises `ValueError` for what is no time or two."""
    match = TIME.fullmatch(CHINESE_DAY.sub(r"\1-\2-\3 ", text, count=1))
    if match is None:
        raise ValueError(f"{quote(text)} is not a time such as 2026-11-27 13:00:00")
    year, month, day, order = _parse_day(match[1], match[3], match[4], text)
    spelling.require_same("day", order, text)
    try:
        zone = _parse_offset(match) or zone
        clock = (_parse_hour(int(match[5]), match[8]), int(match[6]), int(match[7] or 0))
        moment = datetime(year, month, day, *clock, tzinfo=zone)
        return int(moment.astimezone(UTC).timestamp()) * 1000
    except (ValueError, OverflowError):
        raise ValueError(f"{quote(text)} is not a time") from None


def _parse_day(first: str, second: str, third: str, text: str) -> tuple[int, int, int, str]:
    """Year, month and day, and the order if it shows. A year has four digits."""
    one, two, three = int(first), int(second), int(third)
    if len(first) == 4 and len(third) <= 2:
        return one, two, three, ""
    if len(first) > 2 or len(third) != 4:
        raise ValueError(f"{quote(text)} is not a time with a year of four digits")
    if one == two:
        return three, two, one, ""
    if one > 12:
        return three, two, one, "31/12"
    if two > 12:
        return three, one, two, "12/31"
    raise ValueError(
        f"{quote(text)} is not a time for certain: which is the day, which the month? "
        "Write the year first"
    )


def _parse_hour(hour: int, half: str | None) -> int:
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError
    return hour % 12 + (12 if half.upper() == "P" else 0)


def _parse_offset(match: re.Match[str]) -> tzinfo | None:
    if match[9]:
        return UTC
    if match[10] is None:
        return None
    away = timedelta(hours=int(match[11]), minutes=int(match[12]))
    if away > MAX_UTC_OFFSET or int(match[12]) > 59:
        raise ValueError
    return timezone(-away if match[10] == "-" else away)


def parse_model(text: str) -> str:
    if not text or len(text) > 128 or not text.isprintable():
        raise ValueError("it names no model")
    return text


def parse_call_id(text: str) -> str | None:
    """A line may have no id; it is then matched by time."""
    if not text:
        return None
    if not (text.isprintable() and is_task_id(text)):
        raise ValueError(f"{quote(text)} is not a request id")
    return encode_call_id(text)


def parse_image_count(text: str, micros: int) -> int | None:
    """Images; a refund's are given back however they are written."""
    if not text:
        return None
    if COUNT.fullmatch(text) is None:
        raise ValueError(f"{quote(text)} is not a number of images")
    count = int(text)
    if count < 0 <= micros:
        raise ValueError(f"{count} images for an amount that is not negative")
    return -abs(count) if micros < 0 else count


def quote(text: str) -> str:
    """Text of a bill is not trusted: shortened, and without control characters."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
