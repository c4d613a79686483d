"""The directory of a file image store: a root with 256 shards, its id, and its failures in words.

The id is a small file in the root, so that all gateways that share the directory read the same one.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.adapters.files import (
    DIRECTORY_FLAGS,
    SAFE_OPEN_FLAGS,
    TEMPORARY_PREFIX,
    create_file_once,
)
from app.domain.media import IMAGE_NAME, ImageStoreUnavailable, picture_of

SHARD_FLAGS = DIRECTORY_FLAGS | os.O_NOFOLLOW
SHARDS = tuple(f"{number:02x}" for number in range(256))

# A symbolic link, or anything else that is not a regular file, counts as absent.
ABSENT_ERRNOS = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})
DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
PERMISSION_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def shard_of(name: str) -> str:
    return name[4:6]


class ShardedDirectory:
    """Opens the shards of a root. No symbolic link below the root is followed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def open_scoped(self, shard: str, *, create: bool = False) -> Iterator[int]:
        """The shard's descriptor; raises `OSError`, and `ImageStoreUnavailable` without a root."""
        descriptor = self.open(shard, create=create)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def open(self, shard: str, *, create: bool = False) -> int:
        """Like `open_scoped`, but the caller closes the descriptor."""
        with suppress(FileNotFoundError):
            return os.open(f"{self.root}/{shard}", SHARD_FLAGS)
        root = self._open_root(create)
        try:
            return _open_shard(root, shard, create)
        finally:
            os.close(root)

    def list_names(self) -> frozenset[str]:
        """What stands in the root: the shards that were made, and other files."""
        root = self._open_root(create=False)
        try:
            return frozenset(os.listdir(root))
        finally:
            os.close(root)

    def create_root(self) -> int:
        """The root's descriptor; the root is created if it is missing. The caller closes it."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.root, DIRECTORY_FLAGS)

    def _open_root(self, create: bool) -> int:
        with suppress(FileNotFoundError):
            return os.open(self.root, DIRECTORY_FLAGS)
        if create:
            return self.create_root()
        # An unmounted volume must not look like an empty one, whose images are gone for good.
        raise ImageStoreUnavailable(
            f"The image directory {self.root} is missing: create or mount it."
        )

    def map_error(self, error: Exception) -> ImageStoreUnavailable:
        """The failure in words that tell the operator what to do."""
        if isinstance(error, ImageStoreUnavailable):
            return error
        code = error.errno if isinstance(error, OSError) else None
        if code in DISK_FULL_ERRNOS:
            advice = "free some space, or keep images for fewer days (KOI_IMAGE_TTL_DAYS)."
        elif code in PERMISSION_ERRNOS:
            advice = "let the gateway's user own and write this directory, on a writable disk."
        else:
            advice = "see that its path is a directory on a healthy disk."
        words = error.strerror if isinstance(error, OSError) else type(error).__name__
        explained = ImageStoreUnavailable(
            f"The image directory {self.root} cannot be used ({words}): {advice}"
        )
        explained.__cause__ = error
        return explained


def _open_shard(root: int, shard: str, create: bool) -> int:
    if create:
        with suppress(FileExistsError):
            os.mkdir(shard, mode=0o700, dir_fd=root)
            os.fsync(root)
    return os.open(shard, SHARD_FLAGS, dir_fd=root)


STORE_ID_FILE = "store-id"
STORE_ID = re.compile(r"[0-9a-f]{32}")
READ_FLAGS = os.O_RDONLY | SAFE_OPEN_FLAGS
WRITE_TIMEOUT_S = 2.0
RETRY_INTERVAL_S = 0.05


def ensure_store_id(root: int, where: str) -> str:
    """The directory's id, created now if there is none. An id is never overwritten.

    `root` is the open directory. Raises `OSError`; `ImageStoreUnavailable` for a damaged id.
    """
    deadline_s = time.monotonic() + WRITE_TIMEOUT_S
    while True:
        with suppress(FileNotFoundError):
            name = _read_store_id(root)
            if STORE_ID.fullmatch(name):
                return name
            if time.monotonic() > deadline_s:
                raise ImageStoreUnavailable(
                    f"{where}/{STORE_ID_FILE} should hold the name of this image directory and is "
                    "damaged: restore it from a backup; or stop every gateway, delete it and "
                    "start them."
                )
            # Where the file system has no links, another process may be writing it now.
            time.sleep(RETRY_INTERVAL_S)
            continue
        create_file_once(root, STORE_ID_FILE, f"{secrets.token_hex(16)}\n".encode())


def _read_store_id(root: int) -> str:
    file = os.open(STORE_ID_FILE, READ_FLAGS, dir_fd=root)
    try:
        return os.read(file, 64).decode("ascii", "replace").strip()
    finally:
        os.close(file)


def read_at(descriptor: int, at: int, wanted: int) -> bytes:
    """The wanted bytes, as far as the file has them: one `pread` may give less."""
    given = os.pread(descriptor, wanted, at)
    pieces = [given]
    while given and len(given) < wanted:
        at, wanted = at + len(given), wanted - len(given)
        given = os.pread(descriptor, wanted, at)
        pieces.append(given)
    return b"".join(pieces) if len(pieces) > 1 else pieces[0]


def sweep_directory(shard: int, cutoff: float, leftover: float) -> tuple[int, int]:
    """(files examined, images removed); temporary files of dead processes are removed too, and
    previews whose picture is gone."""
    seen = removed = 0
    previews = []
    with os.scandir(shard) as entries:
        for entry in entries:
            seen += 1
            image = IMAGE_NAME.fullmatch(entry.name) is not None
            if (picture := picture_of(entry.name)) is not None:
                previews.append((entry.name, picture))
            if not image and not entry.name.startswith(TEMPORARY_PREFIX):
                continue
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < (cutoff if image else leftover):
                    os.unlink(entry.name, dir_fd=shard)
                    removed += image
    for preview, picture in previews:
        if not _is_there(picture, shard):
            with suppress(FileNotFoundError):
                os.unlink(preview, dir_fd=shard)
    return seen, removed


def _is_there(name: str, shard: int) -> bool:
    try:
        os.stat(name, dir_fd=shard, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
