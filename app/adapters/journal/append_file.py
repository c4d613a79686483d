"""An append-only file that loses no line to a full disk: what it does not take stays in line."""

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from app.adapters.journal.id_file import was_replaced

APPEND_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
RETRY_INTERVAL_S = 1.0


class AppendFile:
    """Lines for the file that `name()` names now; it may name another one tomorrow."""

    def __init__(self, directory: Path, name: Callable[[], str]) -> None:
        self._directory, self._name = directory, name
        self._open_name, self._file = "", -1
        self._unwritten = b""
        self._unsynced = False
        self._rotated: deque[int] = deque()
        """Files of other days, which only `sync` closes: it may be at work on one."""
        self._failed_s: float | None = None
        self._log = structlog.get_logger("koi.journal")

    def write(self, line: bytes) -> None:
        self._unwritten += line + b"\n"
        self.try_flush()

    def try_flush(self) -> bool:
        """True when all lines are in the kernel's hands; tries again once a second."""
        due = self._failed_s is None or time.monotonic() > self._failed_s
        if self._unwritten and due and not self.gone():
            self._flush()
        return not self._unwritten

    def gone(self) -> bool:
        """Whether the file was deleted or replaced while we write it: what goes there is lost."""
        # Yesterday's file may be swept; the next line turns the page.
        current = self._file >= 0 and self._open_name == self._name()
        return current and was_replaced(self._file, self._directory / self._open_name)

    def sync(self) -> None:
        """Ask the disk to keep what was written; blocks, so in a thread. Raises `OSError`; what was
        not kept is asked for again by the next call."""
        while self._rotated:
            os.fdatasync(self._rotated[0])
            os.close(self._rotated.popleft())
        if self._unsynced:
            # In this order: what the loop writes or turns meanwhile is left to the next call.
            self._unsynced = False
            try:
                os.fdatasync(self._file)
            except OSError:
                self._unsynced = True
                raise

    def close(self) -> None:
        if self._unwritten and self.gone():
            self._open_name = (
                ""  # a new file in what is there now: nothing else will keep these lines
            )
        self.try_flush()
        for file in (*self._rotated, self._file):
            if file >= 0:
                os.close(file)
        self._rotated.clear()
        self._file = -1

    def _flush(self) -> None:
        try:
            self._rotate()
            while self._unwritten:
                written = os.write(self._file, self._unwritten)
                self._unwritten, self._unsynced = self._unwritten[written:], True
        except OSError as error:
            if self._failed_s is None:
                self._log.error("journal_failed", reason=error.strerror)
            self._failed_s = time.monotonic() + RETRY_INTERVAL_S
            return
        if self._failed_s is not None:
            self._failed_s = None
            self._log.warning("journal_writes_again")

    def _rotate(self) -> None:
        name = self._name()
        if name == self._open_name and self._file >= 0:
            return
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._directory / name, APPEND_FLAGS, 0o600)
        if self._file >= 0:
            self._rotated.append(self._file)
        self._open_name, self._file = name, file
