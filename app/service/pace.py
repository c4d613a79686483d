"""A key's pace as this process sees it: looked at before a body is read or the store is asked.

The store keeps the exact limits of all gateways together. This is the cheap gate in front of it:
whoever comes faster than any honest client, or was told just now to wait, costs next to nothing.
"""

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from app.domain.errors import RateLimited
from app.domain.limits import Scope
from app.domain.principal import Principal

MOST_KEYS = 10_000
BURST_S = 2.0
"""A key that was quiet may send the requests of so many seconds at once."""
GRAIN_S = 1e-6
"""Sums of fractions of a second are not exact: nobody waits for less."""
REFUSALS_PER_S = 10.0
COOLING_S = 1.0
"""A key that is refused more often than that is answered so much later: a client that repeats
without a pause then waits for us, instead of us for it."""
MOST_COOLING = 256
CLOSED_S = 3.0
"""How long a limit of 0 is taken as known: as long as a key's record is."""


class Buckets:
    """Token buckets by name (GCRA), `per_s` tokens a second and those of `burst_s` in store; 0
    tokens a second means no limit. What costs more than the store ever holds is granted when that
    is full, and waited for afterwards. Names that were idle for longest are forgotten first."""

    def __init__(self, per_s: float, burst_s: float, now: Callable[[], float]) -> None:
        self._per_s, self._burst_s, self._now = per_s, burst_s, now
        self._full_again: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str, tokens: float = 1.0) -> float:
        """0.0, or the seconds until there are so many; then none was taken."""
        if not self._per_s:
            return 0.0
        now = self._now()
        cost_s = tokens / self._per_s
        after = max(self._full_again.get(name, now), now) + cost_s
        if (wait_s := after - now - max(self._burst_s, cost_s)) > GRAIN_S:
            return wait_s
        self._full_again[name] = after
        self._full_again.move_to_end(name)
        if len(self._full_again) > MOST_KEYS:
            self._full_again.popitem(last=False)
        return 0.0


@dataclass(frozen=True, slots=True)
class _Told:
    """A refusal of the store, and the limits it stands on: others may allow more."""

    refusal: RateLimited
    scopes: tuple[Scope, ...]
    until_s: float


class KeyPace:
    """`requests_per_s` counts everything a key sends, `reads_per_s` what it only reads."""

    def __init__(
        self,
        requests_per_s: float,
        reads_per_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._requests_per_s, self._reads_per_s = requests_per_s, reads_per_s
        self._requests = Buckets(requests_per_s, BURST_S, now)
        self._reads = Buckets(reads_per_s, BURST_S, now)
        self._refusals = Buckets(REFUSALS_PER_S, 2.0, now)
        self._told: OrderedDict[str, _Told] = OrderedDict()
        self._cooling: Counter[str] = Counter()

    async def arrive(self, principal: Principal) -> None:
        """Count one request of any kind. Raises `RateLimited`."""
        wait_s = self._requests.take(principal.key_id)
        if wait_s:
            await self._refuse(principal, _too_fast("requests", self._requests_per_s, wait_s))

    async def read(self, principal: Principal, tokens: float = 1.0) -> None:
        """Count one reading request; a costly one is worth several. Raises `RateLimited`."""
        wait_s = self._reads.take(principal.key_id, tokens)
        if wait_s:
            await self._refuse(principal, _too_fast("readings", self._reads_per_s, wait_s))

    async def generate(self, principal: Principal) -> None:
        """Repeat what the store said about this key's pace a moment ago. Raises `RateLimited`."""
        told = self._told.get(principal.key_id)
        if told is None:
            return
        left_s = told.until_s - self._now()
        if left_s <= 0 or told.scopes != principal.scopes:
            del self._told[principal.key_id]
            return
        wait_s = None if told.refusal.retry_after_s is None else math.ceil(left_s)
        await self._refuse(principal, RateLimited(told.refusal.message, retry_after_s=wait_s))

    def refused(self, principal: Principal, refusal: RateLimited) -> None:
        """The store refused this key for its pace: until then it need not be asked again."""
        wait_s = CLOSED_S if refusal.retry_after_s is None else refusal.retry_after_s
        self._told[principal.key_id] = _Told(refusal, principal.scopes, self._now() + wait_s)
        self._told.move_to_end(principal.key_id)
        if len(self._told) > MOST_KEYS:
            self._told.popitem(last=False)

    async def _refuse(self, principal: Principal, refusal: RateLimited) -> None:
        key = principal.key_id
        if self._refusals.take(key) and self._cooling[key] < MOST_COOLING:
            self._cooling[key] += 1
            try:
                await asyncio.sleep(COOLING_S)
            finally:
                self._cooling[key] -= 1
                if not self._cooling[key]:
                    del self._cooling[key]
        raise refusal


def _too_fast(what: str, per_s: float, wait_s: float) -> RateLimited:
    after_s = max(math.ceil(wait_s), 1)
    return RateLimited(
        f"This API key sends more than {per_s:g} {what} a second to this gateway. Nothing was "
        f"spent. Try again in {after_s} s.",
        retry_after_s=after_s,
    )
