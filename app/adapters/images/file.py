"""Images as plain files: `<root>/<two hex characters>/<name>`."""

import asyncio
import os
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from app.adapters.files import TEMPORARY_PREFIX, replace_file, replace_files
from app.adapters.images.directory import (
    ABSENT_ERRNOS,
    READ_FLAGS,
    SHARDS,
    ShardedDirectory,
    ensure_store_id,
    read_at,
    shard_of,
    sweep_directory,
)
from app.adapters.images.local_disk import is_on_local_disk
from app.adapters.images.spool import (
    LEFTOVER_AGE_S,
    Examine,
    SpooledDraft,
    create,
    finish_despite_cancel,
)
from app.domain.images import Picture
from app.domain.media import (
    IMAGE_NAME,
    SLICE_BYTES,
    ImageContent,
    ImageSlice,
    ImageStoreUnavailable,
    media_type_of,
    preview_names,
)

MAX_EXAMINED_FILES = 50_000
MAX_BATCH = 64


@dataclass(slots=True, eq=False)
class _QueuedWrite:
    """A file to be written, and the future of the caller who waits for it."""

    name: str
    body: bytes
    done: "asyncio.Future[None]"

    def resolve(self, failure: ImageStoreUnavailable | None) -> None:
        if self.done.done():
            return
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)


class FileImageStore:
    """Image store on a local or mounted directory; file work is done in threads.

    No symbolic link below the root is followed. Age is a file's modification time.
    Every method but `close` raises `ImageStoreUnavailable` when the disk fails.
    """

    def __init__(self, root: Path, now: Callable[[], float] = time.time) -> None:
        self._shards = ShardedDirectory(root)
        self._now = now
        self._next_shard = 0
        self._queue: list[_QueuedWrite] = []
        self._flusher: asyncio.Task[None] | None = None
        self._is_local: bool | None = None

    def draft(self, stem: str) -> SpooledDraft:
        """A draft for the bytes of an image, on the disk where it will be stored."""
        shard = partial(self._shards.open, shard_of(stem), create=True)
        return SpooledDraft(partial(create, shard), self._keep, self._shards.map_error)

    async def put(self, name: str, body: bytes, media_type: str) -> None:
        """Store durably; the same name again replaces. `ValueError` when no `IMAGE_NAME`."""
        if media_type_of(name) != media_type:
            raise ValueError(f"{name!r} does not name an image of type {media_type!r}")
        write = _QueuedWrite(name, body, asyncio.get_running_loop().create_future())
        self._queue.append(write)
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_queue(), name="koi-images")
        await write.done

    async def read(self, name: str, at: int = 0, most: int = SLICE_BYTES) -> ImageSlice | None:
        """Some bytes of an image, or None when it was never stored or is gone."""
        media_type = media_type_of(name)
        if media_type is None:
            return None
        found = await asyncio.to_thread(self._read, name, at, most)
        return None if found is None else ImageSlice(found[0], media_type, found[1])

    async def get(self, name: str) -> ImageContent | None:
        """The whole image, or None when it was never stored or is gone."""
        found = await self.read(name, 0, -1)
        return None if found is None else ImageContent(found.body, found.media_type)

    async def exists(self, names: Sequence[str]) -> bool:
        """Whether all these images are stored. A look at a disk of this machine costs less than a
        thread; a network's directory stands still when its server does."""
        if self._is_local is None:
            self._is_local = await asyncio.to_thread(is_on_local_disk, self._shards.root)
        if self._is_local:
            return all(map(self._exists, names))
        return await asyncio.to_thread(lambda: all(map(self._exists, names)))

    async def delete(self, name: str) -> None:
        """Remove an image and its previews; nothing happens when there is none."""
        if IMAGE_NAME.fullmatch(name):
            for one in (name, *preview_names(name)):
                await asyncio.to_thread(self._remove, one)

    async def sweep(self, older_than: timedelta) -> int:
        """Remove images older than that and say how many.

        One sweep examines about 50 000 files; the next goes on where it ended.
        """
        cutoff = self._now() - older_than.total_seconds()
        removed = examined = 0
        present = await asyncio.to_thread(self._list_shards)
        for _ in SHARDS:
            shard = SHARDS[self._next_shard]
            self._next_shard = (self._next_shard + 1) % len(SHARDS)
            if shard not in present:
                continue
            seen, gone = await asyncio.to_thread(self._sweep_shard, shard, cutoff)
            removed += gone
            examined += seen
            if examined >= MAX_EXAMINED_FILES:
                break
        return removed

    async def check(self) -> None:
        """Create the directory if it is missing, and prove that it can be written."""
        await asyncio.to_thread(self._check_writable)

    async def identity(self) -> str:
        """The id in the directory's id file, which is created if it is missing."""
        return await asyncio.to_thread(self._ensure_store_id)

    async def close(self) -> None:
        """Nothing is held open between calls."""

    async def _keep(self, draft: SpooledDraft, examine: Examine) -> Picture:
        body = draft.in_memory
        if body is None:
            return await finish_despite_cancel(self._commit_draft, draft, examine)
        picture = examine()
        await self.put(picture.name, body, media_type_of(picture.name) or "")
        return picture

    async def _flush_queue(self) -> None:
        """Write in batches until nothing is queued, so that many files share one sync."""
        try:
            while self._queue:
                batch, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
                failures = await asyncio.to_thread(self._write_all, batch)
                for write, failure in zip(batch, failures, strict=True):
                    write.resolve(failure)
        finally:
            self._flusher = None
            for write in self._queue:
                write.done.cancel()

    def _write_all(self, writes: Sequence["_QueuedWrite"]) -> list[ImageStoreUnavailable | None]:
        failures: list[ImageStoreUnavailable | None] = [None] * len(writes)
        shards: dict[str, int | ImageStoreUnavailable] = {}
        files, places = [], []
        try:
            for index, write in enumerate(writes):
                shard = shard_of(write.name)
                if shard not in shards:
                    shards[shard] = self._open_shard(shard)
                opened = shards[shard]
                if isinstance(opened, ImageStoreUnavailable):
                    failures[index] = opened
                else:
                    files.append((opened, write.name, write.body))
                    places.append(index)
            for index, failure in zip(places, replace_files(files), strict=True):
                failures[index] = None if failure is None else self._shards.map_error(failure)
        finally:
            for opened in shards.values():
                if isinstance(opened, int):
                    os.close(opened)
        return failures

    def _open_shard(self, shard: str) -> int | ImageStoreUnavailable:
        try:
            return self._shards.open(shard, create=True)
        except (OSError, ImageStoreUnavailable) as error:
            return self._shards.map_error(error)

    def _commit_draft(self, draft: SpooledDraft, examine: Examine) -> Picture:
        """Write what is left, examine, sync the draft's file, give it its name, sync the directory:
        all in one turn of one thread."""
        file = draft.file
        try:
            if file is None:
                raise FileNotFoundError("the draft was thrown away")
            draft.append_rest()
            picture = examine()
            if IMAGE_NAME.fullmatch(picture.name) is None:
                raise ValueError(f"{picture.name!r} does not name an image")
            os.fsync(file.descriptor)
            with self._shards.open_scoped(shard_of(picture.name), create=True) as shard:
                os.rename(file.name, picture.name, src_dir_fd=shard, dst_dir_fd=shard)
                os.fsync(shard)
        except OSError as error:
            raise self._shards.map_error(error) from error
        draft.release()
        return picture

    def _read(self, name: str, at: int, most: int) -> tuple[bytes, int] | None:
        try:
            with (
                self._shards.open_scoped(shard_of(name)) as shard,
                open(os.open(name, READ_FLAGS, dir_fd=shard), "rb", buffering=0) as file,
            ):
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode):
                    return None
                wanted = facts.st_size if most < 0 else most
                return read_at(file.fileno(), at, wanted), facts.st_size
        except OSError as error:
            if error.errno in ABSENT_ERRNOS:
                return None
            raise self._shards.map_error(error) from error

    def _exists(self, name: str) -> bool:
        try:
            with self._shards.open_scoped(shard_of(name)) as shard:
                return stat.S_ISREG(os.stat(name, dir_fd=shard, follow_symlinks=False).st_mode)
        except OSError as error:
            if error.errno in ABSENT_ERRNOS:
                return False
            raise self._shards.map_error(error) from error

    def _remove(self, name: str) -> None:
        try:
            with self._shards.open_scoped(shard_of(name)) as shard:
                os.unlink(name, dir_fd=shard)
        except OSError as error:
            if error.errno not in ABSENT_ERRNOS:
                raise self._shards.map_error(error) from error

    def _list_shards(self) -> frozenset[str]:
        try:
            return self._shards.list_names()
        except OSError as error:
            raise self._shards.map_error(error) from error

    def _sweep_shard(self, shard_name: str, cutoff: float) -> tuple[int, int]:
        try:
            with self._shards.open_scoped(shard_name) as shard:
                return sweep_directory(shard, cutoff, min(cutoff, self._now() - LEFTOVER_AGE_S))
        except OSError as error:
            if error.errno in ABSENT_ERRNOS:
                return 0, 0
            raise self._shards.map_error(error) from error

    def _ensure_store_id(self) -> str:
        try:
            root = self._shards.create_root()
            try:
                return f"file:{ensure_store_id(root, str(self._shards.root))}"
            finally:
                os.close(root)
        except OSError as error:
            raise self._shards.map_error(error) from error

    def _check_writable(self) -> None:
        try:
            os.close(self._shards.create_root())
            probe = self._shards.root / f"{TEMPORARY_PREFIX}check-{secrets.token_hex(8)}"
            replace_file(probe, b"koi")
            probe.unlink()
        except OSError as error:
            raise self._shards.map_error(error) from error
