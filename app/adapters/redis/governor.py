"""The `Governor` on Redis: the provider's rate and concurrency, shared by all processes.

The rate is a log of the last minute's starts, not a leaking bucket: a bucket lets nearly twice
the limit through in its first minute, and the provider would answer that with 429.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from app.adapters.redis import keyspace
from app.adapters.redis.loader import load
from app.adapters.redis.store import Store
from app.domain.errors import LedgerUnavailable, Overloaded

FULL_PAUSE_S = 0.25
"""Between looks for a free place: nobody can say when a generation ends."""


class RedisGovernor:
    """`rpm` and `concurrency` None: no limit, and the store is not asked.

    `lease_s` frees the place of a process that died with a job at the provider.
    """

    def __init__(
        self,
        store: Store,
        *,
        rpm: int | None = None,
        concurrency: int | None = None,
        lease_s: int = 900,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._rpm, self._concurrency = store, rpm, concurrency
        self._lease_ms, self._sleep = lease_s * 1000, sleep
        self._scripts = load("upstream")

    @property
    def unlimited(self) -> bool:
        return self._rpm is None and self._concurrency is None

    async def acquire(self, job_id: str, wait_s: float) -> None:
        """Wait for a turn to dispatch, in order of asking where only the rate is in the way.

        Raises `Overloaded` when none comes in `wait_s` seconds, `LedgerUnavailable`.
        """
        if self.unlimited:
            return
        deadline = time.monotonic() + wait_s
        while True:
            left_s = deadline - time.monotonic()
            answer, delay_ms = await self._ask(job_id, left_s)
            if answer == "granted":
                break
            if answer == "late" or left_s < FULL_PAUSE_S:
                raise Overloaded("The provider is busy; try again shortly.")
            await self._sleep(FULL_PAUSE_S)
        try:
            await self._sleep(delay_ms / 1000)
        except asyncio.CancelledError:
            with contextlib.suppress(LedgerUnavailable):
                await asyncio.shield(self.release(job_id))
            raise

    async def release(self, job_id: str) -> None:
        """Give the turn back; harmless when there was none. Raises `LedgerUnavailable`."""
        if not self.unlimited:
            await self._store.run(self._scripts["release"], keyspace.UPSTREAM_KEYS, job_id)

    async def _ask(self, job_id: str, wait_s: float) -> tuple[str, int]:
        answer, delay_ms = await self._store.run(
            self._scripts["acquire"],
            keyspace.UPSTREAM_KEYS,
            *(job_id, self._rpm or "", self._concurrency or "", self._lease_ms),
            max(int(wait_s * 1000), 0),
        )
        return answer, delay_ms
