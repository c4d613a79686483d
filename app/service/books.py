"""Writing a job's progress and end into the ledger, however long the ledger is away.

A picture that was paid for is delivered first and settled as soon as the store answers again. What
the store did not take is owed: kept on disk until some process here could tell it. What the
provider made is settled when it made it; pictures that are still on their way follow.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from app.domain.errors import LedgerUnavailable, Proof, TaskNotFound
from app.domain.images import Picture
from app.domain.job import (
    Job,
    JobState,
    Outcome,
    Part,
    PendingImage,
    TaskStatus,
    picture_stem,
)
from app.domain.journal import Debt, Debts, OwedEnd, OwedPart
from app.domain.ledger import Collected, CollectReport
from app.domain.ports import Governor, Ledger, Recorder, ResultCache
from app.domain.settlement import conclude
from app.service.about import about_job
from app.service.completions import Completions
from app.service.drain import Drain
from app.service.lease import LEASE_MS

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
REFUSED_AGAIN_S = 60.0
PAID_DUE_MS = 500
"""How soon a part is looked at once the store was told of it."""
HELD_LEASE_MS = 120_000
"""The lease of pending images that only one process holds in memory: no other can fetch them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    ledger: Ledger
    cache: ResultCache
    governor: Governor
    completions: Completions
    debts: Debts
    recorder: Recorder
    drain: Drain
    resolve_after_s: float
    look_s: float = 3
    """How soon an ambiguous job is looked at again while its task can be asked for."""
    put_off: dict[str, float] = field(default_factory=dict)
    """Debts that the store failed on, by when to try them again (this process's clock)."""

    async def end(
        self, job: Job, parts: Sequence[Part], upstream_s: float | None = None
    ) -> Job | None:
        """Settle a job all of whose parts have ended, and tell whoever waits; see `settle`."""
        return await self.settle(job, conclude(parts), upstream_s, parts)

    async def settle(
        self,
        job: Job,
        outcome: Outcome,
        upstream_s: float | None = None,
        parts: Sequence[Part] = (),
    ) -> Job | None:
        """The job as the store has it; None when that is still owed to it."""
        held = any(not i.url and parts and not parts[i.part].upstream_id for i in outcome.pending)
        try:
            settled = await self._settle_once(job.id, outcome, HELD_LEASE_MS if held else LEASE_MS)
        except LedgerUnavailable:
            self.recorder.settlement_lost()
            await self.owe(OwedEnd(job.id, outcome))
            settled = None
        self.completions.announce(settled or _as_ended(job, outcome), upstream_s)
        return settled

    def tell(self, job: Job, parts: Sequence[Part]) -> None:
        """Tell whoever waits here what the store cannot be told now."""
        if parts:
            self.completions.announce(_as_ended(job, conclude(parts)))

    async def collected(self, job_id: str, report: CollectReport) -> Collected:
        """Write down what became of pending images, and tell whoever waits.

        Raises `LedgerUnavailable`, `TaskNotFound`.
        """
        done = await self.ledger.collected(job_id, report)
        self.recorder.collected(done)
        if done.ended or done.pictures or report.error:
            self.completions.announce(done.job)
        if done.ended or done.pictures:
            await self._fill_cache(done.job)
        return done

    async def let_go(self, job_id: str) -> None:
        """Free the job's place at the provider; a place nobody frees lapses."""
        with suppress(LedgerUnavailable):
            await self.governor.release(job_id)

    async def record(self, job_id: str, part: int, *, due_ms: int, **what: Any) -> bool:
        """Write down a part's ids or `result`, now or when the store is back; false when
        the id belongs to another job."""
        try:
            return await self.ledger.record(job_id, part, due_ms=due_ms, **what)
        except LedgerUnavailable:
            await self.owe(OwedPart(job_id, part, **what))
            return True

    async def pay(self, debt: Debt) -> None:
        """Tell the store what it could not be told. Raises `LedgerUnavailable`."""
        if isinstance(debt, OwedEnd):
            ended = await self._settle_once(debt.job_id, debt.outcome)
            if ended is not None:
                self.completions.announce(ended)
                await self._add(ended, debt.outcome)
        else:
            with suppress(TaskNotFound):
                await self.ledger.record(
                    debt.job_id,
                    debt.part,
                    upstream_id=debt.upstream_id,
                    request_id=debt.request_id,
                    result=debt.result,
                    due_ms=PAID_DUE_MS,
                )
        await self.debts.paid(debt)

    async def _add(self, ended: Job, outcome: Outcome) -> None:
        """Pictures that an earlier settlement still waits for or gave up: its reply was lost, and
        what is owed says more than it did."""
        pictures = tuple(_not_there(ended, outcome))
        if pictures:
            report = CollectReport(pictures=pictures, due_ms=LEASE_MS)
            with suppress(TaskNotFound):
                await self.collected(ended.id, report)

    async def pay_all(self) -> int:
        """Pay what this machine's processes owe; how much is still owed.

        One that the books refuse keeps nobody else waiting: an unlawful one is set aside, one that
        fails otherwise is tried again later.
        """
        owed = await self.debts.open()
        for paid_elsewhere in self.put_off.keys() - {debt.name for debt in owed}:
            del self.put_off[paid_elsewhere]
        left = 0
        for tried, debt in enumerate(owed):
            if time.monotonic() < self.put_off.get(debt.name, 0.0):
                left += 1
                continue
            try:
                with about_job(debt.job_id):
                    left += await self._pay_one(debt)
            except LedgerUnavailable:
                return left + len(owed) - tried
        return left

    async def _pay_one(self, debt: Debt) -> int:
        """How many debts that leaves: one that cannot be paid now. Raises `LedgerUnavailable`."""
        try:
            await self.pay(debt)
        except LedgerUnavailable:
            raise
        except ValueError as error:
            await self.debts.set_aside(debt, str(error))
        except Exception as error:  # noqa: BLE001  told, and no reason to owe the others
            self.put_off[debt.name] = time.monotonic() + REFUSED_AGAIN_S
            self.recorder.payment_failed(debt.name, error)
            return 1
        else:
            self.put_off.pop(debt.name, None)
        return 0

    async def owe(self, debt: Debt) -> None:
        """Tell the store when it is back."""
        with about_job(debt.job_id):
            if not await self.debts.owe(debt):
                # No disk either: then this process must live until the store is back.
                self.drain.launch(self._persist(debt), f"pay {debt.name}")

    async def _persist(self, debt: Debt) -> None:
        """Pay the only copy of a debt: until it is paid, or set aside because the books refuse."""
        pause = FIRST_PAUSE_S
        while True:
            with suppress(LedgerUnavailable):
                if not await self._pay_one(debt):
                    return
                pause = LONGEST_PAUSE_S  # a script of ours broke on it
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    async def _settle_once(
        self, job_id: str, outcome: Outcome, collect_ms: int = LEASE_MS
    ) -> Job | None:
        """The job as it ended in the books; None when the store does not know it (any more)."""
        try:
            settlement = await self.ledger.settle(
                job_id,
                outcome,
                hold_ms=round(self.resolve_after_s * 1000),
                look_ms=round(self.look_s * 1000),
                collect_ms=collect_ms,
            )
        except TaskNotFound:
            if outcome.proof is not Proof.NEVER_SENT:
                self.recorder.settlement_lost()
            return None
        if settlement.first:
            self.recorder.settled(settlement.job, outcome)
            await self._fill_cache(settlement.job)
        # Also when it had ended before: whoever ended it may not have come so far.
        await self.let_go(job_id)
        return settlement.job

    async def _fill_cache(self, job: Job) -> None:
        """Only complete successes are kept (design, section 5); identical requests join a job
        none of whose pictures are here yet."""
        if job.slot is None or (job.state is JobState.SETTLED and not job.ended):
            return
        if job.state is JobState.SETTLED and job.whole:
            await self.cache.keep(job.slot, job.id, job.pictures)
        else:
            await self.cache.forget(job.slot, job.id)


def _not_there(job: Job, outcome: Outcome) -> Iterator[tuple[PendingImage, Picture]]:
    """The outcome's pictures that the job has not, each with its place."""
    known = {picture.name for picture in job.pictures}
    more = {p.name.partition(".")[0]: p for p in outcome.pictures if p.name not in known}
    for part, of in enumerate(job.parts if more else ()):
        for index in range(of.n):
            picture = more.get(picture_stem(job.id, part, index))
            if picture is not None:
                yield PendingImage(part, index, ""), picture


def _as_ended(job: Job, outcome: Outcome) -> Job:
    return replace(
        job,
        state=outcome.state,
        status=outcome.status,
        progress=100 if outcome.status is TaskStatus.COMPLETED else job.progress,
        pictures=outcome.pictures,
        billed=outcome.billed,
        failure=outcome.failure,
        pending=outcome.pending,
    )
