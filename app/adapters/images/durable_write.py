"""Writing many files durably at once: the disk is asked to sync per batch, not per caller."""

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

TEMPORARY_PREFIX = ".part-"
WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _StagedFile:
    """A file on its way: written beside its place in `directory`, not yet synced."""

    directory: int
    name: str
    temporary: str
    descriptor: int = -1
    failure: OSError | None = None


def write_durably(directory: int, name: str, body: bytes) -> None:
    """Write one file durably; raises `OSError`."""
    (failure,) = write_all_durably([(directory, name, body)])
    if failure is not None:
        raise failure


def write_all_durably(files: Sequence[tuple[int, str, bytes]]) -> list[OSError | None]:
    """Write files (open directory, name, body) beside, sync, rename, sync.

    After a power cut each file is whole or absent. One file's failure is its own.
    """
    staged = [_stage(directory, name, body) for directory, name, body in files]
    for file in staged:
        _commit(file)
    for directory in {file.directory for file in staged if file.failure is None}:
        try:
            os.fsync(directory)
        except OSError as error:
            for file in staged:
                if file.directory == directory and file.failure is None:
                    file.failure = error
    return [file.failure for file in staged]


def _stage(directory: int, name: str, body: bytes) -> _StagedFile:
    file = _StagedFile(directory, name, f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        file.descriptor = os.open(file.temporary, WRITE_FLAGS, mode=0o600, dir_fd=directory)
        view = memoryview(body)
        while view:
            view = view[os.write(file.descriptor, view) :]
    except OSError as error:
        file.failure = error
    return file


def _commit(file: _StagedFile) -> None:
    directory = file.directory
    try:
        if file.failure is None:
            os.fsync(file.descriptor)
            os.rename(file.temporary, file.name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        file.failure = error
    finally:
        if file.descriptor >= 0:
            os.close(file.descriptor)
        if file.failure is not None:
            with suppress(OSError):
                os.unlink(file.temporary, dir_fd=directory)
