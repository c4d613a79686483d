"""Writing a job's progress and end into the ledger, however long the ledger is away.

When the store does not answer, a picture is delivered first and settled later: the settlement waits
in the outbox on disk until some process of this machine has delivered it to the store (decision
18). A job is settled when the provider made its images; downloads that still run follow.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from app.domain.charging import compute_outcome
from app.domain.errors import BillingEvidence, LedgerUnavailable, StoreUnavailable, TaskNotFound
from app.domain.images import Picture
from app.domain.job import (
    Job,
    JobPart,
    JobState,
    Outcome,
    PendingImage,
    picture_stem,
)
from app.domain.journal import Outbox, OutboxMessage, OutboxOutcome, OutboxPart
from app.domain.ledger import CollectionReport, CollectionResult, Settlement
from app.domain.ports import Ledger, MetricsRecorder, ResultCache
from app.service.background import BackgroundTasks
from app.service.lease import LEASE_MS
from app.service.log_context import job_log_context
from app.service.upstreams import Upstreams
from app.service.wait import JobWaiters

MIN_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
REJECTED_RETRY_S = 60.0
DELIVERED_DUE_MS = 500
"""How soon the poller looks at a part that came out of the outbox."""
HELD_LEASE_MS = 120_000
"""The lease of pending images that are in one process's memory only: no other can download them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettler:
    ledger: Ledger
    cache: ResultCache
    upstreams: Upstreams
    waiters: JobWaiters
    outbox: Outbox
    recorder: MetricsRecorder
    background: BackgroundTasks
    resolve_after_s: float
    recheck_s: float = 3
    """How soon an ambiguous job is looked at again while its task can be asked for."""
    retry_at: dict[str, float] = field(default_factory=dict)
    """Outbox messages that the store failed on -> when to try again (this process's clock)."""

    async def settle_parts(
        self, job: Job, parts: Sequence[JobPart], upstream_s: float | None = None
    ) -> Job | None:
        """Settle a job all of whose parts have ended, and tell whoever waits; see `settle`."""
        return await self.settle(job, compute_outcome(parts), upstream_s, parts)

    async def settle(
        self,
        job: Job,
        outcome: Outcome,
        upstream_s: float | None = None,
        parts: Sequence[JobPart] = (),
    ) -> Job | None:
        """The job as the store has it; None when the settlement waits in the outbox."""
        held = any(not i.url and parts and not parts[i.part].upstream_id for i in outcome.pending)
        collect_ms = HELD_LEASE_MS if held else LEASE_MS
        settlement = None
        self.waiters.begin_ending(job.id)
        try:
            try:
                settlement = await self._settle_once(job.id, outcome, collect_ms, job)
            except LedgerUnavailable:
                self.recorder.settlement_lost()
                await self.enqueue(OutboxOutcome(job.id, outcome))
            settled = None if settlement is None else settlement.job
            self.waiters.notify(settled or job.after(outcome), upstream_s)
        finally:
            self.waiters.end_ending(job.id)
        if settlement is not None:
            await self._follow_up(settlement)
        return settled

    def announce_unsaved(self, job: Job, parts: Sequence[JobPart]) -> None:
        """Tell whoever waits here how the job ended, although the store cannot be told now."""
        if parts:
            self.waiters.notify(job.after(compute_outcome(parts)))

    async def record_collection(self, job_id: str, report: CollectionReport) -> CollectionResult:
        """Record what became of pending images, and tell whoever waits.

        Raises `LedgerUnavailable`, `TaskNotFound`.
        """
        done = await self.ledger.record_collection(job_id, report)
        self.recorder.record_collection(done)
        if done.ended or done.pictures or report.error:
            self.waiters.notify(done.job)
        if done.ended or done.pictures:
            await self._fill_cache(done.job)
        return done

    async def release_slot(self, job: Job) -> None:
        """Free the job's slots at the provider. If that fails, `SlotReclaimer` frees them later."""
        with suppress(StoreUnavailable):
            await self.upstreams.of(job.provider).limiter.release(job.id)

    async def record_part(self, job_id: str, part: int, *, due_ms: int, **what: Any) -> bool:
        """Record a part's ids or `result`, now or when the store is back; false when the id belongs
        to another job."""
        try:
            return await self.ledger.record_part(job_id, part, due_ms=due_ms, **what)
        except LedgerUnavailable:
            await self.enqueue(OutboxPart(job_id, part, **what))
            return True

    async def deliver(self, message: OutboxMessage) -> None:
        """Deliver one outbox message to the store. Raises `LedgerUnavailable`."""
        if isinstance(message, OutboxOutcome):
            settlement = await self._settle_once(message.job_id, message.outcome)
            if settlement is not None:
                await self._follow_up(settlement)
                self.waiters.notify(settlement.job)
                await self._report_missing_pictures(settlement.job, message.outcome)
        else:
            with suppress(TaskNotFound):
                await self.ledger.record_part(
                    message.job_id,
                    message.part,
                    upstream_id=message.upstream_id,
                    request_id=message.request_id,
                    result=message.result,
                    due_ms=DELIVERED_DUE_MS,
                )
        await self.outbox.ack(message)

    async def _report_missing_pictures(self, ended: Job, outcome: Outcome) -> None:
        """Report pictures that the job's record does not have: its settlement was written and the
        reply was lost, and the outcome in the outbox has more pictures than that one."""
        pictures = tuple(_missing_pictures(ended, outcome))
        if pictures:
            report = CollectionReport(pictures=pictures, due_ms=LEASE_MS)
            with suppress(TaskNotFound):
                await self.record_collection(ended.id, report)

    async def deliver_all(self) -> int:
        """Deliver the outbox of this machine's processes; how many messages are left in it.

        A message that the ledger rejects holds up no other: an invalid one is set aside, and one
        that fails otherwise is tried again later.
        """
        messages = await self.outbox.pending()
        for gone in self.retry_at.keys() - {message.name for message in messages}:
            del self.retry_at[gone]
        left = 0
        for tried, message in enumerate(messages):
            if time.monotonic() < self.retry_at.get(message.name, 0.0):
                left += 1
                continue
            try:
                with job_log_context(message.job_id):
                    left += await self._deliver_one(message)
            except LedgerUnavailable:
                return left + len(messages) - tried
        return left

    async def _deliver_one(self, message: OutboxMessage) -> int:
        """How many messages that leaves: 1 when it must be tried again. Raises
        `LedgerUnavailable`."""
        try:
            await self.deliver(message)
        except LedgerUnavailable:
            raise
        except ValueError as error:
            await self.outbox.dead_letter(message, str(error))
        except Exception as error:  # noqa: BLE001 - logged; it must not hold up the others
            self.retry_at[message.name] = time.monotonic() + REJECTED_RETRY_S
            self.recorder.outbox_delivery_failed(message.name, error)
            return 1
        else:
            self.retry_at.pop(message.name, None)
        return 0

    async def enqueue(self, message: OutboxMessage) -> None:
        """Put a message into the outbox, to be delivered when the store is back."""
        with job_log_context(message.job_id):
            if not await self.outbox.enqueue(message):
                # The disk takes nothing either, so this process must live until the store is back.
                self.background.launch(self._deliver_until_done(message), f"deliver {message.name}")

    async def _deliver_until_done(self, message: OutboxMessage) -> None:
        """Deliver a message of which memory holds the only copy: until the store has it, or it is
        set aside as invalid."""
        pause = MIN_PAUSE_S
        while True:
            with suppress(LedgerUnavailable):
                if not await self._deliver_one(message):
                    return
                pause = MAX_PAUSE_S  # the store is there, and its script failed on this message
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_S)

    async def _settle_once(
        self, job_id: str, outcome: Outcome, collect_ms: int = LEASE_MS, known: Job | None = None
    ) -> Settlement | None:
        """None when the ledger does not know the job (any more)."""
        try:
            settlement = await self.ledger.settle(
                job_id,
                outcome,
                hold_ms=round(self.resolve_after_s * 1000),
                recheck_ms=round(self.recheck_s * 1000),
                collect_ms=collect_ms,
                known=known,
            )
        except TaskNotFound:
            if outcome.proof is not BillingEvidence.NEVER_SENT:
                self.recorder.settlement_lost()
            return None
        if settlement.first:
            self.recorder.settled(settlement.job, outcome)
        return settlement

    async def _follow_up(self, settlement: Settlement) -> None:
        """What no caller waits for. On one link to the store, the cache is filled before it answers
        anybody who asks after the job's end."""
        if settlement.first:
            await self._fill_cache(settlement.job)
        # Also when the job had ended before: the process that ended it may have died before this.
        await self.release_slot(settlement.job)

    async def _fill_cache(self, job: Job) -> None:
        """Keep only jobs with all their pictures. While none of a job's pictures is here, identical
        requests still join it."""
        if job.cache_variant is None or (job.state is JobState.SETTLED and not job.ended):
            return
        if job.state is JobState.SETTLED and job.is_complete:
            await self.cache.fill(job.cache_variant, job.id, job.pictures)
        else:
            await self.cache.evict(job.cache_variant, job.id)


def _missing_pictures(job: Job, outcome: Outcome) -> Iterator[tuple[PendingImage, Picture]]:
    """The outcome's pictures that the job does not have, each with its pending image."""
    known = {picture.name for picture in job.pictures}
    more = {p.name.partition(".")[0]: p for p in outcome.pictures if p.name not in known}
    for part, of in enumerate(job.parts if more else ()):
        for index in range(of.n):
            picture = more.get(picture_stem(job.id, part, index))
            if picture is not None:
                yield PendingImage(part, index, ""), picture
