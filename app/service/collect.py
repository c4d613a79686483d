"""Bringing the provider's images home: every picture is copied the moment it exists."""

import asyncio
from dataclasses import dataclass
from enum import Enum

from app.domain.errors import FailureNote
from app.domain.images import Picture, ProviderImage
from app.domain.job import Job, PartResult, picture_stem
from app.domain.media import FetchFailed, FetchRefused, ImageStoreUnavailable
from app.service.download import DownloadImage

QUICK_S = (0.2, 1.0, 3.0)
PATIENT_S = (*QUICK_S, 10.0, 30.0)
"""A paid picture is worth several tries, more of them where its host may only be resting."""

UNAVAILABLE = FailureNote(
    "image_unavailable",
    "The provider made the image but it could not be fetched; it was charged.",
    charged=True,
)


class Lost(Enum):
    """Why an image is not in our store."""

    FOR_NOW = "its link or our store did not answer"
    FOR_GOOD = "its link may not be followed, or leads to no image"


@dataclass(frozen=True, slots=True)
class Collected:
    """A part's result; `missing` counts images that another look at the provider may bring."""

    result: PartResult
    missing: int


class Collect:
    def __init__(self, download: DownloadImage) -> None:
        self._download = download

    async def __call__(
        self, job: Job, part: int, images: tuple[ProviderImage, ...], *, patient: bool = True
    ) -> Collected:
        """Store a part's images; those beyond what was asked are counted but not kept."""
        wanted = images[: job.parts[part].n]
        calls = [
            self._bring(picture_stem(job.id, part, i), image, patient)
            for i, image in enumerate(wanted)
        ]
        stored = await asyncio.gather(*calls) if len(calls) > 1 else [await calls[0]]
        pictures = tuple(picture for picture in stored if isinstance(picture, Picture))
        result = PartResult(
            images=len(images),
            pictures=pictures,
            failure=None if pictures else UNAVAILABLE,
        )
        return Collected(result, missing=stored.count(Lost.FOR_NOW))

    async def _bring(self, stem: str, image: ProviderImage, patient: bool) -> Picture | Lost:
        for pause in (*(PATIENT_S if patient else ()), None):
            try:
                return await self._download(stem, image)
            except FetchRefused:
                return Lost.FOR_GOOD
            except (FetchFailed, ImageStoreUnavailable) as error:
                gone = isinstance(error, FetchFailed) and error.status is not None
                if pause is None or (gone and pause not in QUICK_S):
                    break
                await asyncio.sleep(pause)
        return Lost.FOR_NOW
