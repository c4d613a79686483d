"""Exports of other gateways as rows: JSON as their APIs answer, dumps of tables, SQLite files."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

from app.service.admin_errors import AdminError

SQLITE_MAGIC = b"SQLite format 3\0"
MAX_BYTES = 512 * 1024 * 1024
UNLIMITED_FROM = 10**12
NOTHING: tuple[object, ...] = (None, "", "None", "null", [], {}, False)
"""How exports say that a field is not set."""


class ExportInvalid(AdminError):
    """A file is not the export that it must be; the message names the place."""


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One user, team or key of an export. Fields that nobody asks for are left alone."""

    fields: Mapping[str, Any]
    place: str

    def has(self, name: str) -> bool:
        return self.fields.get(name) not in NOTHING

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        if value in NOTHING:
            return ""
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.error(name, "must be a text")
        return value.strip()

    def number(self, name: str) -> Decimal | None:
        """Raises `ExportInvalid` when it is negative or no number."""
        value = self.fields.get(name)
        if value in (None, ""):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise self.error(name, "must be a number")
        amount = Decimal(str(value))
        if not amount.is_finite() or amount < 0:
            raise self.error(name, "must be a number, 0 or more")
        return amount

    def count(self, name: str) -> int | None:
        amount = self.number(name)
        if amount is not None and amount != amount.to_integral_value():
            raise self.error(name, "must be a whole number")
        return None if amount is None else int(amount)

    def limit(self, name: str) -> int | None:
        """A count that limits something. The biggest numbers mean that nothing does."""
        count = self.count(name)
        return None if count is None or count >= UNLIMITED_FROM else count

    def flag(self, name: str) -> bool:
        """SQLite has 0 and 1."""
        value = self.fields.get(name)
        if value not in (None, True, False):
            raise self.error(name, "must be true or false")
        return bool(value)

    def names(self, name: str) -> Sequence[str]:
        value = self.fields.get(name)
        if value in NOTHING:
            return ()
        if not isinstance(value, list) or any(not isinstance(one, str) for one in value):
            raise self.error(name, "must be a list of texts")
        return value

    def rows(self, name: str) -> Sequence["ExportRow"]:
        value = self.fields.get(name)
        if value in NOTHING:
            return ()
        if not isinstance(value, list):
            raise self.error(name, "must be a list")
        return read_rows(value, f"{self.place}.{name}")

    def row(self, name: str) -> "ExportRow":
        """An inner object; an empty one when there is none."""
        value = self.fields.get(name)
        return ExportRow(value if isinstance(value, dict) else {}, f"{self.place}.{name}")

    def error(self, name: str, text: str) -> ExportInvalid:
        return ExportInvalid(f"{self.place}: {name} {text}.")


def read_rows(values: Sequence[Any], place: str) -> list[ExportRow]:
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise ExportInvalid(f"{place}[{index}] must be an object.")
    return [ExportRow(value, f"{place}[{index}]") for index, value in enumerate(values)]


class ExportTables:
    """The rows of several files by table, each known by its id; and whether all pages are there."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        """`ids` names the field that is the id, for each table."""
        self._ids = ids
        self._rows: dict[str, dict[str, ExportRow]] = {table: {} for table in ids}
        self._totals: dict[str, int] = {}

    def add(self, table: str, row: ExportRow) -> None:
        row_id = row.text(self._ids[table])
        if not row_id:
            raise row.error(self._ids[table], "is missing")
        self._rows[table][row_id] = row

    def expect(self, table: str, total: object) -> None:
        """What an answer in pages says of its whole list."""
        if isinstance(total, int):
            self._totals[table] = max(total, self._totals.get(table, 0))

    def check_complete(self) -> None:
        for table, total in self._totals.items():
            if len(self._rows[table]) < total:
                raise ExportInvalid(
                    f"Only {len(self._rows[table])} of {total} {table} are in these files: "
                    "give the other pages too."
                )

    def items(self, table: str) -> Iterator[tuple[str, ExportRow]]:
        """By id, in the order of the files."""
        yield from self._rows[table].items()

    def get(self, table: str, row_id: str) -> ExportRow | None:
        return self._rows[table].get(row_id)

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))


def is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE_MAGIC)) == SQLITE_MAGIC


def read_json(path: Path) -> Any:
    """Numbers with a point are exact. Raises `ExportInvalid`, `OSError`."""
    if path.stat().st_size > MAX_BYTES:
        raise ExportInvalid(f"{path} is too big: give the lists in pages, in several files.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_float=Decimal)
    except json.JSONDecodeError as error:
        raise ExportInvalid(
            f"{path} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}."
        ) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ExportInvalid(f"{path} is no JSON: {error}.") from None


def read_sqlite(path: Path, columns: Mapping[str, Sequence[str]]) -> dict[str, list[ExportRow]]:
    """These columns of these tables, where they are there: no secret is read. Raises
    `ExportInvalid`."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            return {
                table: _read_table(database, path, table, wanted)
                for table, wanted in columns.items()
            }
    except sqlite3.Error as error:
        raise ExportInvalid(f"{path} cannot be read as SQLite: {error}.") from None


def _read_table(
    database: sqlite3.Connection, path: Path, table: str, wanted: Sequence[str]
) -> list[ExportRow]:
    known = {row[1] for row in database.execute(f"PRAGMA table_info({_quoted(table)})")}
    names = [name for name in wanted if name in known]
    if not names:
        return []
    listed = ", ".join(map(_quoted, names))
    found = database.execute(f"SELECT {listed} FROM {_quoted(table)}")  # noqa: S608 - our own names
    place = f"{path} {table}"
    return [
        ExportRow(dict(zip(names, row, strict=True)), f"{place}[{index}]")
        for index, row in enumerate(found)
    ]


def _quoted(name: str) -> str:
    return f'"{name}"'
