"""Bringing the provider's images home: every picture is copied the moment it exists."""

import asyncio
import time

from app.domain.errors import FailureNote
from app.domain.images import Picture, ProviderImage
from app.domain.job import Job, PartResult, picture_stem
from app.domain.media import (
    FetchFailed,
    FetchRefused,
    ImageStoreUnavailable,
    inspect,
)
from app.domain.ports import ImageFetcher, ImageStore, Recorder

PAUSES_S = (0.2, 1.0, 3.0)
"""A paid picture is worth several tries; its link may live only minutes."""

UNAVAILABLE = FailureNote(
    "image_unavailable",
    "The provider made the image but it could not be fetched; it was charged.",
    charged=True,
)


class Collect:
    def __init__(self, fetcher: ImageFetcher, store: ImageStore, recorder: Recorder) -> None:
        self._fetcher = fetcher
        self._store = store
        self._recorder = recorder

    async def __call__(self, job: Job, part: int, images: tuple[ProviderImage, ...]) -> PartResult:
        """Store a part's images; those beyond what was asked are counted but not kept."""
        wanted = images[: job.parts[part].n]
        stored = await asyncio.gather(
            *(self._bring(picture_stem(job.id, part, i), image) for i, image in enumerate(wanted))
        )
        pictures = tuple(picture for picture in stored if picture is not None)
        return PartResult(
            images=len(images),
            pictures=pictures,
            failure=None if pictures else UNAVAILABLE,
        )

    async def _bring(self, stem: str, image: ProviderImage) -> Picture | None:
        for pause in (*PAUSES_S, None):
            try:
                return await self._store_one(stem, image)
            except FetchRefused:
                return None
            except (FetchFailed, ImageStoreUnavailable):
                if pause is not None:
                    await asyncio.sleep(pause)
        return None

    async def _store_one(self, stem: str, image: ProviderImage) -> Picture:
        body = image.body if image.body is not None else await self._fetch(image.url or "")
        media = inspect(body)
        if media is None:
            raise FetchRefused("the provider's bytes are not an image")
        name = f"{stem}.{media.extension}"
        await self._store.put(name, body, media.media_type)
        return Picture(name, media.media_type, media.width, media.height, image.revised_prompt)

    async def _fetch(self, url: str) -> bytes:
        started = time.perf_counter()
        outcome = "image_unavailable"
        try:
            body = await self._fetcher.fetch(url)
            outcome = "ok"
            return body
        finally:
            self._recorder.upstream("fetch", outcome, time.perf_counter() - started)
