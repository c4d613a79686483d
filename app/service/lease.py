"""Leases, which a live process renews and a dead one lets lapse; and provider slots left behind.

Slots and permits at the provider belong to open jobs and are given back with the settlement. A
process that died in between, or whose message was lost, leaves them behind. The ledger knows which
jobs have ended, so what those still hold is freed (decision 26).
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
        """Free the slots of jobs that have ended; how many such jobs there were.

        Raises `StoreUnavailable`; then every job keeps what it has, as its end is not known.
        """
        holders = await self.upstream_limiter.list_holders()
        if not holders:
            return 0
        active = await self.ledger.filter_open([holder.job_id for holder in holders])
        over = [holder for holder in holders if holder.job_id not in active]
        for holder in over:
            await self.upstream_limiter.release_all(holder.job_id, holder.calls)
        return len(over)
