"""Pictures of a file store in a backup: read one by one, written back with their age."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from app.adapters.files import open_no_follow
from app.adapters.images.directory import SHARDS, shard_of
from app.adapters.images.file import FileImageStore
from app.adapters.redis.codec import Record, unflatten
from app.domain.media import IMAGE_NAME, media_type_of
from app.domain.principal import TEAM_POOL
from app.recovery.backup_file import BackupWriter, Row, RowKind
from app.recovery.derived import deleted_names


async def copy_pictures(root: Path, writer: BackupWriter, report: Callable[[], None]) -> int:
    """Add every picture below `root`; the number of them. One that is deleted meanwhile is left
    out. Raises `OSError`."""
    copied = 0
    for shard in SHARDS:
        for path in await asyncio.to_thread(_list_pictures, root / shard):
            with suppress(FileNotFoundError):
                await asyncio.to_thread(_copy_picture, path, writer)
                copied += 1
                report()
    return copied


def _list_pictures(shard: Path) -> list[Path]:
    with suppress(FileNotFoundError), os.scandir(shard) as found:
        return [shard / entry.name for entry in found if _is_picture(entry)]
    return []


def _is_picture(entry: "os.DirEntry[str]") -> bool:
    named = IMAGE_NAME.fullmatch(entry.name) is not None
    return named and entry.is_file(follow_symlinks=False)


def _copy_picture(path: Path, writer: BackupWriter) -> None:
    with open(path, "rb", opener=open_no_follow) as file:
        made_ms = int(os.fstat(file.fileno()).st_mtime * 1000)
        writer.add_picture(path.name, made_ms, file.read())


class PictureRestorer:
    """Puts pictures of a backup into a file store, with the time that they were made: they are kept
    as long as they would have been."""

    def __init__(self, root: Path) -> None:
        self._root, self._store = root, FileImageStore(root)
        self._deleted: set[str] = set()
        self._restored: set[str] = set()

    @property
    def restored(self) -> int:
        return len(self._restored)

    async def take(self, row: Row) -> None:
        """A picture that was deleted while the backup was written stays so. Raises
        `ImageStoreUnavailable`."""
        match row:
            case [RowKind.PICTURE, name, made_ms, body]:
                await self._put(name, made_ms, body)
            case [RowKind.JOB, fields, *_] if "deleted" in fields:
                await self._forget(unflatten(fields))

    async def _forget(self, job: Record) -> None:
        if job["pool"].startswith(TEAM_POOL):
            return
        names = deleted_names(job)
        self._deleted |= names
        for name in names & self._restored:
            await self._store.delete(name)
        self._restored -= names

    async def _put(self, name: str, made_ms: int, body: bytes) -> None:
        media_type = media_type_of(name)
        if media_type is None or name in self._deleted:
            return
        await self._store.put(name, body, media_type)
        seconds = made_ms / 1000
        os.utime(self._root / shard_of(name) / name, (seconds, seconds), follow_symlinks=False)
        self._restored.add(name)
