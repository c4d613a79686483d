"""One image from the provider into our own store."""

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from app.domain.budget import ByteBudget
from app.domain.formats import UNKNOWN, Media, examine
from app.domain.images import Picture, ProviderImage
from app.domain.media import FetchCut, FetchedText, FetchFailed
from app.domain.ports import Draft, ImageFetcher, ImageStore, Recorder

SHARE = 512 << 10
"""What one image takes of the budget on its way, whatever its size: read-ahead and pieces."""
MOST_DOUBTFUL = 1000


@dataclass(frozen=True, slots=True)
class DownloadImage:
    fetcher: ImageFetcher
    store: ImageStore
    recorder: Recorder
    budget: ByteBudget
    _doubtful: OrderedDict[str, bytes] = field(default_factory=OrderedDict, init=False)
    """Stem -> digest of bytes that nothing proved whole: the same bytes twice are."""

    async def __call__(self, stem: str, image: ProviderImage, *, as_is: bool = False) -> Picture:
        """Bring one image home under the name `stem` and its type's extension; one try.

        `as_is` takes what came for what the provider made, also a page, or bytes that are cut:
        those become an unknown file to be saved. Raises `FetchRefused` (never to be tried again),
        `FetchFailed`, `ImageStoreUnavailable`.
        """
        async with self.budget.share(SHARE), self.store.draft(stem) as draft:
            told = await self._fill(draft, image)
            media = await _examined(draft)
            if not as_is and image.body is None:
                self._judge(stem, draft, media, told)
            if draft.size == 0:
                raise FetchFailed("nothing came")
            if media.whole is False:
                media = UNKNOWN
            name = f"{stem}.{media.extension}"
            await draft.keep(name)
        return Picture(name, media.media_type, media.width, media.height, image.revised_prompt)

    async def _fill(self, draft: Draft, image: ProviderImage) -> bool:
        """Whether the end of the bytes was told, not only met."""
        if image.body is None:
            told = await self._fetch(draft, image.url or "")
        else:
            await draft.write(image.body)
            told = True
        await draft.seal()
        return told

    def _judge(self, stem: str, draft: Draft, media: Media, told: bool) -> None:
        """A picture is whole by its own format; where that cannot say, by its told length, or
        because the same bytes came twice."""
        if draft.size == 0:
            raise FetchFailed("nothing came", status=200)
        if media.text:
            raise FetchedText("a text came instead of an image", status=200)
        if media.whole is False:
            raise FetchCut("the image is cut: it ends before its own end", status=200)
        if media.whole is None and not told and not self._seen_before(stem, draft.digest):
            raise FetchCut("nothing says that the image is whole", status=200)

    def _seen_before(self, stem: str, digest: bytes) -> bool:
        if self._doubtful.pop(stem, None) == digest:
            return True
        self._doubtful[stem] = digest
        if len(self._doubtful) > MOST_DOUBTFUL:
            self._doubtful.popitem(last=False)
        return False

    async def _fetch(self, draft: Draft, url: str) -> bool:
        started = time.perf_counter()
        outcome = "image_unavailable"
        try:
            told = await self.fetcher.fetch(url, draft)
            outcome = "ok"
            return told
        finally:
            self.recorder.upstream("fetch", outcome, time.perf_counter() - started)


async def _examined(draft: Draft) -> Media:
    """Small bodies at once, large ones in a thread: they are read from the disk."""
    if draft.in_memory is not None:
        return examine(draft)
    try:
        return await asyncio.to_thread(examine, draft)
    except OSError as error:
        raise FetchFailed(f"the spooled image cannot be read: {error.strerror}") from None
