"""Waiting for a job to end, whichever process ends it."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from app.domain.errors import LedgerUnavailable
from app.domain.job import Job
from app.domain.ports import Ledger, Signals

REREAD_S = 5.0
"""A lost signal delays an answer by at most this."""
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that ended; `upstream_s` is the time its provider took, as far as it is known."""

    job: Job
    upstream_s: float


class Completions:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiters: dict[str, set[asyncio.Future[Ended]]] = {}
        self._recent: OrderedDict[str, Ended] = OrderedDict()

    def announce(self, job: Job, upstream_s: float | None = None) -> None:
        """Wake everyone here who waits for this job."""
        ended = Ended(job, _recorded_s(job) if upstream_s is None else upstream_s)
        self._recent[job.id] = ended
        if len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)
        for waiter in self._waiters.pop(job.id, ()):
            if not waiter.done():
                waiter.set_result(ended)

    async def wait(self, job_id: str, timeout_s: float) -> Ended | None:
        """The job once it has ended; None when it has not after `timeout_s`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while (ended := self._recent.get(job_id)) is None:
            left = deadline - loop.time()
            if left <= 0:
                return None
            waiter: asyncio.Future[Ended] = loop.create_future()
            self._waiters.setdefault(job_id, set()).add(waiter)
            try:
                done, _ = await asyncio.wait({waiter}, timeout=min(left, REREAD_S))
            finally:
                self._forget(job_id, waiter)
            if done:
                return waiter.result()
            await self._reread(job_id)
        return ended

    async def follow(self, signals: Signals) -> None:
        """Turn the store's signals into announcements, for as long as it speaks."""
        async for job_id in signals.ended():
            if job_id in self._waiters:
                await self._reread(job_id)

    async def _reread(self, job_id: str) -> None:
        try:
            job = await self._ledger.job(job_id)
        except LedgerUnavailable:
            return
        if job is not None and job.ended:
            self.announce(job)

    def _forget(self, job_id: str, waiter: asyncio.Future[Ended]) -> None:
        waiters = self._waiters.get(job_id)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[job_id]


def _recorded_s(job: Job) -> float:
    if job.dispatched_ms is None or job.ended_ms is None:
        return 0.0
    return max(job.ended_ms - job.dispatched_ms, 0) / 1000
