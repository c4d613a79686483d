"""Compresses the journal's files of days that are over (decision 38): `….jsonl` to `….jsonl.gz`.

The file that holds the latest position stays as it is, since a new process reads the end of it.
"""

import fcntl
import gzip
import os
import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from app.adapters.files import (
    DIRECTORY_FLAGS,
    is_regular_file,
    open_no_follow,
    sync_directory,
)
from app.adapters.journal.reader import (
    BOOKS_SUFFIX,
    COMPRESSED_SUFFIX,
    COPIES_SUFFIX,
    open_lines,
    read_last_mark,
)

OPEN_DAYS = timedelta(days=2)
"""A day's files are left alone for so long after it began: every process writes into new ones by
then, also where a clock is some hours wrong."""
DATED_NAME = re.compile(r"(\d{4}-\d\d-\d\d)-[0-9a-f]+\.(?:books|jobs|changes)\.jsonl")
TEMPORARY_SUFFIX = ".tmp"
BUFFER_BYTES = 1 << 20
MIN_FREE_BYTES = 64 << 20
"""What a disk must keep beside the copy of a file: pictures and lines are written meanwhile."""


def compress_closed_days(directory: Path, *, now: datetime | None = None) -> int:
    """Compress what is over, one process at a time; returns how many files. Blocks, so call it in
    a thread; a crash at any moment loses nothing. Raises `OSError`."""
    last_day = ((now or datetime.now(UTC)) - OPEN_DAYS).date()
    if not directory.is_dir():
        return 0
    with lock_directory(directory) as locked:
        if not locked:
            return 0
        for left in directory.glob(f"*{COMPRESSED_SUFFIX}{TEMPORARY_SUFFIX}"):
            left.unlink(missing_ok=True)
        files = [file for file in sorted(directory.glob("*.jsonl")) if is_regular_file(file)]
        books = [file for file in files if file.name.endswith(BOOKS_SUFFIX)]
        # Of two files with the same position the one that is kept for longer has to stay, too.
        latest = {_find_latest(files), _find_latest(books)}
        closed = [file for file in files if _is_closed(file, last_day) and file not in latest]
        for number, file in enumerate(closed):
            if shutil.disk_usage(directory).free < file.stat().st_size + MIN_FREE_BYTES:
                return number  # the room is needed for what is written now
            _compress(file)
        return len(closed)


@contextmanager
def lock_directory(directory: Path) -> Iterator[bool]:
    """Whether this process may write files of days and months that are over: one at a time."""
    handle = os.open(directory, DIRECTORY_FLAGS)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _find_latest(files: list[Path]) -> Path | None:
    """The file with the highest position."""
    marks = []
    for file in files:
        if not file.name.endswith(COPIES_SUFFIX):
            with suppress(OSError):
                mark, _ = read_last_mark(file)
                marks += [] if mark is None else [(mark.seq, file)]
    return max(marks)[1] if marks else None


def _is_closed(file: Path, last_day: date) -> bool:
    match = DATED_NAME.fullmatch(file.name)
    with suppress(ValueError):
        return match is not None and date.fromisoformat(match[1]) < last_day
    return False


def _compress(file: Path) -> None:
    """Write the compressed file beside, sync it, put it in place, then remove the other one.

    Where there is a compressed file already, either a crash left both, or a clock that was set back
    made the day come again: then its lines are added.
    """
    packed = file.with_name(file.name + ".gz")
    earlier = is_regular_file(packed)
    if not (earlier and _has_same_lines(packed, file)):
        temporary = packed.with_name(packed.name + TEMPORARY_SUFFIX)
        try:
            _write(temporary, file, packed if earlier else None)
        except BaseException:
            # A disk that is full has no room for half a file.
            temporary.unlink(missing_ok=True)
            raise
        written = file.stat()
        os.utime(temporary, ns=(written.st_atime_ns, written.st_mtime_ns))
        temporary.replace(packed)
        sync_directory(file.parent)
    file.unlink()


def _write(temporary: Path, file: Path, earlier: Path | None) -> None:
    with open(temporary, "wb", opener=open_no_follow) as out:
        if earlier is not None:
            with _read(earlier) as before:
                shutil.copyfileobj(before, out, BUFFER_BYTES)
        with _read(file) as lines, gzip.GzipFile("", "wb", fileobj=out, mtime=0) as member:
            shutil.copyfileobj(lines, member, BUFFER_BYTES)
        out.flush()
        os.fsync(out.fileno())


def _has_same_lines(packed: Path, file: Path) -> bool:
    try:
        with open_lines(packed) as one, _read(file) as other:
            while True:
                here, there = one.read(BUFFER_BYTES), other.read(BUFFER_BYTES)
                if here != there:
                    return False
                if not here:
                    return True
    except (OSError, EOFError, zlib.error):
        return False


def _read(file: Path) -> BinaryIO:
    return open(file, "rb", opener=open_no_follow)
