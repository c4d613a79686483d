"""Leases, which a live process renews and a dead one lets lapse; and provider slots left behind.

Slots and permits at the provider belong to open jobs and are given back with the settlement. A
process that died in between, or whose message was lost, leaves them behind. The ledger knows which
jobs have ended, so what those still hold is freed (decision 26).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from app.domain.errors import LedgerUnavailable, TaskNotFound
from app.domain.ledger import JobClaim
from app.domain.ports import Ledger
from app.domain.upstream import UpstreamLimiter

T = TypeVar("T")

LEASE_MS = 5_000
"""How long the work of a dead process waits for another process."""
RENEW_S = 2.0


async def run_renewing(
    work: Coroutine[Any, Any, T],
    keep: Callable[[], Awaitable[object]],
    every_s: float = RENEW_S,
) -> T:
    """The result of the work, whose lease `keep` renews for as long as it takes.

    A renewal that fails ends nothing, because the next one may be in time. The work is cancelled
    with its caller.
    """
    renewal = _Renewal(keep, every_s)
    try:
        return await work
    finally:
        await renewal.stop()


class _Renewal:
    """Calls `keep` again and again; after `stop` no call is under way."""

    def __init__(self, keep: Callable[[], Awaitable[object]], every_s: float) -> None:
        self._keep, self._every_s = keep, every_s
        self._is_over = False
        self._running: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(every_s, self._begin)

    async def stop(self) -> None:
        self._is_over = True
        self._timer.cancel()
        if self._running is not None:
            await asyncio.wait([self._running])

    def _begin(self) -> None:
        self._running = asyncio.create_task(self._renew(), name="lease")

    async def _renew(self) -> None:
        try:
            with suppress(LedgerUnavailable, TaskNotFound):
                await self._keep()
        finally:
            if not self._is_over:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(self._every_s, self._begin)


class LeaseKeeper:
    """Renews the leases of claimed jobs for as long as they are worked on here: one timer for all,
    which runs while there are any."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: dict[tuple[str, int], _Lease] = {}
        self._renewing: asyncio.Task[None] | None = None

    def hold(self, claim: JobClaim) -> None:
        """Until `let_go`."""
        self._held[claim.job.id, claim.token] = _Lease(claim, time.monotonic() + RENEW_S)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_while_held(), name="leases")

    def let_go(self, claim: JobClaim) -> None:
        self._held.pop((claim.job.id, claim.token), None)

    async def _renew_while_held(self) -> None:
        try:
            while self._held:
                await asyncio.sleep(RENEW_S / 4)
                now_s = time.monotonic()
                due = [lease for lease in self._held.values() if lease.due_s <= now_s]
                # One that fails in whatever way must not end the renewals of the others.
                await asyncio.gather(*map(self._renew, due), return_exceptions=True)
        finally:
            self._renewing = None

    async def _renew(self, lease: "_Lease") -> None:
        """One that fails ends nothing, because the next one may be in time."""
        lease.due_s = time.monotonic() + RENEW_S
        with suppress(LedgerUnavailable, TaskNotFound):
            await self._ledger.reschedule(lease.claim, due_ms=LEASE_MS)


@dataclass(slots=True)
class _Lease:
    """`due_s`: when it is renewed next, by this process's clock."""

    claim: JobClaim
    due_s: float


@dataclass(frozen=True, slots=True)
class SlotReclaimer:
    ledger: Ledger
    limiters: Sequence[UpstreamLimiter]

    async def reclaim(self) -> int:
        """Free the slots of jobs that have ended, at every provider; how many such jobs there were.

        Raises `StoreUnavailable`; then every job keeps what it has, as its end is not known.
        """
        return sum([await self._reclaim(limiter) for limiter in self.limiters])

    async def _reclaim(self, limiter: UpstreamLimiter) -> int:
        holders = await limiter.list_holders()
        if not holders:
            return 0
        active = await self.ledger.filter_open([holder.job_id for holder in holders])
        over = [holder for holder in holders if holder.job_id not in active]
        for holder in over:
            await limiter.release_all(holder.job_id, holder.calls)
        return len(over)
