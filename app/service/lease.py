"""Work under a lease: whoever dies lets it lapse, whoever lives renews it.

Places and turns at the provider belong to open jobs.

They are given back with a job's settlement. A process that died in between, or whose word was lost,
leaves them behind: the ledger knows which jobs are over, so whatever those still hold is freed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from app.domain.errors import LedgerUnavailable, TaskNotFound
from app.domain.ports import Ledger, UpstreamLimiter

T = TypeVar("T")

LEASE_MS = 5_000
"""How long the work of a process that died waits for another one."""
RENEW_S = 2.0


async def run_renewing(
    work: Coroutine[Any, Any, T],
    keep: Callable[[], Awaitable[object]],
    every_s: float = RENEW_S,
) -> T:
    """The work's result; `keep` renews its lease for as long as it takes. A renewal that the store
    does not take ends nothing: the next one may be in time. Cancelled with whoever waits for it."""
    working = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({working}, timeout=every_s))[0]:
            with suppress(LedgerUnavailable, TaskNotFound):
                await keep()
    finally:
        working.cancel()
    return working.result()


@dataclass(frozen=True, slots=True)
class SlotReclaimer:
    ledger: Ledger
    upstream_limiter: UpstreamLimiter

    async def reclaim(self) -> int:
        """Free what jobs that are over still hold; how many there were.

        Raises `StoreUnavailable`: what is not known to be over keeps what it has.
        """
        holders = await self.upstream_limiter.list_holders()
        if not holders:
            return 0
        active = await self.ledger.filter_open([holder.job_id for holder in holders])
        over = [holder for holder in holders if holder.job_id not in active]
        for holder in over:
            await self.upstream_limiter.release_all(holder.job_id, holder.calls)
        return len(over)
