"""An image before it is stored: small ones in memory, larger ones in a temporary file."""

import asyncio
import hashlib
import mmap
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from app.adapters.files import DIRECTORY_FLAGS, TEMPORARY_PREFIX
from app.domain.formats.source import iter_blocks
from app.domain.images import Picture
from app.domain.media import ImageStoreUnavailable

MAX_IN_MEMORY_BYTES = 256 << 10
"""Images up to this size are written in batches that share one sync; most are that small."""
READ_WINDOW_BYTES = 64 << 10
LEFTOVER_AGE_S = 3600.0
Examine = Callable[[], Picture]
T = TypeVar("T")
CREATE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """An open temporary file. `reopen` opens its directory; the caller closes that descriptor."""

    descriptor: int
    name: str
    reopen: Callable[[], int]

    def unlink(self) -> None:
        with suppress(OSError):
            directory = self.reopen()
            try:
                os.unlink(self.name, dir_fd=directory)
            finally:
                os.close(directory)


class SpoolDirectory:
    """A directory on this machine for images that are about to be uploaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self) -> SpoolFile:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return create(lambda: os.open(self._path, DIRECTORY_FLAGS))

    def map_error(self, error: Exception) -> ImageStoreUnavailable:
        words = error.strerror if isinstance(error, OSError) else type(error).__name__
        return ImageStoreUnavailable(
            f"The directory {self._path} for images before their upload cannot be used ({words}): "
            "free some space and let the gateway's user write it."
        )

    def sweep(self, now_s: float) -> None:
        """Remove the files of processes that died."""
        for left in self._path.glob(f"{TEMPORARY_PREFIX}*"):
            with suppress(OSError):
                if left.lstat().st_mtime < now_s - LEFTOVER_AGE_S:
                    left.unlink()


def map_draft(draft: "SpooledDraft") -> memoryview:
    """A draft's file as a mapping, so that its bytes need not be in memory."""
    if draft.file is None:
        raise ValueError("the draft has no file")
    return memoryview(mmap.mmap(draft.file.descriptor, draft.size, access=mmap.ACCESS_READ))


def create(reopen: Callable[[], int]) -> SpoolFile:
    """A new temporary file. Raises `OSError`."""
    directory = reopen()
    try:
        name = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        return SpoolFile(os.open(name, CREATE_FLAGS, mode=0o600, dir_fd=directory), name, reopen)
    finally:
        os.close(directory)


class SpooledDraft:
    """Takes a body piece by piece, then gives access to any part; an async context manager.

    A draft that was not kept is deleted when the block ends. When the disk fails, it raises the
    `ImageStoreUnavailable` that `explain` makes of the error.
    """

    def __init__(
        self,
        make: Callable[[], SpoolFile],
        keep: Callable[["SpooledDraft", Examine], Awaitable[Picture]],
        explain: Callable[[Exception], ImageStoreUnavailable],
    ) -> None:
        self._make = make
        self._keep = keep
        self._explain = explain
        self._pieces: list[bytes | bytearray] = []
        self._pending_bytes = 0
        self._window = (0, b"")
        self._body: bytes | None = None
        self.size = 0
        self.file: SpoolFile | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.file is not None:
            file, self.file = self.file, None
            await asyncio.shield(asyncio.to_thread(_discard, file))

    def digest(self) -> bytes:
        """SHA-256 of the bytes written so far; blocks when there is a file."""
        hashed = hashlib.sha256()
        for block in iter_blocks(self, 0, self.size):
            hashed.update(block)
        return hashed.digest()

    @property
    def in_memory(self) -> bytes | None:
        """The whole body if it is so small that it was never written to a file, else None."""
        if self.file is not None:
            return None
        if self._body is None:
            self._body = b"".join(self._pieces)
            self._pieces = [self._body]
        return self._body

    async def write(self, data: bytes | bytearray) -> None:
        self._pieces.append(data)
        self._body = None
        self.size += len(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > MAX_IN_MEMORY_BYTES:
            await self._flush()

    async def seal(self) -> None:
        """End writing: if there is a file, append the bytes that are still in memory."""
        if self.file is not None and self._pieces:
            await self._flush()

    async def keep(self, examine: Examine) -> Picture:
        """See `ImageDraft.keep`."""
        return await self._keep(self, examine)

    def append_rest(self) -> None:
        """What `seal` does, for a caller that is in a thread already. Raises `OSError`."""
        self._append(self._take_pieces())

    def release(self) -> None:
        """Close the file, which has its final name now."""
        if self.file is not None:
            os.close(self.file.descriptor)
            self.file = None

    def read(self, at: int, most: int) -> bytes:
        """Bytes at any position; blocks when there is a file. Raises `OSError`."""
        body = self._body or self.in_memory
        if body is not None:
            return body[at : at + most]
        assert self.file is not None, "what is not in memory is in the file"
        begin, window = self._window
        if begin <= at and at + most <= begin + len(window):
            return window[at - begin : at - begin + most]
        if most >= READ_WINDOW_BYTES:
            return os.pread(self.file.descriptor, most, at)
        self._window = (at, os.pread(self.file.descriptor, READ_WINDOW_BYTES, at))
        return self._window[1][:most]

    def _take_pieces(self) -> list[bytes | bytearray]:
        pieces, self._pieces, self._pending_bytes, self._body = self._pieces, [], 0, None
        return pieces

    async def _flush(self) -> None:
        pieces = self._take_pieces()
        try:
            # Wait even when cancelled: the file must be known before it can be discarded.
            await finish_despite_cancel(self._append, pieces)
        except OSError as error:
            raise self._explain(error) from None

    def _append(self, pieces: list[bytes | bytearray]) -> None:
        if self.file is None:
            self.file = self._make()
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self.file.descriptor, view) :]


async def finish_despite_cancel(work: Callable[..., T], *args: object) -> T:
    """Run it in a thread, to its end also when the caller is cancelled meanwhile."""
    running = asyncio.get_running_loop().run_in_executor(None, partial(work, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _discard(file: SpoolFile) -> None:
    """Close and remove the file, unless it was renamed to its final name."""
    os.close(file.descriptor)
    file.unlink()
