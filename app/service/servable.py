"""A cache whose hits can be served: an entry whose pictures are gone has ended."""

from collections.abc import Sequence
from typing import Any

from app.domain.images import Picture
from app.domain.job import CacheSlot
from app.domain.media import ImageStoreUnavailable
from app.domain.ports import ImageStore, ResultCache
from app.domain.recall import CacheControl, CacheOutcome, Recalled

TRIES = 3


class ServableCache:
    """The `ResultCache` port over another one and the store its pictures lie in."""

    def __init__(self, cache: ResultCache, pictures: ImageStore) -> None:
        self._cache = cache
        self._pictures = pictures

    async def recall(
        self, fingerprint: str, job_id: str, control: CacheControl, **how: Any
    ) -> Recalled:
        """See the port; after an entry that has ended the request is as if it had not been."""
        for _ in range(TRIES):
            recalled = await self._cache.recall(fingerprint, job_id, control, **how)
            if recalled.outcome is not CacheOutcome.HIT or await self._there(recalled):
                return recalled
            if recalled.slot is not None and recalled.job_id is not None:
                await self._cache.forget(recalled.slot, recalled.job_id)
        return Recalled(CacheOutcome.MISS)

    async def keep(self, slot: CacheSlot, job_id: str, pictures: Sequence[Picture]) -> None:
        await self._cache.keep(slot, job_id, pictures)

    async def forget(self, slot: CacheSlot, job_id: str) -> None:
        await self._cache.forget(slot, job_id)

    async def _there(self, recalled: Recalled) -> bool:
        """A store that is away has lost nothing."""
        try:
            return await self._pictures.exists([picture.name for picture in recalled.pictures])
        except ImageStoreUnavailable:
            return True
