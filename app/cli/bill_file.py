"""The provider's bill as a file: tolerant about how it is written, strict about what it says.

One line of text is one line of the bill. What cannot be read for certain is reported with its
number and its column and never guessed: a line that was misread could take money from somebody.
"""

import csv
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from app.cli.bill_cells import (
    LOST_LETTER,
    Spelling,
    call_of,
    images_of,
    micros_of,
    model_of,
    moment_of,
    quoted,
)
from app.cli.bill_text import numbered_lines
from app.cli.failure import misused
from app.domain.bill import BillLine

SEPARATORS = (",", ";", "\t")
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
ROLES = tuple(SYNONYMS)
BESIDE = re.compile(r"\([^()]*+\)|[\s_.-]")
"""What a heading may have beside its name."""


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
    """A line that says nothing certain, and under which heading; None: the line as a whole."""

    number: int
    why: str
    heading: str | None = None

    def __str__(self) -> str:
        where = "" if self.heading is None else f", column {quoted(self.heading)}"
        return f"line {self.number}{where}: {self.why}"


class Uncertain(ValueError):
    """A cell that cannot be read, by its role."""

    def __init__(self, role: str, why: str) -> None:
        super().__init__(why)
        self.role = role


@dataclass(frozen=True, slots=True)
class SetAside:
    """A line of another capability than the one asked about."""

    number: int


@dataclass(frozen=True, slots=True)
class Form:
    """How one file is written: its separator, where each column is, and all its headings."""

    separator: str
    places: Mapping[str, int]
    headings: tuple[str, ...]
    spelling: Spelling = field(default_factory=Spelling)

    def heading(self, role: str) -> str:
        return self.headings[self.places[role]]


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
        numbered = numbered_lines(path)
        form = _form(numbered, reading, path)
        for number, text in numbered:
            if text.strip(BLANK):
                yield _line(number, text, form, reading)
    except OSError as error:
        raise misused(f"{path} cannot be read ({error.strerror or error}).") from None


def _form(numbered: Iterator[tuple[int, str]], reading: Reading, path: Path) -> Form:
    """Find the headings. Raises `CommandFailed` (2) naming what the line lacks that is most like
    them: lines above it, and other separators, lack more."""
    nearest, complaint = -1, f"{path} is empty."
    for number, text in numbered:
        if number > HEADING_WITHIN:
            break
        for separator in SEPARATORS:
            cells = _headings(text, separator)
            places = _places(cells, reading.columns)
            fault = _fault(cells, places, reading.columns)
            if fault is None:
                only = {role: found[0] for role, found in places.items()}
                return Form(separator, only, tuple(cells))
            if len(places) > nearest:
                nearest, complaint = len(places), fault
    raise misused(complaint)


def _headings(text: str, separator: str) -> list[str]:
    try:
        return _cells(text, separator)
    except csv.Error:
        return []


def _places(cells: Sequence[str], columns: Columns) -> Mapping[str, Sequence[int]]:
    """Where each role may be; roles that are nowhere are left out."""
    wanted = {role: columns.named(role) for role in ROLES}
    names = {
        role: SYNONYMS[role].split() if heading is None else [_plain(heading)]
        for role, heading in wanted.items()
    }
    plain = [_plain(cell) for cell in cells]
    found = {
        role: [place for place, cell in enumerate(plain) if cell in names[role]] for role in ROLES
    }
    return {role: places for role, places in found.items() if places}


def _fault(
    cells: Sequence[str], places: Mapping[str, Sequence[int]], columns: Columns
) -> str | None:
    """Why these are not the headings, by the first role that is not told; None when they are."""
    for role in ROLES:
        found = places.get(role, ())
        if len(found) > 1:
            both = " and ".join(quoted(cells[place]) for place in found)
            return f"{both} could both be the {role}; choose with --{role}-column."
        if not found and (role in REQUIRED or columns.named(role) is not None):
            return f"There is no column for the {role}; name it with --{role}-column."
    return None


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
    if len(cells) != len(form.headings):
        return Unreadable(number, f"{len(cells)} cells under {len(form.headings)} headings")
    said = {role: cells[place] for role, place in form.places.items()}
    for role, cell in said.items():
        if LOST_LETTER in cell:
            return Unreadable(number, "letters of no known encoding", form.heading(role))
    if reading.capability and reading.capability.lower() not in said.get("capability", "").lower():
        return SetAside(number)
    try:
        return _understood(number, said, reading, form.spelling)
    except Uncertain as error:
        return Unreadable(number, str(error), form.heading(error.role))


def _understood(
    number: int, said: Mapping[str, str], reading: Reading, spelling: Spelling
) -> BillLine:
    """Raises `Uncertain` saying what is wrong with it."""
    with _in_column("amount"):
        micros = micros_of(said["amount"], reading.currency, spelling)
    with _in_column("time"):
        at_ms = moment_of(said["time"], reading.zone, spelling)
    with _in_column("model"):
        model = model_of(said["model"])
    with _in_column("id"):
        call = call_of(said["id"])
    with _in_column("count"):
        images = images_of(said.get("count", ""), micros)
    return BillLine(number, at_ms, model, micros, call, images)


@contextmanager
def _in_column(role: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise Uncertain(role, str(error)) from None
