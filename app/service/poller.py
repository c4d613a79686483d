"""The loop that goes on with every open job: it polls tasks, ends lapsed reservations, and decides
jobs that nobody knows the end of.

Every open job has exactly one due time in the ledger. Any process may claim a due job and then
owns it for one short lease. The job of a process that died becomes due at some moment.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from app.domain.charging import assume_billed, compute_outcome
from app.domain.copies import copy_with
from app.domain.errors import BillingEvidence, LedgerUnavailable, RequestInterrupted, UpstreamError
from app.domain.job import Job, JobPart, JobState, Outcome, PollAnomalyKind, TaskStatus
from app.domain.ledger import JobClaim
from app.domain.ports import Ledger, MetricsRecorder
from app.domain.upstream import PollInconclusive, TaskImages
from app.service.background import BackgroundTasks
from app.service.due_jobs import DueJobs
from app.service.finish_job import JobFinisher
from app.service.lease import LEASE_MS, LeaseKeeper
from app.service.log_context import job_log_context
from app.service.poll_result import (
    PollResult,
    anomalies,
    count_anomaly,
    downloads_by_part,
    give_up,
    time_out,
)
from app.service.room import Room
from app.service.run_job import failed
from app.service.settle import JobSettler
from app.service.timings import JobTimings
from app.service.upstreams import Upstreams

MAX_CONCURRENT_JOBS = 256
"""How many jobs are worked on at once here, and the most that one script claims."""
MAX_BATCH = 64
CHECK_INTERVAL_S = 0.25
MAX_SLOWDOWN = 8
"""After polls that speak against a task the pause doubles, up to this many intervals."""
RECHECK_AGE_SHARE = 0.5
MAX_RECHECK_MS = 60_000
"""An ambiguous job is looked at again after half of the time it has been so, at least every
minute."""
EARLY_MS = 30_000
LATE_SLOWDOWN = 4 / 3
"""A result is to be seen within 5 s of its completion, so every interval is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poller:
    ledger: Ledger
    upstreams: Upstreams
    due: DueJobs
    finisher: JobFinisher
    settler: JobSettler
    recorder: MetricsRecorder
    background: BackgroundTasks
    timings: JobTimings
    leases: LeaseKeeper
    room: Room = field(default_factory=lambda: Room(MAX_CONCURRENT_JOBS))

    async def run(self) -> None:
        """Claim due jobs and take one step of each, until cancelled or until a drain leaves them to
        other processes."""
        look_again_s = min(CHECK_INTERVAL_S, self.timings.poll_interval_s / 4)
        while not self.background.is_handing_over:
            # A job is claimed only when there is room for it here.
            room = min(await self.room.wait(), MAX_BATCH)
            with suppress(LedgerUnavailable):
                for claim, parts in await self.due.claim(room):
                    self._launch(claim, parts)
                    room -= 1
            if room > 0:
                await asyncio.sleep(look_again_s)

    def _launch(self, claim: JobClaim, parts: list[int] | None) -> None:
        self.room.take()
        with job_log_context(claim.job.id, claim.job.request_id):
            self.background.launch(self._step(claim, parts), f"step {claim.job.id}")

    async def _step(self, claim: JobClaim, parts: list[int] | None) -> None:
        """Go on with one due job: poll these parts, where there is anything to poll. Its lease is
        renewed for as long as that takes; if it fails, the lease lapses and another process takes
        the job."""
        self.leases.hold(claim)
        self.recorder.polled(claim.late_ms / 1000)
        job = claim.job
        try:
            if job.state is JobState.RESERVED:
                await self.settler.settle(job, _lapsed())
            elif parts is not None and not parts:
                await self._reschedule(claim, [])
            elif parts or self._may_be_in_flight(claim):
                await self._poll(claim, parts or [])
            elif job.state is JobState.UNKNOWN:
                await self._resolve(claim, [PollResult(part) for part in job.parts])
            else:
                await self.settler.settle_parts(job, [time_out(part) for part in job.parts])
        except LedgerUnavailable:
            pass
        finally:
            self.leases.let_go(claim)
            self.room.give_back()

    def _may_be_in_flight(self, claim: JobClaim) -> bool:
        """Whether another call of the same job may still run in some process. The job may be due
        because one call has a task to poll, while another has not been answered yet."""
        job = claim.job
        several = len(job.parts) > 1 and job.state is JobState.DISPATCHED
        return several and claim.age_ms <= self.upstreams.of(job.provider).timings.silence_ms

    async def _assume_billed(self, job: Job, seen: Sequence[PollResult]) -> None:
        """The hold is over: pictures that were made are delivered, and what nobody knows is
        presumed billed."""
        if any(look.part.result is not None and look.part.result.images for look in seen):
            await self.finisher.settle_parts(
                job, [give_up(look) for look in seen], downloads_by_part(seen)
            )
            return
        outcome = Outcome(job.state, failure=job.failure, calls=job.calls)
        await self.settler.settle(job, assume_billed(outcome, job.n))

    async def _resolve(self, claim: JobClaim, seen: Sequence[PollResult]) -> None:
        """Late evidence decides an ambiguous job. Without any it is looked at again and again, and
        presumed billed when its hold is over."""
        job, parts = claim.job, [look.part for look in seen]
        ended = all(part.result is not None for part in parts)
        if ended and compute_outcome(parts).state is not JobState.UNKNOWN:
            await self.finisher.settle_parts(job, parts, downloads_by_part(seen))
            return
        since_ms = claim.now_ms if job.ended_ms is None else job.ended_ms
        age_ms = claim.now_ms - since_ms
        left_ms = round(self.settler.resolve_after_s * 1000) - age_ms
        if left_ms <= 0:
            await self._assume_billed(job, seen)
            return
        self._report_later(job, seen)
        pause_ms = min(max(age_ms * RECHECK_AGE_SHARE, self._interval_ms(claim)), MAX_RECHECK_MS)
        await self.ledger.reschedule(claim, due_ms=round(min(pause_ms, left_ms)))

    async def _poll(self, claim: JobClaim, chosen: list[int]) -> None:
        job = claim.job
        if len(job.parts) == 1 and chosen:
            seen = [await self._ask(claim, 0)]
        else:
            looks = (self._poll_part(claim, i, poll=i in chosen) for i in range(len(job.parts)))
            seen = await asyncio.gather(*looks)
        if job.state is JobState.UNKNOWN:
            await self._resolve(claim, seen)
            return
        ended = all(look.part.result is not None for look in seen)
        if not ended and claim.age_ms <= self.timings.deadline_s * 1000:
            self._report_later(job, seen)
            await self._reschedule(claim, seen)
            return
        await self.finisher.settle_parts(
            job, [give_up(look) for look in seen], downloads_by_part(seen)
        )

    def _report_later(self, job: Job, seen: Sequence[PollResult]) -> None:
        for look in seen:
            if look.downloads is not None:
                self.finisher.report_later(job, look.downloads)

    async def _poll_part(self, claim: JobClaim, index: int, *, poll: bool) -> PollResult:
        part = claim.job.parts[index]
        if part.upstream_id is None and part.result is None:
            return PollResult(part if self._may_be_in_flight(claim) else time_out(part))
        return await self._ask(claim, index) if poll else PollResult(part)

    async def _ask(self, claim: JobClaim, index: int) -> PollResult:
        part, upstream = claim.job.parts[index], self.upstreams.of(claim.job.provider)
        if part.upstream_id is None:
            return PollResult(part)
        started = time.perf_counter()
        try:
            answer = await upstream.provider.poll(part.upstream_id)
        except PollInconclusive as trouble:
            self.recorder.upstream("poll", "troubled", time.perf_counter() - started)
            if trouble.throttled:
                await upstream.limiter.record_failure(
                    "upstream_rate_limited", trouble.retry_after_s
                )
            return self._inconclusive(claim, part, trouble)
        except UpstreamError as error:
            self.recorder.upstream("poll", error.reason, time.perf_counter() - started)
            if error.reason == "empty_result":
                return count_anomaly(claim, part, PollAnomalyKind.EMPTY, self.timings)
            return PollResult(replace(part, result=failed(part, error, self.timings)))
        except Exception as error:  # noqa: BLE001 - a bug of ours says nothing about the task
            self.background.report_failure(f"poll {claim.job.id}", error)
            return PollResult(part)
        self.recorder.upstream("poll", "ok", time.perf_counter() - started)
        if isinstance(answer, TaskImages):
            return await self._made(claim, index, answer)
        return PollResult(part, running=answer, is_cleared=part.anomaly is not None)

    def _inconclusive(
        self, claim: JobClaim, part: JobPart, trouble: PollInconclusive
    ) -> PollResult:
        if trouble.missing or trouble.empty:
            kind = PollAnomalyKind.MISSING if trouble.missing else PollAnomalyKind.EMPTY
            return count_anomaly(claim, part, kind, self.timings)
        return PollResult(part, retry_after_s=trouble.retry_after_s)

    async def _made(self, claim: JobClaim, index: int, answer: TaskImages) -> PollResult:
        """Record the images that the provider shows, as it may not show them again."""
        job, part = claim.job, claim.job.parts[index]
        coming = await self.finisher.start(job, index, answer.images)
        result = coming.result()
        if len(job.parts) > 1:
            await self.settler.record_part(job.id, index, result=result, due_ms=LEASE_MS)
        return PollResult(copy_with(part, result=result), downloads=coming)

    async def _reschedule(self, claim: JobClaim, seen: Sequence[PollResult]) -> None:
        status, progress, asked_s, against = None, None, 0.0, 1
        for look in seen:
            if (running := look.running) is not None:
                status = running.status if running.status is TaskStatus.PROCESSING else status
                if running.progress is not None:
                    progress = min(running.progress, 100 if progress is None else progress)
            asked_s = max(asked_s, look.retry_after_s or 0)
            against = max(against, look.anomaly.polls if look.anomaly else 1)
        pause_ms = self._interval_ms(claim) * min(2 ** (against - 1), MAX_SLOWDOWN)
        await self.ledger.reschedule(
            claim,
            due_ms=max(pause_ms, round(asked_s * 1000)),
            status=status,
            progress=progress,
            anomalies=anomalies(seen),
        )

    def _interval_ms(self, claim: JobClaim) -> int:
        """Usually 3 s, 4 s after half a minute, and up to a fifth earlier at random."""
        slow = LATE_SLOWDOWN if claim.age_ms > EARLY_MS else 1.0
        return round(self.timings.poll_interval_s * slow * random.uniform(0.8, 1.0) * 1000)  # noqa: S311


def _lapsed() -> Outcome:
    return Outcome(
        JobState.RELEASED, proof=BillingEvidence.NEVER_SENT, failure=RequestInterrupted().note
    )
