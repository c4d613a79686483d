"""The `ResultCache` on Redis: an entry is a list of variants.

The cache never blocks a request: when its store is away every answer is a bypass.
"""

from collections.abc import Sequence

from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.scripts import FIND_ANY, Argument, load_scripts
from app.adapters.redis.codec import to_json
from app.adapters.redis.picture_records import read_pictures
from app.adapters.redis.replies import Fields, check_fields, unexpected_reply
from app.domain.cache import CacheControl, CacheLookup, CacheOutcome
from app.domain.errors import StoreUnavailable
from app.domain.images import Picture
from app.domain.job import CacheVariant

BYPASS = CacheLookup(CacheOutcome.BYPASS)
NOT_STORED = CacheLookup(CacheOutcome.BYPASS, stored=False)


class RedisResultCache:
    """`lease_s` is how long a job may take to fill its variant: the task deadline."""

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
        """See the port. A MISS without a variant is made beside the cache: another job has it."""
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
        except StoreUnavailable:
            return NOT_STORED if control.only_if_cached else BYPASS
        return self._read(fingerprint, check_fields("look_up", reply))

    def _read(self, fingerprint: str, found: Fields) -> CacheLookup:
        match found.get("outcome"):
            case "empty":
                return NOT_STORED
            case "occupied":
                return CacheLookup(CacheOutcome.MISS)
            case "miss" | "joined" | "hit" as outcome:
                variant = CacheVariant(fingerprint, found["variant"])
            case unknown:
                raise unexpected_reply("look_up", unknown)
        if outcome == "miss":
            return CacheLookup(CacheOutcome.MISS, cache_variant=variant)
        maker = found["job"]
        if outcome == "joined":
            claimed_s = found["lease_age_ms"] / 1000
            return CacheLookup(
                CacheOutcome.JOINED, job_id=maker, cache_variant=variant, claimed_s=claimed_s
            )
        return CacheLookup(
            CacheOutcome.HIT,
            pictures=read_pictures(found["pictures"]),
            job_id=maker,
            age_s=found["age_ms"] // 1000,
            ttl_s=max(self._ttl_ms - found["age_ms"], 0) // 1000,
            made_ms=found["made_ms"],
            cache_variant=variant,
        )

    async def may_have(self, fingerprint: str) -> bool:
        try:
            pictures, _ = keyspace.cache_keys(fingerprint)
            return bool(await self._store.run(FIND_ANY, (pictures,)))
        except StoreUnavailable:
            return True

    async def fill(self, variant: CacheVariant, job_id: str, pictures: Sequence[Picture]) -> None:
        await self._run_best_effort("fill", variant, job_id, self._ttl_ms, to_json(list(pictures)))

    async def evict(self, variant: CacheVariant, job_id: str) -> bool:
        return await self._run_best_effort("evict", variant, job_id)

    async def _run_best_effort(
        self, name: str, variant: CacheVariant, job_id: str, *args: Argument
    ) -> bool:
        keys = keyspace.cache_keys(variant.fingerprint)
        try:
            reply = await self._store.run(self._scripts[name], keys, job_id, variant.index, *args)
        except StoreUnavailable:
            # The variant becomes free when its lease ends.
            return False
        check_fields(name, reply)
        return True
