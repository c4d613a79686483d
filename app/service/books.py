"""Writing a job's progress and end into the ledger, however long the ledger is away.

A picture that was paid for is delivered first and settled as soon as the store answers again;
until then the job stays DISPATCHED there, which other processes know how to resolve.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from app.domain.errors import LedgerUnavailable, TaskNotFound
from app.domain.job import Job, JobState, Outcome, Part
from app.domain.ports import Governor, Ledger, Recorder, ResultCache
from app.domain.settlement import conclude
from app.service.completions import Completions
from app.service.drain import Drain

T = TypeVar("T")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    ledger: Ledger
    cache: ResultCache
    governor: Governor
    completions: Completions
    recorder: Recorder
    drain: Drain
    resolve_after_s: float

    async def end(self, job: Job, parts: Sequence[Part], upstream_s: float | None = None) -> None:
        """Settle a job all of whose parts have ended, and tell whoever waits."""
        await self.settle(job, conclude(parts), upstream_s)

    async def settle(self, job: Job, outcome: Outcome, upstream_s: float | None = None) -> None:
        try:
            await self._settle_once(job, outcome, upstream_s)
        except LedgerUnavailable:
            self.recorder.settlement_lost()
            self.completions.announce(_as_ended(job, outcome), upstream_s)
            self.drain.launch(self._settle_later(job, outcome), f"settle {job.id}")

    async def let_go(self, job_id: str) -> None:
        """Free the job's place at the provider; a place nobody frees lapses."""
        with suppress(LedgerUnavailable):
            await self.governor.release(job_id)

    async def persist(self, write: Callable[[], Awaitable[T]]) -> T:
        """Repeat a repeat-safe write until the store takes it."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                return await write()
            except LedgerUnavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _settle_later(self, job: Job, outcome: Outcome) -> None:
        await self.persist(lambda: self._settle_once(job, outcome, None))

    async def _settle_once(self, job: Job, outcome: Outcome, upstream_s: float | None) -> None:
        try:
            settlement = await self.ledger.settle(
                job.id, outcome, hold_ms=round(self.resolve_after_s * 1000)
            )
        except TaskNotFound:
            # The store lost the job: the caller still gets its picture.
            self.recorder.settlement_lost()
            self.completions.announce(_as_ended(job, outcome), upstream_s)
            return
        if settlement.first:
            self.recorder.settled(settlement.job, outcome)
            await self._fill_cache(settlement.job, outcome)
            await self.let_go(job.id)
        self.completions.announce(settlement.job, upstream_s)

    async def _fill_cache(self, job: Job, outcome: Outcome) -> None:
        """Only complete successes are kept (design, section 5)."""
        if job.slot is None:
            return
        if outcome.state is JobState.SETTLED and len(outcome.pictures) == job.n:
            await self.cache.keep(job.slot, job.id, outcome.pictures)
        else:
            await self.cache.forget(job.slot, job.id)


def _as_ended(job: Job, outcome: Outcome) -> Job:
    return replace(
        job,
        state=outcome.state,
        status=outcome.status,
        progress=100 if outcome.failure is None else job.progress,
        pictures=outcome.pictures,
        billed=outcome.billed,
        failure=outcome.failure,
    )
