"""What a cache is asked and what it answers."""

from dataclasses import dataclass
from enum import StrEnum

from app.domain.images import Picture
from app.domain.job import CacheVariant


class CacheOutcome(StrEnum):
    HIT = "hit"
    MISS = "miss"
    JOINED = "joined"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class CacheControl:
    """Request directives of RFC 9111 section 5.2.1 that a caller may send.

    `no_cache`: make a new picture and cache it. `no_store`: neither read nor fill the cache.
    `max_age_s`: serve only younger pictures. `only_if_cached`: never make a picture.
    """

    no_cache: bool = False
    no_store: bool = False
    max_age_s: int | None = None
    only_if_cached: bool = False


@dataclass(frozen=True, slots=True)
class CacheLookup:
    """The cache's answer.

    HIT: `pictures` made by `job_id` at `made_ms`, `age_s` seconds ago. JOINED: `job_id` makes them,
    and claimed the variant `claimed_s` seconds ago. MISS: this request's job is to fill
    `cache_variant`. BYPASS: the cache is off, not wanted or unavailable.
    """

    outcome: CacheOutcome
    pictures: tuple[Picture, ...] = ()
    job_id: str | None = None
    age_s: int = 0
    ttl_s: int = 0
    made_ms: int = 0
    cache_variant: CacheVariant | None = None
    claimed_s: float = 0.0
    stored: bool = True
