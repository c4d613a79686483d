"""The provider's bill as a file: tolerant about how it is written, strict about what it says.

One line of text is one line of the bill. What cannot be read for certain is reported with its
number and never guessed: a line that was misread could take money from somebody.
"""

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from pathlib import Path
from typing import Annotated, TextIO

from cyclopts import Parameter

from app.cli.failure import CommandFailed, misused
from app.domain.bill import BillLine
from app.domain.money import parse_micros
from app.domain.upstream_ids import call_name, names_a_task

SEPARATORS = (",", ";", "\t")
LONGEST_LINE = 64 * 1024
BLANK = " \t,;"
HEADING_WITHIN = 20
"""A title and a date may stand above the headings."""

REQUIRED = ("id", "model", "amount", "time")
SYNONYMS: Mapping[str, str] = {
    "id": "requestid reqid 请求id 请求编号 请求号",
    "model": "model modelname 模型 模型名称",
    "amount": "amount cost fee 金额 费用 消费金额 扣费金额",
    "time": "time createdat createtime 时间 创建时间 请求时间 调用时间 消费时间",
    "count": "count images quantity 数量 张数 图片数量",
    "capability": "capability 能力 能力类型",
}
MARKS: Mapping[str, str] = {"CNY": r"¥|元|CNY|RMB", "USD": r"\$|USD"}
NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+|[0-9]{1,12}(?:\.[0-9]{1,12})?"
BESIDE = re.compile(r"\([^()]*+\)|[\s_.-]")
"""What a heading may have beside its name."""
COUNT = re.compile(r"-?[0-9]{1,6}", re.ASCII)
TIME = re.compile(
    r"[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)


def _column(what: str) -> Parameter:
    return Parameter(help=f"Heading of the {what}'s column; found by itself where it is usual.")


@Parameter(name="*")
@dataclass(frozen=True)
class Columns:
    """Headings as typed; those not given are looked for."""

    id_column: Annotated[str | None, _column("request id")] = None
    model_column: Annotated[str | None, _column("model")] = None
    amount_column: Annotated[str | None, _column("amount")] = None
    time_column: Annotated[str | None, _column("time")] = None
    count_column: Annotated[str | None, _column("image count")] = None

    def named(self, role: str) -> str | None:
        return getattr(self, f"{role}_column", None)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that says nothing certain."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class SetAside:
    """A line of another capability than the one asked about."""

    number: int


@dataclass(frozen=True, slots=True)
class Form:
    """How one file is written: its separator, where each column is, and how many there are."""

    separator: str
    places: Mapping[str, int]
    width: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader must know beside the file. `capability` keeps lines that contain it."""

    columns: Columns
    zone: tzinfo
    currency: str
    capability: str | None = None


def read_bill(path: Path, reading: Reading) -> Iterator[BillLine | Unreadable | SetAside]:
    """Line by line, in the file's order. Raises `CommandFailed` (2) for a file that is no bill."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            numbered = _numbered(file, path)
            form = _form(numbered, reading, path)
            for number, text in numbered:
                if text.strip(BLANK):
                    yield _line(number, text, form, reading)
    except OSError as error:
        raise misused(f"{path} cannot be read ({error.strerror or error}).") from None
    except UnicodeDecodeError:
        raise misused(f"{path} is not UTF-8; save it as CSV in UTF-8.") from None


def _numbered(file: TextIO, path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    while text := file.readline(LONGEST_LINE):
        number += 1
        if len(text) == LONGEST_LINE:
            raise misused(f"{path} has a line of {LONGEST_LINE} characters; is it a CSV file?")
        yield number, text.rstrip("\r\n")


def _form(numbered: Iterator[tuple[int, str]], reading: Reading, path: Path) -> Form:
    """Find the headings. Raises `CommandFailed` (2) naming the column that is not there."""
    complaint = misused(f"{path} is empty.")
    for number, text in numbered:
        if number > HEADING_WITHIN:
            break
        tried = [_headings(text, separator, reading.columns) for separator in SEPARATORS]
        for form in tried:
            if isinstance(form, Form):
                return form
        if number == 1:
            complaint = next(fault for fault in tried if isinstance(fault, CommandFailed))
    raise complaint


def _headings(text: str, separator: str, columns: Columns) -> Form | CommandFailed:
    try:
        cells = _cells(text, separator)
    except csv.Error:
        cells = []
    places = {}
    for role, synonyms in SYNONYMS.items():
        wanted = columns.named(role)
        names = synonyms.split() if wanted is None else [_plain(wanted)]
        found = [place for place, cell in enumerate(cells) if _plain(cell) in names]
        if len(found) > 1:
            both = " and ".join(_quoted(cells[place]) for place in found)
            return misused(f"{both} could both be the {role}; choose with --{role}-column.")
        if found:
            places[role] = found[0]
        elif role in REQUIRED or wanted is not None:
            return misused(f"There is no column for the {role}; name it with --{role}-column.")
    return Form(separator, places, len(cells))


def _plain(heading: str) -> str:
    """Without case, blanks and the unit behind it: `金额 (元)` is `金额`."""
    heading = unicodedata.normalize("NFKC", heading).casefold()
    return BESIDE.sub("", heading)


def _cells(text: str, separator: str) -> list[str]:
    rows = list(csv.reader([text], delimiter=separator, strict=True))
    return [cell.strip() for cell in rows[0]] if rows else []


def _line(number: int, text: str, form: Form, reading: Reading) -> BillLine | Unreadable | SetAside:
    try:
        cells = _cells(text, form.separator)
    except csv.Error as error:
        return Unreadable(number, str(error))
    if len(cells) != form.width:
        return Unreadable(number, f"{len(cells)} cells under {form.width} headings")
    said = {role: cells[place] for role, place in form.places.items()}
    if reading.capability and reading.capability.lower() not in said.get("capability", "").lower():
        return SetAside(number)
    try:
        return _understood(number, said, reading)
    except ValueError as error:
        return Unreadable(number, str(error))


def _understood(number: int, said: Mapping[str, str], reading: Reading) -> BillLine:
    """Raises `ValueError` saying what is wrong with it."""
    micros = _micros(said["amount"], reading.currency)
    return BillLine(
        number,
        _moment_ms(said["time"], reading.zone),
        _model(said["model"]),
        micros,
        _call(said["id"]),
        _count(said.get("count", ""), micros),
    )


@lru_cache(maxsize=16)
def _marked(currency: str) -> re.Pattern[str]:
    """An amount with its sign and mark. Nothing is tried twice: a cell may be 64 KB of blanks."""
    mark = f"(?:{MARKS.get(currency, re.escape(currency))})?+"
    return re.compile(rf"(-?)\s*+{mark}\s*+(-?)\s*+({NUMBER})\s*+{mark}", re.IGNORECASE | re.ASCII)


@lru_cache(maxsize=1024)
def _micros(text: str, currency: str) -> int:
    plain = unicodedata.normalize("NFKC", text)
    match = _marked(currency).fullmatch(plain)
    if match is None or (match[1] and match[2]):
        raise ValueError(f"{_quoted(text)} is not an amount in {currency}")
    micros = parse_micros(match[3].replace(",", ""))
    return -micros if match[1] or match[2] else micros


def _moment_ms(text: str, zone: tzinfo) -> int:
    if TIME.fullmatch(text) is None:
        raise ValueError(f"{_quoted(text)} is not a time such as 2026-11-27 13:00:00")
    try:
        moment = datetime.fromisoformat(text.replace("/", "-"))
    except ValueError:
        raise ValueError(f"{_quoted(text)} is not a time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return int(moment.astimezone(UTC).timestamp()) * 1000


def _model(text: str) -> str:
    if not text or len(text) > 128 or not text.isprintable():
        raise ValueError("it names no model")
    return text


def _call(text: str) -> str | None:
    """A line may have no id; it is then matched by time."""
    if not text:
        return None
    if not (text.isprintable() and names_a_task(text)):
        raise ValueError(f"{_quoted(text)} is not a request id")
    return call_name(text)


def _count(text: str, micros: int) -> int | None:
    """Images; a refund's are given back however they are written."""
    if not text:
        return None
    if COUNT.fullmatch(text) is None:
        raise ValueError(f"{_quoted(text)} is not a number of images")
    count = int(text)
    if count < 0 <= micros:
        raise ValueError(f"{count} images for an amount that is not negative")
    return -abs(count) if micros < 0 else count


def _quoted(text: str) -> str:
    """A bill is a stranger's text: short, and nothing a terminal would act on."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
