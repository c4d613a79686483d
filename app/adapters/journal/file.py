"""The `Journal` as JSON lines: up to three files for each process and day.

`….books.jsonl` holds the ledger and is kept for long; `….jobs.jsonl` holds job records, in which a
provider may quote prompts, and is kept no longer than the images; `….changes.jsonl` holds copies of
what operators changed elsewhere.

The kernel has a line when `append` returns, so it survives the death of the process. The files are
synced once a second, so a machine that loses power loses the last second.
"""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sys import intern

import orjson
import structlog

from app.adapters.journal.append_file import AppendFile
from app.adapters.journal.id_file import DirectoryWatch, JournalIdFile
from app.adapters.journal.reader import (
    BOOKS_SUFFIX,
    COPIES_SUFFIX,
    JournalTail,
    read_journal_tail,
)
from app.domain.journal import ChangeKind, JournalRecord, Position, StoreChange

DAY_S = 86_400


class DailyName:
    """The name of a file that is another one each day of UTC: the date, then `rest`."""

    def __init__(self, rest: str, clock: Callable[[], float]) -> None:
        self._rest, self._clock = rest, clock
        self._day, self._name = -1.0, ""

    def __call__(self) -> str:
        now_s = self._clock()
        day = now_s // DAY_S
        if day != self._day:
            self._day = day
            self._name = f"{datetime.fromtimestamp(now_s, UTC):%Y-%m-%d}{self._rest}"
        return self._name


class FileJournal:
    """Appends to its own files in `directory`, which the first line creates. `clock` gives Unix
    seconds."""

    def __init__(self, directory: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._log = structlog.get_logger("koi.journal")
        found = self._read_tail(directory)
        self.last_positions, self.unreadable = found.marks, found.unreadable
        self.position: Position | None = max(
            self.last_positions, key=lambda position: position.seq, default=None
        )
        self.directory = directory
        self._id_file = JournalIdFile(directory)
        self._watch = DirectoryWatch(directory)
        self._was_gone = False
        self.has_changes = False
        """Whether this process wrote a change that must survive the loss of the store."""
        self._deduplicator = ChangeDeduplicator()
        process = secrets.token_hex(4)
        self._ledger_file, self._jobs_file, self._copies_file = (
            AppendFile(directory, DailyName(f"-{process}{suffix}", clock))
            for suffix in (BOOKS_SUFFIX, ".jobs.jsonl", COPIES_SUFFIX)
        )

    @property
    def id(self) -> str | None:
        """The directory's id; None before its first line."""
        return self._id_file.id

    def ensure_id(self) -> None:
        """Give the directory an id, and create it if it is missing. Raises `OSError`."""
        self._id_file.ensure_id()

    def append(self, record: JournalRecord) -> None:
        self.add(record)
        self.flush()

    def flush(self) -> None:
        self._ledger_file.try_flush()
        self._jobs_file.try_flush()

    def add(self, record: JournalRecord) -> None:
        new_changes = self._deduplicator.take_new(record)
        if record.changes and not new_changes:
            return
        others, jobs = [], []
        for change in new_changes:
            if change.kind is not ChangeKind.JOB:
                others.append(change)
                continue
            jobs.append(change)
            if change.seq:
                # Job records are swept early, but the numbers they took must stay known for a
                # rebuild.
                others.append(StoreChange(ChangeKind.JOB, change.id, (), change.seq))
        if not self.has_changes:
            self.has_changes = any(change.seq for change in record.changes)
        mark, at_ms = record.mark, record.at_ms
        if others or not jobs:
            self._ledger_file.add(orjson.dumps(JournalRecord(mark, others, at_ms)))
        if jobs:
            self._jobs_file.add(orjson.dumps(JournalRecord(mark, jobs, at_ms)))

    def append_copy(self, record: JournalRecord) -> None:
        """Append what another process changed. It does not count for the position of this one."""
        self._copies_file.write(orjson.dumps(record))

    def ready(self) -> bool:
        if self.gone():
            return False
        ledger, jobs, copies = self._ledger_file, self._jobs_file, self._copies_file
        return ledger.try_flush() and jobs.try_flush() and copies.try_flush()

    def gone(self) -> bool:
        """Whether the open files or their directory were deleted or replaced."""
        if not self._watch.has_changed():
            return False
        gone = self._id_file.gone() or any(file.gone() for file in self._files)
        if gone:
            self._watch.distrust()
        if gone is not self._was_gone:
            self._was_gone = gone
            if gone:
                fix = "put it back, or restart and run `koi doctor`; until then nothing is bought"
                self._log.error("journal_gone", directory=str(self.directory), fix=fix)
            else:
                self._log.warning("journal_found_again", directory=str(self.directory))
        return gone

    def sync(self) -> None:
        """Sync what was written to disk; blocks. Raises `OSError`."""
        for file in self._files:
            file.sync()

    def sweep(self, *, books: timedelta, jobs: timedelta) -> int:
        """Remove files that were last written longer ago than that; returns how many."""
        kept = {"*.books.jsonl": books, f"*{COPIES_SUFFIX}": books, "*.jobs.jsonl": jobs}
        kept |= {f"{pattern}.gz": life for pattern, life in kept.items()}
        return sum(_sweep(self.directory, pattern, life) for pattern, life in kept.items())

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._id_file.close()

    @property
    def _files(self) -> tuple[AppendFile, ...]:
        return self._ledger_file, self._jobs_file, self._copies_file

    def _read_tail(self, directory: Path) -> JournalTail:
        found = read_journal_tail(directory)
        if found.foreign_files or found.bad_lines:
            self._log.warning(
                "journal_unreadable",
                directory=str(directory),
                skipped=list(found.foreign_files),
                lines=found.bad_lines,
                fix="run `koi doctor`: it names the files",
            )
        return found


def _sweep(directory: Path, pattern: str, kept: timedelta) -> int:
    ends = time.time() - kept.total_seconds()
    files = (file for file in directory.glob(pattern) if file.is_file())
    old = [file for file in files if file.stat().st_mtime < ends]
    for file in old:
        file.unlink(missing_ok=True)
    return len(old)


MAX_REMEMBERED = 2048
"""How many of the latest jobs and entries are remembered."""


class ChangeDeduplicator:
    """Drops changes that this process has already written to the journal.

    A write that is repeated because its reply was lost reports the same changes again. Only jobs
    and entries are compared: their changes have an order of their own, so that one line is enough.
    """

    def __init__(self, max_remembered: int = MAX_REMEMBERED) -> None:
        self._max_remembered = max_remembered
        self._seen_fields: OrderedDict[tuple[str, ChangeKind, str], dict[str, int]] = OrderedDict()

    def take_new(self, record: JournalRecord) -> list[StoreChange]:
        """The changes that are not in the journal yet; from now on they count as written."""
        return [
            change for change in record.changes if self._remember_if_new(record.mark.epoch, change)
        ]

    def _remember_if_new(self, epoch: str, change: StoreChange) -> bool:
        if change.kind not in (ChangeKind.JOB, ChangeKind.ENTRY):
            return True
        says = _digests(change.fields)
        if change.seq:
            says[f"number {change.seq}"] = 0
        name = (epoch, change.kind, change.id)
        known = self._seen_fields.setdefault(name, {})
        self._seen_fields.move_to_end(name)
        if says.items() <= known.items():
            return False
        known.update(says)
        if len(self._seen_fields) > self._max_remembered:
            self._seen_fields.popitem(last=False)
        return True


def _digests(fields: Sequence[str]) -> dict[str, int]:
    """Each field with a digest of its value: values may be long."""
    # Names that are read from a reply are made anew each time: one of each is kept.
    return dict(zip(map(intern, fields[::2]), map(hash, fields[1::2]), strict=True))


class DelegatedJournal:
    """The `Journal` of a command on a shared store while gateways run: it writes nothing here.

    The gateways copy what operators change (see `wiring/journal_replication.py`); nobody would find
    a journal in the directory where the command happened to run.
    """

    position: Position | None = None
    last_positions: tuple[Position, ...] = ()
    unreadable = False

    def __init__(self) -> None:
        self.has_changes = False
        """Whether the command changed anything that must survive the loss of the store."""

    def append(self, record: JournalRecord) -> None:
        self.add(record)

    def flush(self) -> None:
        """There is nothing to write."""

    def add(self, record: JournalRecord) -> None:
        """The store keeps the change until a gateway has copied it."""
        self.has_changes = self.has_changes or any(change.seq for change in record.changes)

    def ready(self) -> bool:
        return True
