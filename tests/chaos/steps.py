"""Every step at which a gateway may die, and what its caller must find at the next one.

A step is `before-`, `after-` or (a POST only) `during-` a place. The table is the expectation: a
caller repeats its request until it ends, and then it has its picture for one charge, unless the
table says that nobody can know what the provider made.
"""

from dataclasses import dataclass
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of a call whose gateway died. At most one POST and one charge in any case."""

    PICTURE = "picture"
    """Delivered, metered once, nothing presumed: sent once, whichever process sent it."""
    LOST = "lost"
    """Sent, and nobody knows the answer: presumed billed, told as a failure not to repeat."""
    SILENT = "silent"
    """About to be sent, never sent: as LOST, because the ledger cannot tell them apart."""

    HALF = "half"
    """Two upstream calls for three pictures, and nobody knows the answer to one of them."""

    EITHER = "either"
    """As LOST, unless the job was settled first: downloads have a short grace before that."""

    @property
    def posts(self) -> int:
        return {Fate.SILENT: 0, Fate.HALF: 2}.get(self, 1)

    @property
    def lost(self) -> tuple[int, ...]:
        """How many images may be presumed."""
        return {Fate.PICTURE: (0,), Fate.HALF: (1, 2), Fate.EITHER: (0, 1)}.get(self, (1,))


@dataclass(frozen=True)
class Place:
    """A method that is passed on the way of every call, and the fates around it.

    `module` and `method` say where it is. `auto` and `sync` are the fates of a death before and
    after it, in either upstream mode; None where a call does not pass it, or not as its own (every
    process claims from its start on).
    """

    name: str
    module: str
    method: str
    auto: "Fates"
    sync: "Fates"


Fates = tuple[Fate | None, Fate | None]
NOWHERE = (None, None)
P, L, S, E = Fate.PICTURE, Fate.LOST, Fate.SILENT, Fate.EITHER
LEDGER, CACHE = "app.adapters.redis.ledger", "app.adapters.redis.cache"
LIMITER, IMAGES = "app.adapters.redis.upstream_limiter", "app.adapters.images"
PROVIDER = "app.adapters.upstream.client"

PLACES = (
    Place("arrive", LEDGER, "RedisLedger.check_rate_limit", (P, P), (P, P)),
    Place("recall", CACHE, "RedisResultCache.look_up", (P, P), (P, P)),
    Place("admit", LEDGER, "RedisLedger.admit", (P, P), (P, P)),
    Place("acquire", LIMITER, "RedisUpstreamLimiter.acquire", (P, P), (P, P)),
    Place("dispatch", LEDGER, "RedisLedger.dispatch", (P, S), (P, S)),
    Place("post", PROVIDER, "DieyuyunProvider.dispatch", (S, L), (S, L)),
    Place("record", LEDGER, "RedisLedger.record_part", (L, P), NOWHERE),
    Place("claim", LEDGER, "RedisLedger.claim", (None, P), NOWHERE),
    Place("poll", PROVIDER, "DieyuyunProvider.poll", (P, P), NOWHERE),
    Place("advance", LEDGER, "RedisLedger.reschedule", (P, P), NOWHERE),
    Place("fetch", f"{IMAGES}.fetch", "HttpImageFetcher.fetch", (P, P), (L, E)),
    Place("put", f"{IMAGES}.file", "FileImageStore.put", (P, P), (E, E)),
    Place("settle", LEDGER, "RedisLedger.settle", (P, P), (L, P)),
    Place("keep", CACHE, "RedisResultCache.fill", (P, P), (P, P)),
    Place("release", LIMITER, "RedisUpstreamLimiter.release", (P, P), (P, P)),
    Place("answer", "app.api.response", "PendingResponse.build_response", (None, P), (None, P)),
)
DURING_POST = "during-post"


@dataclass(frozen=True)
class Step:
    """One row of the table for one upstream mode."""

    name: str
    fate: Fate


def steps(mode: str) -> list[Step]:
    """Every step that a call passes in this mode, in order."""
    rows = [(place, place.auto if mode == "auto" else place.sync) for place in PLACES]
    around = [
        (f"{moment}-{place.name}", fate)
        for place, fates in rows
        for moment, fate in zip(("before", "after"), fates, strict=True)
    ]
    return [Step(DURING_POST, L), *(Step(name, fate) for name, fate in around if fate is not None)]


def place_of(step: str) -> tuple[str, Place]:
    """`before-settle` -> `before` and the place; raises KeyError for a step not in the table."""
    moment, _, name = step.partition("-")
    return moment, {place.name: place for place in PLACES}[name]
