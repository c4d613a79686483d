"""Images as plain files: `<root>/<two hex characters>/<name>`."""

import asyncio
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from app.domain.media import IMAGE_NAME, ImageStoreUnavailable, StoredImage, media_type_of

SHARDS = tuple(f"{number:02x}" for number in range(256))
MOST_EXAMINED = 50_000
TEMPORARY = ".part-"
LEFTOVER_S = 3600.0

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK a pipe planted under an image's name would hang the reader.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# A symbolic link, or whatever else is not a file of ours, is as good as nothing.
ABSENT = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class FileImageStore:
    """Image store on a local or mounted directory; file work is done in threads.

    Nothing below the root is reached through a symbolic link. Age is a file's modification time.
    Every method but `close` raises `ImageStoreUnavailable` when the disk fails.
    """

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now = now
        self._next_shard = 0

    async def put(self, name: str, body: bytes, media_type: str) -> None:
        """Store durably; the same name again replaces. `ValueError` when no `IMAGE_NAME`."""
        if media_type_of(name) != media_type:
            raise ValueError(f"{name!r} does not name an image of type {media_type!r}")
        await asyncio.to_thread(self._write, name, body)

    async def get(self, name: str) -> StoredImage | None:
        """The image, or None when it was never stored or is gone."""
        media_type = media_type_of(name)
        if media_type is None:
            return None
        body = await asyncio.to_thread(self._read, name)
        return None if body is None else StoredImage(body, media_type)

    async def delete(self, name: str) -> None:
        """Remove an image; nothing happens when there is none."""
        if IMAGE_NAME.fullmatch(name):
            await asyncio.to_thread(self._remove, name)

    async def sweep(self, older_than: timedelta) -> int:
        """Remove images older than that and say how many.

        One sweep examines about 50 000 files; the next goes on where it ended.
        """
        cutoff = self._now() - older_than.total_seconds()
        removed = examined = 0
        for _ in SHARDS:
            shard = SHARDS[self._next_shard]
            self._next_shard = (self._next_shard + 1) % len(SHARDS)
            seen, gone = await asyncio.to_thread(self._sweep_shard, shard, cutoff)
            removed += gone
            examined += seen
            if examined >= MOST_EXAMINED:
                break
        return removed

    async def check(self) -> None:
        """Create the directory if need be, and prove that it can be written."""
        await asyncio.to_thread(self._prove)

    async def close(self) -> None:
        """Nothing is held open between calls."""

    def _write(self, name: str, body: bytes) -> None:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._opened(_shard_of(name), create=True) as shard:
                _replace(shard, name, body)
        except OSError as error:
            raise self._unavailable(error) from error

    def _read(self, name: str) -> bytes | None:
        try:
            with (
                self._opened(_shard_of(name)) as shard,
                open(os.open(name, READ, dir_fd=shard), "rb") as file,
            ):
                regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                return file.read() if regular else None
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise self._unavailable(error) from error

    def _remove(self, name: str) -> None:
        try:
            with self._opened(_shard_of(name)) as shard:
                os.unlink(name, dir_fd=shard)
        except OSError as error:
            if error.errno not in ABSENT:
                raise self._unavailable(error) from error

    def _sweep_shard(self, shard_name: str, cutoff: float) -> tuple[int, int]:
        try:
            with self._opened(shard_name) as shard:
                return _sweep(shard, cutoff, min(cutoff, self._now() - LEFTOVER_S))
        except OSError as error:
            if error.errno in ABSENT:
                return 0, 0
            raise self._unavailable(error) from error

    def _prove(self) -> None:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _directory(self._root) as root:
                probe = f"{TEMPORARY}check-{secrets.token_hex(8)}"
                _replace(root, probe, b"koi")
                os.unlink(probe, dir_fd=root)
        except OSError as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _opened(self, shard: str, *, create: bool = False) -> Iterator[int]:
        try:
            root = os.open(self._root, DIRECTORY)
        except FileNotFoundError:
            # Not the same as an absent image: an unmounted volume must not look like an empty one.
            raise ImageStoreUnavailable(
                f"The image directory {self._root} is missing: create or mount it."
            ) from None
        try:
            if create:
                _make_directory(root, shard)
            with _directory(shard, root, os.O_NOFOLLOW) as opened:
                yield opened
        finally:
            os.close(root)

    def _unavailable(self, error: OSError) -> ImageStoreUnavailable:
        if error.errno in FULL:
            advice = "free some space, or keep images for fewer days (KOI_IMAGE_TTL_DAYS)."
        elif error.errno in FORBIDDEN:
            advice = "let the gateway's user own and write this directory, on a writable disk."
        else:
            advice = "see that its path is a directory on a healthy disk."
        return ImageStoreUnavailable(
            f"The image directory {self._root} cannot be used ({error.strerror}): {advice}"
        )


def _shard_of(name: str) -> str:
    return name[4:6]


@contextmanager
def _directory(path: Path | str, parent: int | None = None, extra: int = 0) -> Iterator[int]:
    opened = os.open(path, DIRECTORY | extra, dir_fd=parent)
    try:
        yield opened
    finally:
        os.close(opened)


def _make_directory(parent: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, mode=0o700, dir_fd=parent)
        os.fsync(parent)


def _replace(directory: int, name: str, body: bytes) -> None:
    """Write beside, sync, rename, sync: after a power cut the file is whole or absent."""
    temporary = f"{TEMPORARY}{secrets.token_hex(8)}"
    try:
        with open(os.open(temporary, WRITE, mode=0o600, dir_fd=directory), "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


def _sweep(shard: int, cutoff: float, leftover: float) -> tuple[int, int]:
    """(files examined, images removed); leftovers of writers that died go as well."""
    seen = removed = 0
    with os.scandir(shard) as entries:
        for entry in entries:
            seen += 1
            image = IMAGE_NAME.fullmatch(entry.name) is not None
            if not image and not entry.name.startswith(TEMPORARY):
                continue
            with suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < (cutoff if image else leftover):
                    os.unlink(entry.name, dir_fd=shard)
                    removed += image
    return seen, removed
