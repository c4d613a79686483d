"""The `Journal` as JSON lines: up to three files for each process and day.

`….books.jsonl` holds what the accounts are made of and is kept for long; `….jobs.jsonl` holds jobs'
records, in which a provider may quote prompts, and is kept no longer than the pictures;
`….changes.jsonl` is copied from the store: what operators changed elsewhere.

A line is in the kernel's hands when `note` returns, so it survives the death of the process; the
disk is asked to sync once a second, so a machine that loses power loses a second of it.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import structlog

from app.adapters.journal.history import COPIES, ending
from app.adapters.journal.marker import Marker
from app.adapters.journal.page import Page
from app.adapters.journal.told import Told
from app.domain.journal import Change, Kind, Mark, Step


def _now() -> datetime:
    return datetime.now(UTC)


class FileJournal:
    """Appends to files of its own in `directory`, which the first line creates."""

    def __init__(self, directory: Path, *, now: Callable[[], datetime] = _now) -> None:
        self._log = structlog.get_logger("koi.journal")
        self.mark: Mark | None = self._left_off(directory)
        self.directory = directory
        self._marker = Marker(directory)
        self._was_gone = False
        self.wrote = False
        """Whether anything that nobody may forget was written by this process."""
        self._told = Told()
        process = secrets.token_hex(4)
        self._books = Page(directory, lambda: f"{now():%Y-%m-%d}-{process}.books.jsonl")
        self._jobs = Page(directory, lambda: f"{now():%Y-%m-%d}-{process}.jobs.jsonl")
        self._copies = Page(directory, lambda: f"{now():%Y-%m-%d}-{process}{COPIES}")

    @property
    def id(self) -> str | None:
        """The directory's name; None before its first line."""
        return self._marker.id

    def claim(self) -> None:
        """Name the directory, and create it if need be. Raises `OSError`."""
        self._marker.claim()

    def note(self, step: Step) -> None:
        news = self._told.news(step)
        if step.changes and not news:
            return
        jobs = [change for change in news if change.kind is Kind.JOB]
        books = [change for change in news if change.kind is not Kind.JOB]
        # An admission is a job's affair, but its number must stay known.
        books += [Change(Kind.JOB, job.id, (), job.seq) for job in jobs if job.seq]
        self.wrote = self.wrote or any(change.seq for change in step.changes)
        if books or not jobs:
            self._books.write(orjson.dumps(replace(step, changes=books)))
        if jobs:
            self._jobs.write(orjson.dumps(replace(step, changes=jobs)))

    def copy(self, step: Step) -> None:
        """Write down what somebody else changed; it says nothing of what this process has seen."""
        self._copies.write(orjson.dumps(step))

    def ready(self) -> bool:
        return not self.gone() and all(page.ready() for page in self._pages)

    def gone(self) -> bool:
        """Whether our files were deleted or replaced while we write them."""
        gone = self._marker.gone() or any(page.gone() for page in self._pages)
        if gone is not self._was_gone:
            self._was_gone = gone
            if gone:
                mend = "put the directory back, or restart and run `koi doctor`; nothing is spent"
                self._log.error("journal_gone", directory=str(self.directory), mend=mend)
            else:
                self._log.warning("journal_found_again", directory=str(self.directory))
        return gone

    def sync(self) -> None:
        """Ask the disk to keep what was written; blocks. Raises `OSError`."""
        for page in self._pages:
            page.sync()

    def sweep(self, *, books: timedelta, jobs: timedelta) -> int:
        """Remove files last written longer ago than that; how many."""
        kept = {"*.books.jsonl": books, f"*{COPIES}": books, "*.jobs.jsonl": jobs}
        return sum(_sweep(self.directory, pattern, life) for pattern, life in kept.items())

    def close(self) -> None:
        for page in self._pages:
            page.close()
        self._marker.close()

    @property
    def _pages(self) -> tuple[Page, ...]:
        return self._books, self._jobs, self._copies

    def _left_off(self, directory: Path) -> Mark | None:
        found = ending(directory)
        if found.strangers or found.bad_lines:
            self._log.warning(
                "journal_unreadable",
                directory=str(directory),
                skipped=list(found.strangers),
                lines=found.bad_lines,
                mend="look with `koi doctor`",
            )
        return found.mark


def _sweep(directory: Path, pattern: str, kept: timedelta) -> int:
    ends = time.time() - kept.total_seconds()
    files = (file for file in directory.glob(pattern) if file.is_file())
    old = [file for file in files if file.stat().st_mtime < ends]
    for file in old:
        file.unlink(missing_ok=True)
    return len(old)
