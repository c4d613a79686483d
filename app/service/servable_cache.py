"""A cache whose hits can be served: an entry whose pictures are gone counts as a miss."""

from collections.abc import Sequence
from typing import Any

from app.domain.cache import CacheControl, CacheLookup, CacheOutcome
from app.domain.images import Picture
from app.domain.job import CacheVariant
from app.domain.media import ImageStoreUnavailable
from app.domain.ports import ImageStore, ResultCache

MAX_TRIES = 3


class ServableCache:
    """A `ResultCache` on top of another one and of the store that holds the pictures."""

    def __init__(self, cache: ResultCache, pictures: ImageStore) -> None:
        self._cache = cache
        self._pictures = pictures

    async def look_up(
        self, fingerprint: str, job_id: str, control: CacheControl, **how: Any
    ) -> CacheLookup:
        """See the port. An entry whose pictures are gone is removed, and the look-up repeated."""
        for _ in range(MAX_TRIES):
            recalled = await self._cache.look_up(fingerprint, job_id, control, **how)
            if recalled.outcome is not CacheOutcome.HIT or await self._is_stored(recalled):
                return recalled
            if recalled.cache_variant is not None and recalled.job_id is not None:
                await self._cache.evict(recalled.cache_variant, recalled.job_id)
        return CacheLookup(CacheOutcome.MISS)

    async def may_have(self, fingerprint: str) -> bool:
        return await self._cache.may_have(fingerprint)

    async def fill(self, variant: CacheVariant, job_id: str, pictures: Sequence[Picture]) -> None:
        await self._cache.fill(variant, job_id, pictures)

    async def evict(self, variant: CacheVariant, job_id: str) -> bool:
        return await self._cache.evict(variant, job_id)

    async def _is_stored(self, recalled: CacheLookup) -> bool:
        """An image store that is away has not lost anything, so the hit stands."""
        try:
            return await self._pictures.exists([picture.name for picture in recalled.pictures])
        except ImageStoreUnavailable:
            return True
