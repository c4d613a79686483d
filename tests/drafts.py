"""Fetching without a store: what comes is looked at and thrown away."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.adapters.images.fetch import HttpImageFetcher
from app.adapters.images.spool import SpoolDirectory, SpooledDraft
from app.domain.images import Picture


def named(name: str) -> Callable[[], Picture]:
    """What an examination finds: a picture of this name."""
    return lambda: Picture(name, "image/png", 1, 1)


@dataclass(frozen=True)
class Brought:
    body: bytes
    told: bool


async def bring(fetcher: HttpImageFetcher, url: str) -> Brought:
    """What came, and whether its end was told."""
    with tempfile.TemporaryDirectory() as place:
        spool = SpoolDirectory(Path(place))
        async with SpooledDraft(spool.create, never, spool.map_error) as draft:
            told = await fetcher.fetch(url, draft)
            await draft.seal()
            return Brought(draft.read(0, draft.size), told)


async def never(_draft: SpooledDraft, _examine: object) -> Picture:
    raise AssertionError
