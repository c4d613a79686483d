"""The directory of a file image store: a root, 256 shards, and what their failures mean."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.domain.media import ImageStoreUnavailable

SHARDS = tuple(f"{number:02x}" for number in range(256))
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# A symbolic link, or whatever else is not a file of ours, is as good as nothing.
ABSENT = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def shard_of(name: str) -> str:
    return name[4:6]


class Shards:
    """Opens a root's shards; nothing below the root is reached through a symbolic link."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextmanager
    def opened(self, shard: str, *, create: bool = False) -> Iterator[int]:
        """The shard's descriptor; raises `OSError`, and `ImageStoreUnavailable` without a root."""
        descriptor = self.open(shard, create=create)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def open(self, shard: str, *, create: bool = False) -> int:
        """Like `opened`, to be closed by the caller."""
        root = self._open_root(create)
        try:
            return _open_below(root, shard, create)
        finally:
            os.close(root)

    def make(self) -> int:
        """The root's descriptor, after making it if need be; to be closed by the caller."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.root, DIRECTORY)

    def _open_root(self, create: bool) -> int:
        with suppress(FileNotFoundError):
            return os.open(self.root, DIRECTORY)
        if create:
            return self.make()
        # Not the same as an absent image: an unmounted volume must not look like an empty one.
        raise ImageStoreUnavailable(
            f"The image directory {self.root} is missing: create or mount it."
        )

    def explained(self, error: Exception) -> ImageStoreUnavailable:
        """The same failure in words that say what to mend."""
        if isinstance(error, ImageStoreUnavailable):
            return error
        code = error.errno if isinstance(error, OSError) else None
        if code in FULL:
            advice = "free some space, or keep images for fewer days (KOI_IMAGE_TTL_DAYS)."
        elif code in FORBIDDEN:
            advice = "let the gateway's user own and write this directory, on a writable disk."
        else:
            advice = "see that its path is a directory on a healthy disk."
        words = error.strerror if isinstance(error, OSError) else type(error).__name__
        explained = ImageStoreUnavailable(
            f"The image directory {self.root} cannot be used ({words}): {advice}"
        )
        explained.__cause__ = error
        return explained


def _open_below(root: int, shard: str, create: bool) -> int:
    with suppress(FileNotFoundError):
        return os.open(shard, DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
    if create:
        with suppress(FileExistsError):
            os.mkdir(shard, mode=0o700, dir_fd=root)
            os.fsync(root)
    return os.open(shard, DIRECTORY | os.O_NOFOLLOW, dir_fd=root)
