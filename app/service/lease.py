"""Work under a lease: whoever dies lets it lapse, whoever lives renews it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from app.domain.errors import LedgerUnavailable, TaskNotFound

T = TypeVar("T")

LEASE_MS = 5_000
"""How long the work of a process that died waits for another one."""
RENEW_S = 2.0


async def renewed(
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
