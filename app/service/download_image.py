"""Downloading one image from the provider into our own store."""

import time
from collections import OrderedDict
from dataclasses import dataclass, field

from app.domain.budget import MemoryBudget
from app.domain.formats import UNKNOWN_MEDIA, MediaInfo, detect_media
from app.domain.images import Picture, ProviderImage
from app.domain.media import FetchedNonImage, FetchFailed, FetchTruncated
from app.domain.ports import ImageDraft, ImageFetcher, ImageStore, MetricsRecorder

SHARE_BYTES = 512 << 10
"""What one download takes of the memory budget for its buffers, whatever the image's size."""
MAX_UNPROVEN = 1000


@dataclass(frozen=True, slots=True)
class DownloadImage:
    fetcher: ImageFetcher
    store: ImageStore
    recorder: MetricsRecorder
    budget: MemoryBudget
    _unproven: OrderedDict[str, bytes] = field(default_factory=OrderedDict, init=False)
    """Stem -> digest of bytes that nothing proves complete; the same bytes twice prove it."""

    async def __call__(
        self, stem: str, image: ProviderImage, *, accept_anything: bool = False
    ) -> Picture:
        """Store one image under the name `stem` and its type's extension; one try.

        `accept_anything` keeps whatever came, also a web page or incomplete bytes, which become a
        file of unknown type. Raises `FetchRefused` (never to be tried again), `FetchFailed`,
        `ImageStoreUnavailable`.
        """
        async with self.budget.reserve(SHARE_BYTES), self.store.draft(stem) as draft:
            is_delimited = await self._fill(draft, image)
            is_strict = not accept_anything and image.body is None

            def examine() -> Picture:
                media = _examined(draft)
                if is_strict:
                    self._validate(stem, draft, media, is_delimited)
                if draft.size == 0:
                    raise FetchFailed("nothing came")
                if media.is_complete is False:
                    media = UNKNOWN_MEDIA
                name = f"{stem}.{media.extension}"
                return Picture(
                    name, media.media_type, media.width, media.height, image.revised_prompt
                )

            return await draft.keep(examine)

    async def _fill(self, draft: ImageDraft, image: ProviderImage) -> bool:
        """Write the bytes into the draft; whether their length was announced and reached."""
        if image.body is None:
            return await self._fetch(draft, image.url or "")
        await draft.write(image.body)
        return True

    def _validate(self, stem: str, draft: ImageDraft, media: MediaInfo, is_delimited: bool) -> None:
        """An image is complete by its own format; where the format cannot tell, by its announced
        length, or because the same bytes came twice (decision 20)."""
        if draft.size == 0:
            raise FetchFailed("nothing came", status=200)
        if media.is_text:
            raise FetchedNonImage("a text came instead of an image", status=200)
        if media.is_complete is False:
            raise FetchTruncated("the image is cut: it ends before its own end", status=200)
        if (
            media.is_complete is None
            and not is_delimited
            and not self._seen_before(stem, draft.digest())
        ):
            raise FetchTruncated("nothing says that the image is whole", status=200)

    def _seen_before(self, stem: str, digest: bytes) -> bool:
        if self._unproven.pop(stem, None) == digest:
            return True
        self._unproven[stem] = digest
        if len(self._unproven) > MAX_UNPROVEN:
            self._unproven.popitem(last=False)
        return False

    async def _fetch(self, draft: ImageDraft, url: str) -> bool:
        started = time.perf_counter()
        outcome = "image_unavailable"
        try:
            is_delimited = await self.fetcher.fetch(url, draft)
            outcome = "ok"
            return is_delimited
        finally:
            self.recorder.upstream("fetch", outcome, time.perf_counter() - started)


def _examined(draft: ImageDraft) -> MediaInfo:
    try:
        return detect_media(draft)
    except OSError as error:
        raise FetchFailed(f"the spooled image cannot be read: {error.strerror}") from None
