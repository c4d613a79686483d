"""Reads of a job by all who follow it, so that followers cost the ledger no more than one."""

import asyncio
import time
from dataclasses import dataclass, field

from app.domain.job import Job
from app.domain.ports import Ledger


@dataclass(frozen=True, slots=True)
class SharedReads:
    """Reads each job at most once in `pause_s` seconds, which is how old an answer may be."""

    ledger: Ledger
    _reads: dict[str, tuple[float, "asyncio.Task[Job | None]"]] = field(default_factory=dict)

    async def job(self, job_id: str, pause_s: float) -> Job | None:
        """Raises `LedgerUnavailable`, for everybody who shares the read."""
        began_s, read = self._reads.get(job_id, (0.0, None))
        if read is None or time.monotonic() - began_s >= pause_s:
            read = self._begin(job_id, pause_s)
        # Who leaves must not take the read along: others wait for it.
        return await asyncio.shield(read)

    def _begin(self, job_id: str, pause_s: float) -> "asyncio.Task[Job | None]":
        read = asyncio.create_task(self.ledger.job(job_id))
        read.add_done_callback(_hear_failure)
        self._reads[job_id] = (time.monotonic(), read)
        asyncio.get_running_loop().call_later(pause_s, self._forget, job_id, read)
        return read

    def _forget(self, job_id: str, read: "asyncio.Task[Job | None]") -> None:
        if self._reads.get(job_id, (0.0, None))[1] is read:
            del self._reads[job_id]


def _hear_failure(read: "asyncio.Task[Job | None]") -> None:
    """When all have left, nobody else does, and asyncio would log it as forgotten."""
    if not read.cancelled():
        read.exception()
