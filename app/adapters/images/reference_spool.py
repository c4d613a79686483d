"""Reference images on this machine's disk, in files without a name.

A file loses its name as soon as it is open, so that nobody else can open it and the system removes
it when this process ends, however it ends.
"""

import asyncio
import errno
import os
import weakref
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from app.adapters.images.spool import MAX_IN_MEMORY_BYTES, SpoolDirectory, finish_despite_cancel
from app.domain.errors import GatewayOverloaded

log = structlog.get_logger("koi.references")

MAX_SPOOLED_BYTES = 1 << 30
"""Of all requests of one process together."""
SHARES = 4
"""One user may take a fourth of it, so that others always find room."""
EXAMINERS = 2
KEPT_FREE_BYTES = 64 << 20
"""Left on the disk: the journal stands there, and without it nothing may be bought."""
T = TypeVar("T")
NO_ROOM = (
    "The gateway has no room for these pictures now; nothing was spent. Repeat the request a "
    "little later."
)


class _Room:
    """How many bytes of a process's room are in use, by user.

    Room is taken in the event loop. Files end in any thread, and in the midst of anything, when
    the garbage collector finds them: so what they give back waits, without a lock, for the next who
    takes.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._used: Counter[str] = Counter()
        self._announced: Counter[str] = Counter()
        self._given: deque[tuple[str, int, int]] = deque()

    def announce(self, user: str, length: int) -> bool:
        """Of many uploads at once as many are let in as a user has room for: if all of them began,
        all would end for want of room. It takes nothing from others, who may never come."""
        self._count_given()
        own = self._announced[user] + length
        if own > self._total // SHARES:
            return False
        self._announced[user] = own
        return True

    def take(self, user: str, wanted: int) -> bool:
        self._count_given()
        own = self._used[user] + wanted
        is_free = own <= self._total // SHARES and self._used.total() + wanted <= self._total
        if is_free:
            self._used[user] = own
        return is_free

    def give(self, user: str, taken: int, announced: int) -> None:
        self._given.append((user, taken, announced))

    def _count_given(self) -> None:
        while self._given:
            user, taken, announced = self._given.popleft()
            for counted, count in ((self._used, taken), (self._announced, announced)):
                counted[user] -= count
                if not counted[user]:
                    del counted[user]


class DiskReferenceSpool:
    """`ReferenceSpool` in a directory."""

    def __init__(
        self,
        path: Path,
        max_bytes: int = MAX_SPOOLED_BYTES,
        kept_free_bytes: int = KEPT_FREE_BYTES,
    ) -> None:
        self._directory = SpoolDirectory(path)
        self._room, self._kept_free_bytes = _Room(max_bytes), kept_free_bytes
        self._examiners = ThreadPoolExecutor(EXAMINERS, "koi-reference")

    def open(self, user: str) -> "DiskReferenceFile":
        return DiskReferenceFile(
            self._directory, self._room, user, self._kept_free_bytes, self._examiners
        )

    def close(self) -> None:
        """Start no more threads; what runs ends by itself."""
        self._examiners.shutdown(wait=False, cancel_futures=True)

    def sweep(self, now_s: float) -> None:
        """Remove the empty files of processes that died before they took the name away."""
        self._directory.sweep(now_s)


class DiskReferenceFile:
    """`ReferenceFile`; it ends with the last one who holds it or a span of it."""

    def __init__(
        self,
        directory: SpoolDirectory,
        room: _Room,
        user: str,
        kept_free_bytes: int,
        examiners: ThreadPoolExecutor,
    ) -> None:
        self._directory, self._room, self._user = directory, room, user
        self._kept_free_bytes, self._examiners = kept_free_bytes, examiners
        self._descriptor = -1
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._taken, self._announced = [0], [0]
        self.size = 0
        weakref.finalize(self, _give_back, room, user, self._taken, self._announced)

    def announce(self, length: int) -> None:
        if not self._room.announce(self._user, length):
            raise GatewayOverloaded(NO_ROOM, retry_after_s=5)
        self._announced[0] += length

    def add(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        self.size += len(data)

    async def flush(self, *, everything: bool = False) -> None:
        if not self._pending or (self._pending_bytes <= MAX_IN_MEMORY_BYTES and not everything):
            return
        pieces, self._pending, length = self._pending, [], self._pending_bytes
        self._pending_bytes = 0
        if not self._room.take(self._user, length):
            raise GatewayOverloaded(NO_ROOM, retry_after_s=5)
        self._taken[0] += length
        try:
            await finish_despite_cancel(self._append, pieces)
        except OSError as error:
            log.warning("upload_not_written", reason=error.strerror)
            raise GatewayOverloaded(NO_ROOM) from None

    def span(self, begin: int, end: int) -> "FileSpan":
        return FileSpan(self, begin, end - begin)

    async def examine(self, look: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._examiners, look)

    def read(self, at: int, most: int) -> bytes:
        """Blocks. Raises `OSError`."""
        return os.pread(self._descriptor, most, at)

    def _append(self, pieces: list[bytes]) -> None:
        if self._descriptor < 0:
            file = self._directory.create()
            self._descriptor = file.descriptor
            weakref.finalize(self, _close, file.descriptor)
            file.unlink()
        disk = os.fstatvfs(self._descriptor)
        if disk.f_bavail * disk.f_frsize < sum(map(len, pieces)) + self._kept_free_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._descriptor, view) :]


@dataclass(frozen=True, slots=True)
class FileSpan:
    """`ByteSource` over some of a file's bytes."""

    file: DiskReferenceFile
    begin: int
    size: int

    def read(self, at: int, most: int) -> bytes:
        return self.file.read(self.begin + at, max(min(most, self.size - at), 0))


def _close(descriptor: int) -> None:
    with suppress(OSError):
        os.close(descriptor)


def _give_back(room: _Room, user: str, taken: list[int], announced: list[int]) -> None:
    room.give(user, taken[0], announced[0])
