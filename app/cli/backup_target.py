"""Where a backup is written: a private file that appears when it is whole, or standard output."""

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.adapters.files import CREATE_FLAGS, DIRECTORY_FLAGS, TEMPORARY_PREFIX
from app.cli.errors import CommandFailed, usage_error

STANDARD_OUTPUT = "-"


@contextmanager
def open_target(name: str, *, force: bool) -> Iterator[BinaryIO]:
    """Raises `CommandFailed` for what cannot be written or would be overwritten."""
    if name == STANDARD_OUTPUT:
        yield _standard_output()
        return
    path = Path(name)
    _refuse_to_overwrite(path, force=force)
    beside = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    with _explained(path):
        out = os.fdopen(os.open(beside, CREATE_FLAGS, 0o600), "wb")
    try:
        with out, _explained(path):
            yield out
            out.flush()
            os.fsync(out.fileno())
        _refuse_to_overwrite(path, force=force)
        with _explained(path):
            beside.rename(path)
            _sync_directory(path.parent)
    finally:
        with suppress(OSError):
            beside.unlink()


def _standard_output() -> BinaryIO:
    if sys.stdout.isatty():
        raise usage_error(
            "A backup is no text for a terminal: name a file, or redirect the output."
        )
    return sys.stdout.buffer


def _refuse_to_overwrite(path: Path, *, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise CommandFailed(f"{path} exists already; nothing was written. --force replaces it.")


def _sync_directory(directory: Path) -> None:
    opened = os.open(directory, DIRECTORY_FLAGS)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What is wrong with the file, not with the store."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(
            f"{path} cannot be written ({error.strerror or error}), and no backup was made. This "
            "command runs as the owner of KOI_DATA_DIR: name a file that this user may write on a "
            "disk with room, or let the shell write it (koi backup - > FILE)."
        ) from error
