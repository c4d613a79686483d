"""The `Journal` as JSON lines: two files for each process and day.

`….books.jsonl` holds what the accounts are made of and is kept for long; `….jobs.jsonl` holds jobs'
records, in which a provider may quote prompts, and is kept no longer than the pictures.

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

from app.adapters.journal.history import latest_mark
from app.adapters.journal.page import Page
from app.adapters.journal.told import Told
from app.domain.journal import Change, Kind, Mark, Step


def _now() -> datetime:
    return datetime.now(UTC)


class FileJournal:
    """Appends to files of its own in `directory`, which the first line creates."""

    def __init__(self, directory: Path, *, now: Callable[[], datetime] = _now) -> None:
        self.mark: Mark | None = latest_mark(directory)
        self.directory = directory
        self._told = Told()
        process = secrets.token_hex(4)
        self._books = Page(directory, lambda: f"{now():%Y-%m-%d}-{process}.books.jsonl")
        self._jobs = Page(directory, lambda: f"{now():%Y-%m-%d}-{process}.jobs.jsonl")

    def note(self, step: Step) -> None:
        news = self._told.news(step)
        if step.changes and not news:
            return
        jobs = [change for change in news if change.kind is Kind.JOB]
        books = [change for change in news if change.kind is not Kind.JOB]
        # An admission is a job's affair, but its number must stay known.
        books += [Change(Kind.JOB, job.id, (), job.seq) for job in jobs if job.seq]
        if books or not jobs:
            self._books.write(orjson.dumps(replace(step, changes=books)))
        if jobs:
            self._jobs.write(orjson.dumps(replace(step, changes=jobs)))

    def ready(self) -> bool:
        return self._books.ready() and self._jobs.ready()

    def sync(self) -> None:
        """Ask the disk to keep what was written; blocks. Raises `OSError`."""
        self._books.sync()
        self._jobs.sync()

    def sweep(self, *, books: timedelta, jobs: timedelta) -> int:
        """Remove files last written longer ago than that; how many."""
        return _sweep(self.directory, "*.books.jsonl", books) + _sweep(
            self.directory, "*.jobs.jsonl", jobs
        )

    def close(self) -> None:
        self._books.close()
        self._jobs.close()


def _sweep(directory: Path, pattern: str, kept: timedelta) -> int:
    ends = time.time() - kept.total_seconds()
    old = [file for file in directory.glob(pattern) if file.stat().st_mtime < ends]
    for file in old:
        file.unlink(missing_ok=True)
    return len(old)
