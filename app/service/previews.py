"""Use case: a smaller copy of a stored picture, made when it is first asked for."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from app.domain.formats import detect_media
from app.domain.formats.source import MemorySource
from app.domain.media import (
    ImageSlice,
    ImageStore,
    ImageStoreUnavailable,
    PreviewFailed,
    PreviewMaker,
    PreviewSize,
)

MAX_MAKING = 32
"""How many wait or are made in one process; whoever asks for more gets the picture itself."""
MAX_PIXELS = 20_000_000
MAX_PICTURE_BYTES = 64 << 20
HEAD_BYTES = 64 << 10
PART_BYTES = 256 << 10
FAILURE_TTL_S = 600.0
MAX_FAILURES = 10_000
DECODED_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""Formats that are common and whose decoders are looked at the most."""


class Previews:
    """Each is made once in a process, however many ask, and then lies beside its picture. One that
    cannot be made, or need not be, is not tried again for ten minutes; `on_failure` is told the
    name and why."""

    def __init__(
        self,
        pictures: ImageStore,
        maker: PreviewMaker,
        on_failure: Callable[[str, str], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pictures, self._maker, self._on_failure = pictures, maker, on_failure
        self._now = now
        self._making: dict[str, asyncio.Task[bool]] = {}
        self._failed: OrderedDict[str, float] = OrderedDict()

    async def open(self, name: str, size: PreviewSize) -> tuple[str, ImageSlice] | None:
        """The name and the first bytes of a picture's preview; None when the picture itself is to
        be sent: it is small enough, or there can be no preview. Whoever calls may see the picture.
        """
        preview = size.name_of(name)
        if self._has_failed(preview):
            return None
        try:
            found = await self._pictures.read(preview)
            if found is None and await self._make_once(name, size):
                found = await self._pictures.read(preview)
        except ImageStoreUnavailable:
            return None
        return None if found is None else (preview, found)

    async def _make_once(self, name: str, size: PreviewSize) -> bool:
        preview = size.name_of(name)
        if not self._maker.available:
            return False
        making = self._making.get(preview)
        if making is None:
            if len(self._making) >= MAX_MAKING:
                return False
            making = asyncio.create_task(self._make(name, size), name=f"koi-preview-{preview}")
            self._making[preview] = making
            making.add_done_callback(lambda task: self._forget(preview, task))
        # One caller that leaves takes it from nobody else.
        return await asyncio.shield(making)

    def _forget(self, preview: str, task: asyncio.Task[bool]) -> None:
        self._making.pop(preview, None)
        if not task.cancelled():
            task.exception()  # perhaps nobody waits for it any more

    async def _make(self, name: str, size: PreviewSize) -> bool:
        preview = size.name_of(name)
        head = await self._pictures.read(name, 0, HEAD_BYTES)
        if head is None or not _is_worth_it(head, size.pixels):
            self._note_failure(preview)
            return False
        try:
            made = await self._maker.make(self._slices(name, head), size.pixels)
            await self._pictures.put(preview, made, "image/webp")
            if not await self._pictures.exists([name]):
                # It was deleted meanwhile, and its preview must not outlive it.
                await self._pictures.delete(name)
                return False
        except PreviewFailed as failure:
            self._note_failure(preview)
            self._on_failure(name, failure.reason)
            return False
        return True

    async def _slices(self, name: str, head: ImageSlice) -> AsyncIterator[bytes]:
        offset = len(head.body)
        yield head.body
        while offset < head.size:
            part = await self._pictures.read(name, offset, PART_BYTES)
            if part is None or not part.body:
                raise PreviewFailed("the picture is gone")
            offset += len(part.body)
            yield part.body

    def _has_failed(self, preview: str) -> bool:
        until_s = self._failed.get(preview)
        return until_s is not None and self._now() < until_s

    def _note_failure(self, preview: str) -> None:
        self._failed[preview] = self._now() + FAILURE_TTL_S
        self._failed.move_to_end(preview)
        if len(self._failed) > MAX_FAILURES:
            self._failed.popitem(last=False)


def _is_worth_it(head: ImageSlice, pixels: int) -> bool:
    """Whether a picture is larger than its preview, and no larger than may be decoded, by what its
    header says. Where the header of a JPEG is long, its worker looks."""
    media = detect_media(MemorySource(head.body))
    if media.media_type not in DECODED_TYPES or head.size > MAX_PICTURE_BYTES:
        return False
    width, height = media.width, media.height
    if width is None or height is None:
        return media.media_type == "image/jpeg"
    return max(width, height) > pixels and width * height <= MAX_PIXELS
