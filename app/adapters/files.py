"""Files of the data directory: opened without following links, replaced whole, created once.

Whoever can write that directory could plant a symbolic link, and a command would write where it
leads; or a named pipe, and opening it would wait for ever.
"""

import os
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

SAFE_OPEN_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
TEMPORARY_PREFIX = ".part-"
"""Files that are being written. Those of processes that died are swept by this name."""


def open_no_follow(path: str, flags: int) -> int:
    """An `opener` for `open`; new files are private. Raises `OSError` for a link."""
    return os.open(path, flags | SAFE_OPEN_FLAGS, 0o600)


def read_bytes(path: Path) -> bytes:
    """Raises `OSError`."""
    with open(path, "rb", opener=open_no_follow) as file:
        return file.read()


def is_regular_file(path: Path) -> bool:
    """Whether the path itself is a regular file, not a link to one."""
    return path.is_file() and not path.is_symlink()


@dataclass(slots=True)
class _StagedFile:
    """A file written under a temporary name in the open `directory`, to be renamed to `name`."""

    directory: int
    name: str
    temporary: str
    descriptor: int = -1
    failure: OSError | None = None


def replace_file(
    path: Path,
    body: bytes,
    *,
    durable: bool = True,
    lock: AbstractContextManager[object] | None = None,
) -> None:
    """Write beside and rename, so that a reader finds the old file or the new one, never a part.

    If `durable`, the same holds after a power cut, and the new file is on disk when this returns.
    `lock` is held only during the rename. Raises `OSError`, after removing the temporary file.
    """
    directory = os.open(path.parent, DIRECTORY_FLAGS)
    try:
        file = _stage(directory, path.name, body)
        if durable:
            _sync(file)
        try:
            with lock or nullcontext():
                _rename(file)
        except OSError:
            _discard(file)
            raise
        if durable and file.failure is None:
            os.fsync(directory)
    finally:
        os.close(directory)
    if file.failure is not None:
        raise file.failure


def replace_files(files: Sequence[tuple[int, str, bytes]]) -> list[OSError | None]:
    """Durably replace many files (open directory, name, body): each directory is synced once.

    The failure of each file, None where it is stored; one file's failure is its own.
    """
    staged = [_stage(directory, name, body) for directory, name, body in files]
    for file in staged:
        _sync(file)
        _rename(file)
    for directory in {file.directory for file in staged if file.failure is None}:
        try:
            os.fsync(directory)
        except OSError as error:
            for file in staged:
                if file.directory == directory and file.failure is None:
                    file.failure = error
    return [file.failure for file in staged]


def sync_directory(directory: Path) -> None:
    """Names of files that were put there survive a power cut. Raises `OSError`."""
    handle = os.open(directory, DIRECTORY_FLAGS)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def create_file_once(directory: int, name: str, body: bytes) -> None:
    """Durably create a file in an open directory, whole or not at all, unless there is one already:
    of several processes at it, one succeeds. Raises `OSError` for other failures."""
    file = _stage(directory, name, body)
    _sync(file)
    try:
        if file.failure is not None:
            raise file.failure
        _link(file, body)
        os.fsync(directory)
    finally:
        _discard(file)


def _link(file: _StagedFile, body: bytes) -> None:
    directory = file.directory
    with suppress(FileExistsError):
        try:
            os.link(file.temporary, file.name, src_dir_fd=directory, dst_dir_fd=directory)
        except FileExistsError:
            raise
        except OSError:
            # Some network and user-space file systems have no links: a reader may find a part.
            descriptor = os.open(file.name, CREATE_FLAGS, mode=0o600, dir_fd=directory)
            try:
                os.write(descriptor, body)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _stage(directory: int, name: str, body: bytes) -> _StagedFile:
    file = _StagedFile(directory, name, f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
    try:
        file.descriptor = os.open(file.temporary, CREATE_FLAGS, mode=0o600, dir_fd=directory)
        view = memoryview(body)
        while view:
            view = view[os.write(file.descriptor, view) :]
    except OSError as error:
        file.failure = error
    return file


def _sync(file: _StagedFile) -> None:
    try:
        if file.failure is None:
            os.fsync(file.descriptor)
    except OSError as error:
        file.failure = error


def _rename(file: _StagedFile) -> None:
    directory = file.directory
    try:
        if file.failure is None:
            os.rename(file.temporary, file.name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        file.failure = error
    finally:
        if file.failure is not None:
            _discard(file)
        else:
            _close(file)


def _discard(file: _StagedFile) -> None:
    _close(file)
    with suppress(OSError):
        os.unlink(file.temporary, dir_fd=file.directory)


def _close(file: _StagedFile) -> None:
    if file.descriptor >= 0:
        descriptor, file.descriptor = file.descriptor, -1
        os.close(descriptor)
