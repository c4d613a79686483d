"""The `ResultCache` on Redis: an entry is a list of variants (design, section 5).

Nothing here may stand in a request's way: when the store is away every answer is a bypass.
"""

from collections.abc import Sequence

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.pipeline import Argument
from app.adapters.redis.client.scripts import load_scripts
from app.adapters.redis.job_codec import read_pictures
from app.domain.cache import CacheControl, CacheLookup, CacheOutcome
from app.domain.errors import LedgerUnavailable
from app.domain.images import Picture
from app.domain.job import CacheVariant

BYPASS = CacheLookup(CacheOutcome.BYPASS)
NOT_STORED = CacheLookup(CacheOutcome.BYPASS, stored=False)


class RedisResultCache:
    """`lease_s` is how long a job may take to fill its slot: the task deadline."""

    def __init__(self, store: BatchingStore, *, ttl_s: int, variants: int, lease_s: int) -> None:
        self._store, self._ttl_ms, self._variants = store, ttl_s * 1000, variants
        self._lease_ms = lease_s * 1000
        self._scripts = load_scripts("cache")

    async def look_up(
        self,
        fingerprint: str,
        job_id: str,
        control: CacheControl,
        *,
        repeated: bool = False,
        instead_of: str | None = None,
    ) -> CacheLookup:
        """See the port. A MISS without a slot is made beside the cache: its slot is taken."""
        if control.no_store:
            return NOT_STORED if control.only_if_cached else BYPASS
        if control.only_if_cached and control.no_cache:
            return NOT_STORED
        directive = "no-cache" if control.no_cache else ""
        directive = "only-if-cached" if control.only_if_cached else directive
        youngest: Argument = "" if control.max_age_s is None else control.max_age_s * 1000
        try:
            reply = await self._store.run(
                self._scripts["look_up"],
                keyspace.cache_keys(fingerprint),
                *(job_id, self._variants, self._ttl_ms, self._lease_ms, youngest, directive),
                *(int(repeated), instead_of or ""),
            )
        except LedgerUnavailable:
            return NOT_STORED if control.only_if_cached else BYPASS
        match reply:
            case ["hit", index, maker, age_ms, made_ms, pictures]:
                return CacheLookup(
                    CacheOutcome.HIT,
                    pictures=read_pictures(orjson.loads(pictures)),
                    job_id=maker,
                    age_s=age_ms // 1000,
                    ttl_s=max(self._ttl_ms - age_ms, 0) // 1000,
                    made_ms=made_ms,
                    cache_variant=CacheVariant(fingerprint, index),
                )
            case ["joined", index, maker, marked_ms]:
                slot = CacheVariant(fingerprint, index)
                marked_s = int(marked_ms) / 1000
                return CacheLookup(
                    CacheOutcome.JOINED, job_id=maker, cache_variant=slot, claimed_s=marked_s
                )
            case ["miss", index]:
                return CacheLookup(
                    CacheOutcome.MISS, cache_variant=CacheVariant(fingerprint, index)
                )
            case ["occupied"]:
                return CacheLookup(CacheOutcome.MISS)
        return NOT_STORED

    async def fill(self, slot: CacheVariant, job_id: str, pictures: Sequence[Picture]) -> None:
        await self._run_best_effort(
            "fill", slot, job_id, self._ttl_ms, orjson.dumps(list(pictures))
        )

    async def evict(self, slot: CacheVariant, job_id: str) -> None:
        await self._run_best_effort("evict", slot, job_id)

    async def _run_best_effort(
        self, name: str, slot: CacheVariant, job_id: str, *args: Argument
    ) -> None:
        keys = keyspace.cache_keys(slot.fingerprint)
        try:
            await self._store.run(self._scripts[name], keys, job_id, slot.index, *args)
        except LedgerUnavailable:
            # The slot frees itself when its lease ends.
            return
