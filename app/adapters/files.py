"""Opening files of the data directory: never through a symbolic link, never waiting for a pipe.

Whoever can write that directory could plant a link, and a command would write where it leads.
"""

import os
from pathlib import Path

SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def no_links(path: str, flags: int) -> int:
    """An `opener` for `open`; new files are private. Raises `OSError` for a link."""
    return os.open(path, flags | SAFELY, 0o600)


def read_bytes(path: Path) -> bytes:
    """Raises `OSError`."""
    with open(path, "rb", opener=no_links) as file:
        return file.read()


def write_text(path: Path, text: str) -> None:
    """Raises `OSError`."""
    with open(path, "w", opener=no_links) as file:
        file.write(text)


def is_plain(path: Path) -> bool:
    """Whether a regular file lies there itself, not a link to one."""
    return path.is_file() and not path.is_symlink()
