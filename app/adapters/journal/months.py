"""Files of closed months: all entries of one, as lines of the journal's own form (decision 58).

A rebuild reads them as any other file of a journal, in this version and in earlier ones. They are
not swept: after a while they are the only copy.
"""

import gzip
import hashlib
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from app.adapters.files import is_regular_file, open_no_follow, sync_directory
from app.adapters.journal.compress import MIN_FREE_BYTES, TEMPORARY_SUFFIX, lock_directory
from app.adapters.journal.reader import open_lines, parse_record
from app.domain.closed_months import ClosedMonth, EntryRow
from app.domain.journal import ChangeKind, JournalRecord, Position, StoreChange


class MonthDamaged(OSError):
    """The file does not hold what it was written with."""


class FileMonths:
    """The closed months in one journal's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def holds(self, month: ClosedMonth) -> bool:
        return month.entries == 0 or is_regular_file(self.directory / month.file_name)

    def pages(self, month: ClosedMonth, *, newest_first: bool = False) -> Iterator[list[EntryRow]]:
        """Raises `OSError`; `MonthDamaged` at the end, or before anything if the newest come
        first."""
        if not month.entries:
            return
        found = self._read(month)
        if not newest_first:
            yield from (page for _, page in found)
            return
        # Packed until its turn: as objects the entries of a busy month take gigabytes.
        packed = [zlib.compress(line, 1) for line, _ in found]
        while packed:
            page = _read_page(zlib.decompress(packed.pop()))
            if page is not None:
                yield page[::-1]

    def _read(self, month: ClosedMonth) -> Iterator[tuple[bytes, list[EntryRow]]]:
        """Its lines and their entries. Raises as `pages` does, at the end."""
        path = self.directory / month.file_name
        digest = EntryDigest()
        try:
            with open_lines(path) as lines:
                for line in lines:
                    page = _read_page(line)
                    if page is None:
                        raise MonthDamaged(f"{path} has an unreadable line")
                    digest.add(page)
                    yield line, page
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise MonthDamaged(f"{path} is damaged") from error
        if (digest.count, digest.text) != (month.entries, month.digest):
            raise MonthDamaged(f"{path} does not hold the month's entries")

    @contextmanager
    def write(self, mark: Position) -> Iterator["MonthWriter | None"]:
        """A file to be filled; None while another process of this directory is at work."""
        with lock_directory(self.directory) as locked:
            if not locked:
                yield None
                return
            writer = MonthWriter(self.directory, mark)
            try:
                yield writer
            finally:
                writer.discard()


def _read_page(line: bytes) -> list[EntryRow] | None:
    """None for a line that cannot be read."""
    record = parse_record(line)
    return None if record is None else [(change.id, change.fields) for change in record.changes]


class EntryDigest:
    """The digest of entries in order, and how many."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, page: Sequence[EntryRow]) -> None:
        for id, fields in page:
            self._hash.update(orjson.dumps([id, fields], option=orjson.OPT_APPEND_NEWLINE))
        self.count += len(page)

    @property
    def text(self) -> str:
        return self._hash.hexdigest()


class MonthWriter:
    """Writes beside; the file has its name once it is whole and synced. Blocks."""

    def __init__(self, directory: Path, mark: Position) -> None:
        self._mark, self._directory = mark, directory
        self._temporary = directory / f"month.jsonl.gz{TEMPORARY_SUFFIX}"
        self._temporary.unlink(missing_ok=True)
        self._file = open(self._temporary, "xb", opener=open_no_follow)  # noqa: SIM115
        self._packed = gzip.GzipFile("", "wb", fileobj=self._file, mtime=0)
        self.digest = EntryDigest()

    def add(self, page: Sequence[EntryRow]) -> None:
        """Raises `OSError`, also when the disk must keep its room for what is written now."""
        if shutil.disk_usage(self._directory).free < MIN_FREE_BYTES:
            raise OSError("too little room on the disk")
        self.digest.add(page)
        changes = [StoreChange(ChangeKind.ENTRY, id, list(fields), 0) for id, fields in page]
        line = orjson.dumps(JournalRecord(self._mark, changes, int(time.time() * 1000)))
        self._packed.write(line + b"\n")

    def commit(self, month: ClosedMonth) -> None:
        """Raises `OSError`."""
        self._packed.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temporary.replace(self._directory / month.file_name)
        sync_directory(self._directory)

    def discard(self) -> None:
        """Also on a full disk, where the rest cannot be written: what was begun gives its room
        back."""
        self._temporary.unlink(missing_ok=True)
        for file in (self._packed, self._file):
            with suppress(OSError):
                file.close()
