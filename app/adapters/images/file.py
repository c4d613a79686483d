"""Images as plain files: `<root>/<two hex characters>/<name>`."""

import asyncio
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from app.adapters.images.durable import TEMPORARY, replace, replace_all
from app.domain.media import IMAGE_NAME, ImageStoreUnavailable, StoredImage, media_type_of

SHARDS = tuple(f"{number:02x}" for number in range(256))
MOST_EXAMINED = 50_000
MOST_AT_ONCE = 64
LEFTOVER_S = 3600.0

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Without O_NONBLOCK a pipe planted under an image's name would hang the reader.
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# A symbolic link, or whatever else is not a file of ours, is as good as nothing.
ABSENT = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.EISDIR})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(slots=True, eq=False)
class _Wish:
    """A file to be written, and who waits for it."""

    name: str
    body: bytes
    done: "asyncio.Future[None]"

    def tell(self, failure: ImageStoreUnavailable | None) -> None:
        if self.done.done():
            return
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)


class FileImageStore:
    """Image store on a local or mounted directory; file work is done in threads.

    Nothing below the root is reached through a symbolic link. Age is a file's modification time.
    Every method but `close` raises `ImageStoreUnavailable` when the disk fails.
    """

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        self._root = root
        self._now = now
        self._next_shard = 0
        self._queue: list[_Wish] = []
        self._courier: asyncio.Task[None] | None = None

    async def put(self, name: str, body: bytes, media_type: str) -> None:
        """Store durably; the same name again replaces. `ValueError` when no `IMAGE_NAME`."""
        if media_type_of(name) != media_type:
            raise ValueError(f"{name!r} does not name an image of type {media_type!r}")
        wish = _Wish(name, body, asyncio.get_running_loop().create_future())
        self._queue.append(wish)
        if self._courier is None:
            self._courier = asyncio.create_task(self._carry(), name="koi-images")
        await wish.done

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

    async def _carry(self) -> None:
        """Write what is queued, then what was queued meanwhile: one trip to the disk for many."""
        try:
            while self._queue:
                batch, self._queue = self._queue[:MOST_AT_ONCE], self._queue[MOST_AT_ONCE:]
                failures = await asyncio.to_thread(self._write_all, batch)
                for wish, failure in zip(batch, failures, strict=True):
                    wish.tell(failure)
        finally:
            self._courier = None
            for wish in self._queue:
                wish.done.cancel()

    def _write_all(self, wishes: Sequence["_Wish"]) -> list[ImageStoreUnavailable | None]:
        by_shard: dict[str, list[int]] = {}
        for index, wish in enumerate(wishes):
            by_shard.setdefault(_shard_of(wish.name), []).append(index)
        failures: list[ImageStoreUnavailable | None] = [None] * len(wishes)
        with ExitStack() as stack:
            files, places = [], []
            for shard, indexes in by_shard.items():
                try:
                    opened = stack.enter_context(self._opened(shard, create=True))
                except (OSError, ImageStoreUnavailable) as error:
                    for index in indexes:
                        failures[index] = self._explained(error)
                    continue
                files += [(opened, wishes[index].name, wishes[index].body) for index in indexes]
                places += indexes
            for index, failure in zip(places, replace_all(files), strict=True):
                failures[index] = None if failure is None else self._explained(failure)
        return failures

    def _explained(self, error: OSError | ImageStoreUnavailable) -> ImageStoreUnavailable:
        if isinstance(error, ImageStoreUnavailable):
            return error
        explained = self._unavailable(error)
        explained.__cause__ = error
        return explained

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
                replace(root, probe, b"koi")
                os.unlink(probe, dir_fd=root)
        except OSError as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _opened(self, shard: str, *, create: bool = False) -> Iterator[int]:
        root = self._open_root(create)
        try:
            with _directory(shard, root, os.O_NOFOLLOW, create=create) as opened:
                yield opened
        finally:
            os.close(root)

    def _open_root(self, create: bool) -> int:
        with suppress(FileNotFoundError):
            return os.open(self._root, DIRECTORY)
        if create:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._root, DIRECTORY)
        # Not the same as an absent image: an unmounted volume must not look like an empty one.
        raise ImageStoreUnavailable(
            f"The image directory {self._root} is missing: create or mount it."
        )

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
def _directory(
    path: Path | str, parent: int | None = None, extra: int = 0, *, create: bool = False
) -> Iterator[int]:
    try:
        opened = os.open(path, DIRECTORY | extra, dir_fd=parent)
    except FileNotFoundError:
        if not create or parent is None:
            raise
        _make_directory(parent, str(path))
        opened = os.open(path, DIRECTORY | extra, dir_fd=parent)
    try:
        yield opened
    finally:
        os.close(opened)


def _make_directory(parent: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, mode=0o700, dir_fd=parent)
        os.fsync(parent)


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
