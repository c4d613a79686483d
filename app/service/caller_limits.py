"""How much of this process one caller may use: its request rate, and how many of it wait at once.

The store keeps the exact limits of all gateways together. These checks come before a body is read
or the store is asked, so that a client that is far too fast, or was just told to wait, costs next
to nothing and keeps nobody else out (decision 27).
"""

import asyncio
import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial

from app.domain.errors import RateLimited
from app.domain.limits import Scope, TooManyWaiting
from app.domain.principal import Principal

MAX_KEYS = 10_000
BURST_S = 2.0
"""A key that was quiet may send the requests of this many seconds at once."""
TOLERANCE_S = 1e-6
"""Sums of fractions of a second are not exact, so shorter waits are ignored."""
BODY_BYTES_PER_TOKEN = 32 << 10
"""A request body costs one token more for each of these: receiving it is what a long one costs."""
REFUSALS_PER_S = 10.0
REFUSAL_DELAY_S = 1.0
"""A key that is refused more often is answered this much later, because a client that repeats
without a pause must not keep the process busy."""
MAX_DELAYED = 256
ZERO_LIMIT_TTL_S = 3.0
"""How long a limit of 0 is taken as known: as long as a key's record is."""


class TokenBuckets:
    """Token buckets by name (GCRA): `per_s` tokens a second, at most those of `burst_s` saved up;
    `per_s` 0 means no limit. What costs more than a full bucket is granted when the bucket is full,
    and the wait comes afterwards. The names that were idle for longest are forgotten first."""

    def __init__(self, per_s: float, burst_s: float, now: Callable[[], float]) -> None:
        self._per_s, self._burst_s, self._now = per_s, burst_s, now
        self._full_again: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str, tokens: float = 1.0) -> float:
        """Take the tokens and return 0.0, or take none and return the seconds until they are
        there."""
        if not self._per_s:
            return 0.0
        now = self._now()
        cost_s = tokens / self._per_s
        after = max(self._full_again.get(name, now), now) + cost_s
        if (wait_s := after - now - max(self._burst_s, cost_s)) > TOLERANCE_S:
            return wait_s
        self._full_again[name] = after
        self._full_again.move_to_end(name)
        if len(self._full_again) > MAX_KEYS:
            self._full_again.popitem(last=False)
        return 0.0


@dataclass(frozen=True, slots=True)
class _RecentRefusal:
    """What the store said, and the limits that it was based on: new limits may allow more. The
    refusal itself would keep the whole request it was raised for."""

    message: str
    is_final: bool
    scopes: tuple[Scope, ...]
    until_s: float


class KeyRateLimiter:
    """`requests_per_s` counts everything a key sends, `reads_per_s` what it only reads."""

    def __init__(
        self,
        requests_per_s: float,
        reads_per_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._requests_per_s, self._reads_per_s = requests_per_s, reads_per_s
        self._requests = TokenBuckets(requests_per_s, BURST_S, now)
        self._reads = TokenBuckets(reads_per_s, BURST_S, now)
        self._refusals = TokenBuckets(REFUSALS_PER_S, 2.0, now)
        self._recent_refusals: OrderedDict[str, _RecentRefusal] = OrderedDict()
        self._delayed: Counter[str] = Counter()

    async def check_rate_limit(self, principal: Principal, body_bytes: int = 0) -> None:
        """Count one request of any kind, before its body is received: a long one costs several
        tokens. Raises `RateLimited`."""
        wait_s = self._requests.take(principal.key_id, 1 + body_bytes // BODY_BYTES_PER_TOKEN)
        if wait_s:
            await self._refuse(principal, _too_fast("requests", self._requests_per_s, wait_s))

    async def check_read_rate(self, principal: Principal, tokens: float = 1.0) -> None:
        """Count one request that only reads; an expensive one costs several tokens. Raises
        `RateLimited`."""
        wait_s = self._reads.take(principal.key_id, tokens)
        if wait_s:
            await self._refuse(principal, _too_fast("readings", self._reads_per_s, wait_s))

    async def check_recent_refusal(self, principal: Principal) -> None:
        """Repeat what the store said about this key's rate a moment ago. Raises `RateLimited`."""
        told = self._recent_refusals.get(principal.key_id)
        if told is None:
            return
        left_s = told.until_s - self._now()
        if left_s <= 0 or told.scopes != principal.scopes:
            del self._recent_refusals[principal.key_id]
            return
        wait_s = None if told.is_final else math.ceil(left_s)
        await self._refuse(principal, RateLimited(told.message, retry_after_s=wait_s))

    def remember_refusal(self, principal: Principal, refusal: RateLimited) -> None:
        """Remember that the store refused this key for its rate, until it need be asked again."""
        is_final = refusal.retry_after_s is None
        until_s = self._now() + (refusal.retry_after_s or ZERO_LIMIT_TTL_S)
        self._recent_refusals[principal.key_id] = _RecentRefusal(
            refusal.message, is_final, principal.scopes, until_s
        )
        self._recent_refusals.move_to_end(principal.key_id)
        if len(self._recent_refusals) > MAX_KEYS:
            self._recent_refusals.popitem(last=False)

    async def _refuse(self, principal: Principal, refusal: RateLimited) -> None:
        key = principal.key_id
        if self._refusals.take(key) and self._delayed[key] < MAX_DELAYED:
            self._delayed[key] += 1
            try:
                await asyncio.sleep(REFUSAL_DELAY_S)
            finally:
                self._delayed[key] -= 1
                if not self._delayed[key]:
                    del self._delayed[key]
        raise refusal


def _too_fast(what: str, per_s: float, wait_s: float) -> RateLimited:
    after_s = max(math.ceil(wait_s), 1)
    return RateLimited(
        f"This API key sends more than {per_s:g} {what} a second to this gateway. Nothing was "
        f"spent. Try again in {after_s} s.",
        retry_after_s=after_s,
    )


Release = Callable[[], None]
"""Gives back what was taken. Call it once, also when the caller left."""

MAX_SHARES = 1024
"""The shares of how many keys are remembered."""
MAX_QUEUED = 64
"""How many may wait under one name; more are refused at once."""
RETRY_AFTER_S = 2


class WaitingCap:
    """At most `limit` callers of one key, and of one user, wait in this process at once: for a
    generation, a stream, a slot or a task. None means no limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._waiting: dict[str, int] = {}
        # Callers of one key share these: all that wait keep them.
        self._share_of = lru_cache(MAX_SHARES)(self._make_share)

    def take(self, principal: Principal) -> Release:
        """Raises `TooManyWaiting`."""
        waiting = self._waiting
        names, release = self._share_of(principal.key_id, principal.user)
        for name in names:
            if self._limit is not None and waiting.get(name, 0) >= self._limit:
                raise TooManyWaiting(
                    f"{self._limit} requests of this {name.partition(':')[0]} are waiting at this "
                    "gateway already, its share. Nothing was spent; repeat this one a little "
                    "later. Those that wait go on.",
                    retry_after_s=RETRY_AFTER_S,
                )
        for name in names:
            waiting[name] = waiting.get(name, 0) + 1
        return release

    def _make_share(self, key_id: str, user: str) -> tuple[tuple[str, str], Release]:
        names = (f"key:{key_id}", f"user:{user}")
        return names, partial(self._release, names)

    def _release(self, names: tuple[str, ...]) -> None:
        for name in names:
            left = self._waiting[name] - 1
            if left:
                self._waiting[name] = left
            else:
                del self._waiting[name]


@dataclass(slots=True)
class _SemaphoreEntry:
    """`free` is a semaphore; `users` hold it or wait for it."""

    free: asyncio.Semaphore
    users: int = 0


class KeyedSemaphore:
    """At most `limit` at once under each name; others wait in a queue, up to `wait_s` seconds."""

    def __init__(self, limit: int, wait_s: float) -> None:
        self._limit, self._wait_s = limit, wait_s
        self._gates: dict[str, _SemaphoreEntry] = {}

    async def take(self, name: str, refusal: str) -> Release:
        """Raises `TooManyWaiting` with the text `refusal` when the wait is too long."""
        gate = self._gates.setdefault(name, _SemaphoreEntry(asyncio.Semaphore(self._limit)))
        if gate.users >= self._limit + MAX_QUEUED:
            raise TooManyWaiting(refusal, retry_after_s=RETRY_AFTER_S)
        gate.users += 1
        taken = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s):
                    taken = await gate.free.acquire()
        finally:
            if not taken:
                self._leave(name, gate)
        if not taken:
            raise TooManyWaiting(refusal, retry_after_s=RETRY_AFTER_S)

        def release() -> None:
            gate.free.release()
            self._leave(name, gate)

        return release

    def _leave(self, name: str, gate: _SemaphoreEntry) -> None:
        gate.users -= 1
        if not gate.users:
            del self._gates[name]
