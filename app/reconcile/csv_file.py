"""The provider's bill as a file: tolerant of how it is written, strict about what it means.

One line of text is one line of the bill. What cannot be read for certain is reported with its
number and its column and never guessed: a line that was misread could take money from somebody.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path

from app.reconcile.bill import BillLine
from app.reconcile.csv_cells import (
    REPLACEMENT_CHARACTER,
    FileSpelling,
    fold_width,
    parse_amount_micros,
    parse_call_id,
    parse_image_count,
    parse_model,
    parse_moment_ms,
    quote,
)
from app.reconcile.csv_text import NotABill, read_numbered_lines

SEPARATORS = (",", ";", "\t")
BLANK_CHARACTERS = " \t,;"
MAX_HEADING_LINE = 20
"""A title and a date may stand above the headings."""

REQUIRED_ROLES = ("id", "model", "amount", "time")
HEADING_SYNONYMS: Mapping[str, str] = {
    "id": "requestid reqid 请求id 请求编号 请求号",
    "model": "model modelname 模型 模型名称",
    "amount": "amount cost fee 金额 费用 消费金额 扣费金额",
    "time": "time createdat createtime 时间 创建时间 请求时间 调用时间 消费时间",
    "count": "count images quantity 数量 张数 图片数量",
    "capability": "capability 能力 能力类型",
}
ROLES = tuple(HEADING_SYNONYMS)
HEADING_NOISE = re.compile(r"\([^()]*+\)|[\s_.-]")
"""What a heading may have beside its name."""


@dataclass(frozen=True)
class ColumnOptions:
    """Headings as given; those not given are looked for."""

    id_column: str | None = None
    model_column: str | None = None
    amount_column: str | None = None
    time_column: str | None = None
    count_column: str | None = None

    def heading_for(self, role: str) -> str | None:
        return getattr(self, f"{role}_column", None)


NO_COLUMNS = ColumnOptions()


@dataclass(frozen=True, slots=True)
class UnreadableLine:
    """A line that cannot be read for certain, and the column; None: the line as a whole."""

    number: int
    why: str
    heading: str | None = None

    def __str__(self) -> str:
        where = "" if self.heading is None else f", column {quote(self.heading)}"
        return f"line {self.number}{where}: {self.why}"


class UnreadableCell(ValueError):
    """A cell that cannot be read, by its role."""

    def __init__(self, role: str, why: str) -> None:
        super().__init__(why)
        self.role = role


@dataclass(frozen=True, slots=True)
class SkippedLine:
    """A line of another capability than the one asked about."""

    number: int


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How one file is written: its separator, where each column is, and all its headings."""

    separator: str
    places: Mapping[str, int]
    headings: tuple[str, ...]
    spelling: FileSpelling = field(default_factory=FileSpelling)

    def heading(self, role: str) -> str:
        return self.headings[self.places[role]]


@dataclass(frozen=True, slots=True)
class BillReadOptions:
    """What a reader must know beside the file. `capability` keeps lines that contain it."""

    columns: ColumnOptions
    zone: tzinfo
    currency: str
    capability: str | None = None


def read_bill(
    path: Path, options: BillReadOptions
) -> Iterator[BillLine | UnreadableLine | SkippedLine]:
    """Line by line, in the file's order. Raises `NotABill` for a file that is no bill."""
    try:
        numbered = read_numbered_lines(path)
        layout = _find_layout(numbered, options, path)
        for number, text in numbered:
            if text.strip(BLANK_CHARACTERS):
                yield _read_line(number, text, layout, options)
    except OSError as error:
        raise NotABill(f"{path} cannot be read ({error.strerror or error}).") from None


def _find_layout(
    numbered: Iterator[tuple[int, str]], options: BillReadOptions, path: Path
) -> CsvLayout:
    """Find the headings. Raises `NotABill` about the line that is most like them, naming what it
    lacks."""
    nearest, complaint = -1, f"{path} is empty."
    for number, text in numbered:
        if number > MAX_HEADING_LINE:
            break
        for separator in SEPARATORS:
            cells = _split_headings(text, separator)
            places = _find_columns(cells, options.columns)
            fault = _find_fault(cells, places, options.columns)
            if fault is None:
                only = {role: found[0] for role, found in places.items()}
                return CsvLayout(separator, only, tuple(cells))
            if len(places) > nearest:
                nearest, complaint = len(places), fault
    raise NotABill(complaint)


def _split_headings(text: str, separator: str) -> list[str]:
    try:
        return _split(text, separator)
    except csv.Error:
        return []


def _find_columns(cells: Sequence[str], columns: ColumnOptions) -> Mapping[str, Sequence[int]]:
    """Where each role may be; roles that are nowhere are left out."""
    wanted = {role: columns.heading_for(role) for role in ROLES}
    names = {
        role: HEADING_SYNONYMS[role].split() if heading is None else [_normalize(heading)]
        for role, heading in wanted.items()
    }
    plain = [_normalize(cell) for cell in cells]
    found = {
        role: [place for place, cell in enumerate(plain) if cell in names[role]] for role in ROLES
    }
    return {role: places for role, places in found.items() if places}


def _find_fault(
    cells: Sequence[str], places: Mapping[str, Sequence[int]], columns: ColumnOptions
) -> str | None:
    """Why these are not the headings, for the first role without a column; None when they are."""
    for role in ROLES:
        found = places.get(role, ())
        if len(found) > 1:
            both = " and ".join(quote(cells[place]) for place in found)
            return f"{both} could both be the {role}; choose with --{role}-column."
        if not found and (role in REQUIRED_ROLES or columns.heading_for(role) is not None):
            return f"There is no column for the {role}; name it with --{role}-column."
    return None


def _normalize(heading: str) -> str:
    """Without case, blanks and the unit behind it: `金额 (元)` is `金额`."""
    return HEADING_NOISE.sub("", fold_width(heading).casefold())


def _split(text: str, separator: str) -> list[str]:
    rows = list(csv.reader([text], delimiter=separator, strict=True))
    return [cell.strip() for cell in rows[0]] if rows else []


def _read_line(
    number: int, text: str, layout: CsvLayout, options: BillReadOptions
) -> BillLine | UnreadableLine | SkippedLine:
    try:
        cells = _split(text, layout.separator)
    except csv.Error as error:
        return UnreadableLine(number, str(error))
    if len(cells) != len(layout.headings):
        return UnreadableLine(number, f"{len(cells)} cells under {len(layout.headings)} headings")
    said = {role: cells[place] for role, place in layout.places.items()}
    for role, cell in said.items():
        if REPLACEMENT_CHARACTER in cell:
            return UnreadableLine(number, "letters of no known encoding", layout.heading(role))
    if options.capability and options.capability.lower() not in said.get("capability", "").lower():
        return SkippedLine(number)
    try:
        return _parse_cells(number, said, options, layout.spelling)
    except UnreadableCell as error:
        return UnreadableLine(number, str(error), layout.heading(error.role))


def _parse_cells(
    number: int, said: Mapping[str, str], options: BillReadOptions, spelling: FileSpelling
) -> BillLine:
    """Raises `UnreadableCell` saying what is wrong with it."""
    with _in_column("amount"):
        micros = parse_amount_micros(said["amount"], options.currency, spelling)
    with _in_column("time"):
        at_ms = parse_moment_ms(said["time"], options.zone, spelling)
    with _in_column("model"):
        model = parse_model(said["model"])
    with _in_column("id"):
        call = parse_call_id(said["id"])
    with _in_column("count"):
        images = parse_image_count(said.get("count", ""), micros)
    return BillLine(number, at_ms, model, micros, call, images)


@contextmanager
def _in_column(role: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise UnreadableCell(role, str(error)) from None
