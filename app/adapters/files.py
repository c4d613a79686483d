"""Opening files of the data directory: never through a symbolic link, never waiting for a pipe.

Whoever can write that directory could plant a link, and a command would write where it leads.
"""

import os
from pathlib import Path

SAFE_OPEN_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_no_follow(path: str, flags: int) -> int:
    """An `opener` for `open`; new files are private. Raises `OSError` for a link."""
    return os.open(path, flags | SAFE_OPEN_FLAGS, 0o600)


def read_bytes(path: Path) -> bytes:
    """Raises `OSError`."""
    with open(path, "rb", opener=open_no_follow) as file:
        return file.read()


def write_text(path: Path, text: str) -> None:
    """Raises `OSError`."""
    with open(path, "w", opener=open_no_follow) as file:
        file.write(text)


def is_regular_file(path: Path) -> bool:
    """Whether a regular file lies there itself, not a link to one."""
    return path.is_file() and not path.is_symlink()
