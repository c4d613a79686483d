"""Reading journals back: the latest position for a new process, all records for a rebuild.

A damaged or foreign line is skipped and counted, never an error. Lines of earlier versions are read
too: there a write took at most one number, that of its position, and changes had none.
"""

import gzip
import io
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from app.adapters.files import is_regular_file, open_no_follow
from app.adapters.journal.id_file import read_journal_id
from app.domain.job import JobState
from app.domain.journal import ChangeKind, JournalRecord, Position, StoreChange

JOB_STATES = frozenset(JobState)
ENTRY_AMOUNTS = ("images", "surplus")
ENTRY = frozenset(
    {"kind", "job", "key", "user", "model", "size", "quality", "day", "month", "delivered",
     "presumed", *ENTRY_AMOUNTS}
)  # fmt: skip
RECORD_KINDS = frozenset({ChangeKind.USERS, ChangeKind.TEAMS, ChangeKind.KEYS, ChangeKind.JOURNALS})


KINDS = {kind.value: kind for kind in ChangeKind}
ONLY_TEXT = {str}


def parse_record(line: bytes) -> JournalRecord | None:
    """None when the line is no usable record."""
    try:
        row = orjson.loads(line)
        mark = _parse_position(row["mark"])
        changes = [_parse_change(change, mark) for change in row["changes"]]
        return JournalRecord(mark, changes, _require_count(row["at_ms"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _parse_position(row: Mapping[str, Any]) -> Position:
    return Position(
        _require_count(row["seq"]), _require_text(row["who"]), _require_text(row["epoch"])
    )


def _parse_change(row: Mapping[str, Any], mark: Position) -> StoreChange:
    kind, fields = KINDS[row["kind"]], _require_texts(row["fields"])
    if fields or kind is not ChangeKind.JOB:
        _validate(kind, row["id"], dict(zip(fields[::2], fields[1::2], strict=True)))
    seq = _require_count(row["seq"]) if "seq" in row else _infer_seq(kind, fields, mark)
    return StoreChange(kind, _require_text(row["id"]), fields, seq)


def _validate(kind: ChangeKind, id: str, fields: Mapping[str, str]) -> None:
    """Raises `ValueError` or `KeyError` when a rebuild could not use it."""
    if kind is ChangeKind.JOB and "state" in fields and fields["state"] not in JOB_STATES:
        raise ValueError("no state of a job")
    if kind is ChangeKind.ENTRY:
        ms, _, count = id.partition("-")
        if not (ms.isdecimal() and count.isdecimal() and fields.keys() >= ENTRY):
            raise ValueError("no entry of the ledger")
        for name in ENTRY_AMOUNTS:
            int(fields[name])
    if kind in RECORD_KINDS and not isinstance(orjson.loads(fields["record"]), dict):
        raise ValueError("no record")
    if kind is ChangeKind.EPOCH:
        int(fields["begins"])


def _infer_seq(kind: ChangeKind, fields: Sequence[str], mark: Position) -> int:
    """The number of a change that an earlier version wrote: of a job's changes only the admission
    took one."""
    return mark.seq if kind is not ChangeKind.JOB or list(fields[:2]) == ["state", "R"] else 0


def _require_texts(fields: Sequence[object]) -> list[str]:
    """Lua scripts report numbers, which the journal keeps as JSON numbers."""
    if not isinstance(fields, list):
        raise TypeError("no fields")
    types = set(map(type, fields))
    if types <= ONLY_TEXT:
        return fields
    if list in types or dict in types:
        raise TypeError("no fields")
    return [str(field) for field in fields]


def _require_text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError("no text")
    return found


def _require_count(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise TypeError("no number")
    return found


BOOKS_SUFFIX = ".books.jsonl"
"""Files of the ledger, the first that a process writes."""
COPIES_SUFFIX = ".changes.jsonl"
"""Files of copied changes: their positions do not rise from line to line."""
COMPRESSED_SUFFIX = ".jsonl.gz"
"""Files of days that are over (compress.py)."""
BUFFER_BYTES = 1 << 20
MAX_TAIL_FILES = 64
TAIL_BYTES = 256 * 1024


@contextmanager
def open_lines(file: Path) -> Iterator[BinaryIO]:
    """A journal file to read, compressed or not. Raises `OSError`."""
    with open(file, "rb", opener=open_no_follow) as plain:
        if not file.name.endswith(COMPRESSED_SUFFIX):
            yield plain
            return
        with gzip.GzipFile(fileobj=plain) as unpacked:
            yield cast("BinaryIO", io.BufferedReader(unpacked, BUFFER_BYTES))


class JournalHistory:
    """All records of all files in `directories`, in no particular order of files.

    What cannot be used is skipped and counted: `bad_lines` by file (a power loss cuts a line
    short), `foreign_files` are named like a journal file but cannot be read as one.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = directories
        self.bad_lines: Counter[Path] = Counter()
        self.foreign_files: list[Path] = []

    @property
    def ids(self) -> frozenset[str]:
        """The ids of these journals."""
        return frozenset(
            id for place in self.directories if (id := read_journal_id(place)) is not None
        )

    @property
    def unreadable(self) -> int:
        """How many lines and whole files cannot be used."""
        return self.bad_lines.total() + len(self.foreign_files)

    @property
    def unreadable_names(self) -> list[str]:
        lines = [f"{file}: {count} unreadable" for file, count in sorted(self.bad_lines.items())]
        return lines + [f"{file}: no journal file" for file in sorted(self.foreign_files)]

    def __iter__(self) -> Iterator[JournalRecord]:
        self.bad_lines, self.foreign_files = Counter(), []
        for directory in self.directories:
            for file in sorted(
                [*directory.glob("*.jsonl"), *directory.glob(f"*{COMPRESSED_SUFFIX}")]
            ):
                try:
                    yield from self._read_wherever(file)
                except (OSError, EOFError, zlib.error):
                    self.foreign_files.append(file)

    def _read_wherever(self, file: Path) -> Iterator[JournalRecord]:
        """A file, or the compressed one that a gateway put in its place meanwhile."""
        try:
            yield from self._read_records(file)
        except FileNotFoundError:
            yield from self._read_records(file.with_name(f"{file.name}.gz"))

    def _read_records(self, file: Path) -> Iterator[JournalRecord]:
        if not is_regular_file(file):  # opening a named pipe would wait for ever
            if not os.path.lexists(file):
                raise FileNotFoundError
            self.foreign_files.append(file)
            return
        with open_lines(file) as lines:
            for line in lines:
                record = parse_record(line)
                if record is None:
                    self.bad_lines[file] += 1
                else:
                    yield record


@dataclass(frozen=True, slots=True)
class JournalTail:
    """Where a journal ends: the latest position of each of its newest files; the names of foreign
    files; how many of the examined lines cannot be read; whether it was written, and yet no
    position can be read."""

    marks: tuple[Position, ...]
    foreign_files: tuple[str, ...]
    bad_lines: int
    unreadable: bool


def read_journal_tail(directory: Path) -> JournalTail:
    """Examine the ends of the newest files. Never raises."""
    files, foreign_files = _list_journal_files(directory)
    marks, bad_lines = [], 0
    for file in islice(files, MAX_TAIL_FILES):
        try:
            mark, bad = read_last_mark(file)
        except OSError:
            foreign_files.append(file.name)
            continue
        bad_lines += bad
        if mark is not None:
            marks.append(mark)
    unreadable = not marks and _was_written(directory)
    return JournalTail(tuple(marks), tuple(sorted(foreign_files)), bad_lines, unreadable)


def _was_written(directory: Path) -> bool:
    """Whether any process wrote a line there, as far as can be told. One that dies at the very
    first start may leave a file of the ledger without a line, and nothing else."""
    try:
        files = [file for file in os.scandir(directory) if ".jsonl" in file.name]
        return any(
            file.stat(follow_symlinks=False).st_size or not file.name.endswith(BOOKS_SUFFIX)
            for file in files
        )
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _list_journal_files(directory: Path) -> tuple[list[Path], list[str]]:
    """Journal files, the newest first, and the names of foreign files."""
    found, foreign_files = [], []
    for file in directory.glob("*.jsonl"):
        try:
            if is_regular_file(file):
                found.append((file.stat().st_mtime, file))
            else:
                foreign_files.append(file.name)
        except OSError:
            foreign_files.append(file.name)
    own = [file for _, file in sorted(found, reverse=True) if not file.name.endswith(COPIES_SUFFIX)]
    return own, foreign_files


def read_last_mark(file: Path) -> tuple[Position | None, int]:
    """The position in a file's last readable line, and how many lines after it are unreadable."""
    with open(file, "rb", opener=open_no_follow) as tail:
        tail.seek(max(file.stat().st_size - TAIL_BYTES, 0))
        bad = 0
        for line in reversed(tail.read().splitlines()):
            record = parse_record(line)
            if record is not None:
                return record.mark, bad
            bad += 1
    return None, bad
