"""Pictures of a file store in a backup: read one by one, written back with their age."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from app.adapters.files import open_no_follow
from app.adapters.images.directory import SHARDS, shard_of
from app.adapters.images.file import FileImageStore
from app.domain.media import IMAGE_NAME, media_type_of
from app.recovery.backup_file import BackupWriter, Row, RowKind


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
        self.restored = 0

    async def take(self, row: Row) -> None:
        """Raises `ImageStoreUnavailable`."""
        if row[0] != RowKind.PICTURE:
            return
        _, name, made_ms, body = row
        media_type = media_type_of(name)
        if media_type is None:
            return
        await self._store.put(name, body, media_type)
        seconds = made_ms / 1000
        os.utime(self._root / shard_of(name) / name, (seconds, seconds), follow_symlinks=False)
        self.restored += 1
