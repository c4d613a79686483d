"""The id of a journal directory: a small file in it, by which its loss is noticed too."""

import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from app.adapters.files import DIRECTORY_FLAGS, create_file_once, open_no_follow

ID_FILE_NAME = "id"
TICK_NS = 100_000_000
"""Longer than a tick of the clock by which any kernel stamps its files."""
ID_PATTERN = re.compile(r"[0-9a-f]{16}")


def read_journal_id(directory: Path) -> str | None:
    """The journal's id; None when it has none (yet)."""
    try:
        file = open_no_follow(str(directory / ID_FILE_NAME), os.O_RDONLY)
    except OSError:
        return None
    try:
        return _read_id(file)
    finally:
        os.close(file)


class JournalIdFile:
    """Keeps the id file open, so that a deleted or replaced journal is noticed."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / ID_FILE_NAME
        self._file, self._opened = -1, FileId(0, 0)
        self.id: str | None = None
        with suppress(OSError):
            self._open()

    def ensure_id(self) -> None:
        """Give the journal an id unless it has one. Raises `OSError`."""
        if self.id is not None:
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if read_journal_id(self._path.parent) is None:
            self._path.unlink(missing_ok=True)  # cut short by a power loss
        directory = os.open(self._path.parent, DIRECTORY_FLAGS)
        try:
            create_file_once(directory, ID_FILE_NAME, f"{secrets.token_hex(8)}\n".encode())
        finally:
            os.close(directory)
        self._open()

    def gone(self) -> bool:
        """Whether the path no longer leads to the id file that was opened."""
        return self._file >= 0 and was_replaced(str(self._path), self._opened)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        file = open_no_follow(str(self._path), os.O_RDONLY)
        self.id = _read_id(file)
        if self.id is None:
            os.close(file)
        else:
            self._file, self._opened = file, file_id(file)


class FileId(NamedTuple):
    """A file as the system knows it, whatever its name."""

    device: int
    inode: int


def file_id(file: int) -> FileId:
    found = os.fstat(file)
    return FileId(found.st_dev, found.st_ino)


class DirectoryWatch:
    """Tells by one look whether anything in a directory was created, renamed or deleted."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._seen: tuple[int, int, int] | None = None

    def has_changed(self) -> bool:
        """Since the last look; the directory itself may also be another one, or none."""
        try:
            found = os.stat(self._path)
        except OSError:
            self._seen = None
            return True
        state = found.st_dev, found.st_ino, found.st_mtime_ns
        if state == self._seen:
            return False
        # Two changes within one tick of the kernel's clock have the same time.
        is_past = time.time_ns() - found.st_mtime_ns > TICK_NS
        self._seen = state if is_past else None
        return True

    def distrust(self) -> None:
        """The next look finds a change."""
        self._seen = None


def was_replaced(path: str, opened: FileId) -> bool:
    """Whether the path no longer leads to the file that was opened there."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return True
    return found.st_ino != opened.inode or found.st_dev != opened.device


def _read_id(file: int) -> str | None:
    try:
        text = os.read(file, 64).decode("ascii", "replace").strip()
    except OSError:
        return None
    return text if ID_PATTERN.fullmatch(text) else None
