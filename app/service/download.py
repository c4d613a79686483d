"""One image from the provider into our own store."""

import time
from dataclasses import dataclass

from app.domain.images import Picture, ProviderImage
from app.domain.media import FetchRefused, inspect
from app.domain.ports import ImageFetcher, ImageStore, Recorder


@dataclass(frozen=True, slots=True)
class DownloadImage:
    fetcher: ImageFetcher
    store: ImageStore
    recorder: Recorder

    async def __call__(self, stem: str, image: ProviderImage) -> Picture:
        """Bring one image home under the name `stem` and its type's extension; one try.

        Raises `FetchRefused` (never to be tried again), `FetchFailed`, `ImageStoreUnavailable`.
        """
        body = image.body if image.body is not None else await self._fetch(image.url or "")
        media = inspect(body)
        if media is None:
            raise FetchRefused("the provider's bytes are not an image")
        name = f"{stem}.{media.extension}"
        await self.store.put(name, body, media.media_type)
        return Picture(name, media.media_type, media.width, media.height, image.revised_prompt)

    async def _fetch(self, url: str) -> bytes:
        started = time.perf_counter()
        outcome = "image_unavailable"
        try:
            body = await self.fetcher.fetch(url)
            outcome = "ok"
            return body
        finally:
            self.recorder.upstream("fetch", outcome, time.perf_counter() - started)
