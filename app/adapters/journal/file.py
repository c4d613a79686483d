"""The `Journal` as JSON lines, one file for each process and day.

A line is in the kernel's hands when `note` returns, so it survives the death of the process; the
disk is asked to sync once a second, so a machine that loses power loses a second of it.
"""

import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import structlog

from app.adapters.journal.history import latest_mark
from app.domain.journal import Mark, Step

APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
AGAIN_S = 1.0
SUFFIX = ".jsonl"


def _now() -> datetime:
    return datetime.now(UTC)


class FileJournal:
    """Appends to a file of its own in `directory`, which the first line creates."""

    def __init__(self, directory: Path, *, now: Callable[[], datetime] = _now) -> None:
        self.mark: Mark | None = latest_mark(directory)
        self.directory, self._now = directory, now
        self._process = secrets.token_hex(4)
        self._day, self._file = "", -1
        self._unwritten = b""
        self._unsynced = False
        self._next_try_s = 0.0
        self._log = structlog.get_logger("koi.journal")

    def note(self, step: Step) -> None:
        failing = bool(self._unwritten)
        self._unwritten += orjson.dumps(step) + b"\n"
        if not failing or time.monotonic() >= self._next_try_s:
            self._write()

    def ready(self) -> bool:
        if self._unwritten and time.monotonic() >= self._next_try_s:
            self._write()
        return not self._unwritten

    def sync(self) -> None:
        """Ask the disk to keep what was written; blocks. Raises `OSError`."""
        if self._unsynced:
            self._unsynced = False
            os.fdatasync(self._file)

    def sweep(self, older_than: timedelta) -> int:
        """Remove files last written before that; how many."""
        ends = time.time() - older_than.total_seconds()
        old = [f for f in self.directory.glob(f"*{SUFFIX}") if f.stat().st_mtime < ends]
        for file in old:
            file.unlink(missing_ok=True)
        return len(old)

    def close(self) -> None:
        self.ready()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self) -> None:
        """Write as much as the disk takes; the rest stays in line, to the byte."""
        failed = False
        try:
            self._turn_page()
            while self._unwritten:
                written = os.write(self._file, self._unwritten)
                self._unwritten, self._unsynced = self._unwritten[written:], True
        except OSError as error:
            failed = True
            if not self._next_try_s:
                self._log.error("journal_failed", reason=error.strerror)
            self._next_try_s = time.monotonic() + AGAIN_S
        if self._next_try_s and not failed:
            self._next_try_s = 0.0
            self._log.warning("journal_writes_again")

    def _turn_page(self) -> None:
        day = f"{self._now():%Y-%m-%d}"
        if day == self._day and self._file >= 0:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self.directory / f"{day}-{self._process}{SUFFIX}", APPEND, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._day, self._file = day, file
