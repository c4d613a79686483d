"""The name of an image directory: a small file in it, the same for everybody who shares it."""

import os
import re
import secrets
import time
from contextlib import suppress

from app.adapters.images.durable import TEMPORARY
from app.domain.media import ImageStoreUnavailable

MARKER = "store-id"
ID = re.compile(r"[0-9a-f]{32}")
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
HALF_WRITTEN_S = 2.0
AGAIN_S = 0.05


def claim(root: int, where: str) -> str:
    """The directory's name, given now if it has none. It is never written over.

    `root` is the open directory. Raises `OSError`; `ImageStoreUnavailable` for a damaged name.
    """
    deadline_s = time.monotonic() + HALF_WRITTEN_S
    while True:
        with suppress(FileNotFoundError):
            name = _read(root)
            if ID.fullmatch(name):
                return name
            if time.monotonic() > deadline_s:
                raise ImageStoreUnavailable(
                    f"{where}/{MARKER} should hold the name of this image directory and is damaged:"
                    " restore it from a backup; or stop every gateway, delete it and start them."
                )
            time.sleep(AGAIN_S)  # where links do not exist, another process may be writing it
            continue
        _create(root)


def _read(root: int) -> str:
    file = os.open(MARKER, READ, dir_fd=root)
    try:
        return os.read(file, 64).decode("ascii", "replace").strip()
    finally:
        os.close(file)


def _create(root: int) -> None:
    """Of several processes at it, one succeeds; what the others wrote is thrown away."""
    part = f"{TEMPORARY}{secrets.token_hex(8)}"
    body = f"{secrets.token_hex(16)}\n".encode()
    _write(root, part, body)
    try:
        os.link(part, MARKER, src_dir_fd=root, dst_dir_fd=root)
    except FileExistsError:
        return
    except OSError:
        # Some network and user-space file systems have no links.
        with suppress(FileExistsError):
            _write(root, MARKER, body)
    finally:
        os.unlink(part, dir_fd=root)
    os.fsync(root)


def _write(root: int, name: str, body: bytes) -> None:
    file = os.open(name, CREATE, 0o600, dir_fd=root)
    try:
        os.write(file, body)
        os.fsync(file)
    finally:
        os.close(file)
