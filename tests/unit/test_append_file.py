"""A file of the journal on a disk that fails to sync, and over midnight."""

import errno
import os
from pathlib import Path

import pytest

from app.adapters.journal.append_file import AppendFile

NO_PLACE_TO_SYNC = os.strerror(errno.EINVAL)
"""What a pipe answers to a sync: the one file here that takes lines and syncs none."""


def test_what_could_not_be_synced_is_asked_for_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "page")
    reader = os.open(tmp_path / "page", os.O_RDONLY | os.O_NONBLOCK)
    append_file = AppendFile(tmp_path, lambda: "page")
    append_file.write(b"line")

    for _ in range(3):
        with pytest.raises(OSError, match=NO_PLACE_TO_SYNC):
            append_file.sync()

    append_file.close()
    os.close(reader)


def test_yesterdays_file_is_synced_before_it_is_closed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "yesterday")
    reader = os.open(tmp_path / "yesterday", os.O_RDONLY | os.O_NONBLOCK)
    names = ["yesterday"]
    append_file = AppendFile(tmp_path, lambda: names[-1])
    append_file.write(b"late")
    names.append("today")
    append_file.write(b"early")

    with pytest.raises(OSError, match=NO_PLACE_TO_SYNC):
        append_file.sync()

    append_file.close()
    os.close(reader)


def test_yesterdays_file_stays_open_until_the_sync(tmp_path: Path) -> None:
    names = ["yesterday"]
    append_file = AppendFile(tmp_path, lambda: names[-1])
    append_file.write(b"late")
    names.append("today")
    append_file.write(b"early")
    assert open_in(tmp_path) == {"yesterday", "today"}

    append_file.sync()

    assert open_in(tmp_path) == {"today"}
    append_file.close()
    assert open_in(tmp_path) == set()


def open_in(directory: Path) -> set[str]:
    """The files there that this process holds open."""
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    files = [Path(os.readlink(link)) for link in links if os.path.lexists(link)]
    return {file.name for file in files if file.parent == directory}
