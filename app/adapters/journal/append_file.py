"""An append-only file that loses no line to a full disk: unwritten lines stay in memory."""

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import structlog

from app.adapters.journal.id_file import FileId, file_id, was_replaced

APPEND_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
RETRY_INTERVAL_S = 1.0


class AppendFile:
    """Appends lines to the file that `name()` names; when the name changes, to a new file."""

    def __init__(self, directory: Path, name: Callable[[], str]) -> None:
        self._directory, self._name = directory, name
        self._open_name, self._file = "", -1
        self._path, self._id = "", FileId(0, 0)
        self._added: list[bytes] = []
        self._unwritten = b""
        self._unsynced = False
        self._rotated: deque[int] = deque()
        """Files of earlier days. Only `sync` closes them, since it may be syncing one right now."""
        self._failed_s: float | None = None
        self._log = structlog.get_logger("koi.journal")

    def write(self, line: bytes) -> None:
        self.add(line)
        self.try_flush()

    def add(self, line: bytes) -> None:
        """Take a line, to be written by `try_flush` together with those before it."""
        self._added += (line, b"\n")

    def try_flush(self) -> bool:
        """True when the kernel has all lines; after a failure it tries again once a second."""
        if not self._added and not self._unwritten:
            return True
        self._unwritten += b"".join(self._added)
        self._added.clear()
        due = self._failed_s is None or time.monotonic() > self._failed_s
        name = self._name()
        if due and not self._is_gone(name):
            self._flush(name)
        return not self._unwritten

    def gone(self) -> bool:
        """Whether the open file was deleted or replaced: lines written to it would be lost."""
        return self._is_gone(self._name())

    def _is_gone(self, name: str) -> bool:
        # Yesterday's file may have been swept; the next line opens a new one.
        current = self._file >= 0 and self._open_name == name
        return current and was_replaced(self._path, self._id)

    def sync(self) -> None:
        """Sync what was written to disk; blocks, so call it in a thread. Raises `OSError`; the next
        call then syncs it again."""
        while self._rotated:
            os.fdatasync(self._rotated[0])
            os.close(self._rotated.popleft())
        if self._unsynced:
            # Reset the flag first: what is written during the sync is left to the next call.
            self._unsynced = False
            try:
                os.fdatasync(self._file)
            except OSError:
                self._unsynced = True
                raise

    def close(self) -> None:
        if (self._unwritten or self._added) and self.gone():
            self._open_name = ""  # write to a new file, or these lines are lost
        self.try_flush()
        for file in (*self._rotated, self._file):
            if file >= 0:
                os.close(file)
        self._rotated.clear()
        self._file = -1

    def _flush(self, name: str) -> None:
        try:
            if name != self._open_name or self._file < 0:
                self._rotate(name)
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

    def _rotate(self, name: str) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = str(self._directory / name)
        file = os.open(path, APPEND_FLAGS, 0o600)
        if self._file >= 0:
            self._rotated.append(self._file)
        self._open_name, self._file = name, file
        self._path, self._id = path, file_id(file)
