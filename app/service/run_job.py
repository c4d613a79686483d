"""Running a job: queue, dispatch, collect, settle. It outlives the socket that asked for it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from app.domain.catalog import Model
from app.domain.errors import (
    BillingEvidence,
    GatewayError,
    GatewayOverloaded,
    LedgerUnavailable,
    RequestInterrupted,
    StoreUnavailable,
    UpstreamError,
)
from app.domain.images import GenerationRequest
from app.domain.job import Job, JobPart, JobState, Outcome, PartResult
from app.domain.journal import OutboxOutcome
from app.domain.ledger import CollectionTimings
from app.domain.ports import ImageProvider, Ledger, MetricsRecorder, UpstreamLimiter
from app.domain.upstream import TaskPending, UpstreamAnswer
from app.service.background import BackgroundTasks, job_task_name
from app.service.downloads import PartDownloads
from app.service.finish_job import JobFinisher
from app.service.lease import LEASE_MS, run_renewing
from app.service.log_context import job_log_context
from app.service.settle import JobSettler

SILENCE_MARGIN_S = 10.0
"""How long after the last possible answer a silent dispatch is given up."""
RENEW_RESERVATION_S = 4.0


@dataclass(frozen=True, slots=True)
class JobTimings:
    """Durations that rule a job, in seconds; `mode` is auto, async or sync."""

    mode: str = "auto"
    timeout_s: float = 180
    queue_s: float = 60
    poll_interval_s: float = 3
    deadline_s: float = 900
    moderation_charged: bool = False

    @property
    def collection(self) -> CollectionTimings:
        """Pauses between tries for a picture: 10 s at the usual interval, up to half an hour."""
        first_ms = round(min(10 / 3 * self.poll_interval_s, 10) * 1000)
        return CollectionTimings(first_ms=first_ms, max_ms=1_800_000, lease_ms=LEASE_MS)

    @property
    def missing_task_ms(self) -> int:
        """How long polls must say that a task is unknown before that is believed: 3 minutes at the
        usual interval. A lost task's picture may still be billed."""
        return round(min(60 * self.poll_interval_s, 180) * 1000)

    @property
    def empty_task_ms(self) -> int:
        """The same for a completed task without a picture: 2 minutes at the usual interval."""
        return round(min(40 * self.poll_interval_s, 120) * 1000)

    @property
    def silence_ms(self) -> int:
        """How long after its dispatch a part without answer or task id counts as silent."""
        return round((self.timeout_s + SILENCE_MARGIN_S) * 1000)

    @property
    def lease_ms(self) -> int:
        """How long the reservation of a process that died waits; one that lives renews it."""
        return round(SILENCE_MARGIN_S * 1000)

    def asynchronous(self, model: Model) -> bool:
        """Prefer the provider's tasks: their result survives the death of every socket."""
        if self.mode == "sync":
            return "sync" not in model.modes
        return "async" in model.modes


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJob:
    ledger: Ledger
    provider: ImageProvider
    upstream_limiter: UpstreamLimiter
    finisher: JobFinisher
    books: JobSettler
    recorder: MetricsRecorder
    background: BackgroundTasks
    pace: JobTimings

    def part_sizes(self, model: Model, n: int) -> tuple[int, ...]:
        """More images than one upstream call may carry are fanned out inside one job."""
        full, rest = divmod(n, model.max_n)
        return (model.max_n,) * full + ((rest,) if rest else ())

    def launch(self, job: Job, request: GenerationRequest, model: Model) -> None:
        with job_log_context(job.id, job.request_id):
            self.background.launch(self._run(job, request, model), job_task_name(job.id))

    async def release_unsent(self, job: Job, error: GatewayError) -> None:
        """End a job of which no byte was sent."""
        await self.books.settle(job, _never_sent(error))

    async def void_unconfirmed(self, job_id: str, error: LedgerUnavailable) -> None:
        """The store may have opened this job without our hearing of it: end it when it is back, so
        that its repeat is a new attempt and waits for nobody."""
        if error.asked:
            await self.books.enqueue(OutboxOutcome(job_id, _never_sent(error)))

    async def _run(self, job: Job, request: GenerationRequest, model: Model) -> None:
        admitted = time.perf_counter()
        try:
            permit = self.upstream_limiter.acquire(job.id, len(job.parts), self.pace.queue_s)
            kept = partial(self.ledger.record_part, job.id, 0, due_ms=self.pace.lease_ms)
            starts = await run_renewing(permit, kept, RENEW_RESERVATION_S)
            silence_ms = self.pace.silence_ms + round(1000 * starts[-1])
            dispatched = await self.ledger.dispatch(job.id, silence_ms)
        except (GatewayOverloaded, UpstreamError, StoreUnavailable) as error:
            # Whatever the store wrote down, no byte was sent.
            await self.books.settle(job, _never_sent(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever broke, nothing holds the quota
            self.background.report_failure(job_task_name(job.id), error)
            await self.books.settle(job, _never_sent(RequestInterrupted()))
            return
        if not dispatched:
            await self.books.release_slot(job.id)
            return
        self.recorder.queued(time.perf_counter() - admitted)
        await self._dispatch(job, request, self.pace.asynchronous(model), starts)

    async def _dispatch(
        self, job: Job, request: GenerationRequest, asynchronous: bool, starts: Sequence[float]
    ) -> None:
        started = time.perf_counter()

        coming: dict[int, PartDownloads] = {}

        async def dispatch(index: int, part: JobPart) -> JobPart:
            if starts[index]:
                await asyncio.sleep(starts[index])
            answer = await self._call(job, index, replace(request, n=part.n), asynchronous)
            if isinstance(answer, JobPart):
                return answer
            if isinstance(answer, TaskPending):
                return await self._accepted(job, index, answer)
            coming[index] = await self.finisher.start(job, index, answer.images)
            return await self._made(job, index, answer.request_id, coming[index])

        calls = [dispatch(index, part) for index, part in enumerate(job.parts)]
        parts = await asyncio.gather(*calls) if len(calls) > 1 else [await calls[0]]
        upstream_s = time.perf_counter() - started
        if all(part.result is not None for part in parts):
            await self.finisher.settle_parts(job, parts, coming, upstream_s)
            return
        await self._hand_over(job, parts)
        for downloads in coming.values():
            self.finisher.report_later(job, downloads)

    async def _call(
        self, job: Job, index: int, request: GenerationRequest, asynchronous: bool
    ) -> UpstreamAnswer | JobPart:
        """The one call of a part: the provider's answer, or the part as it failed."""
        part = job.parts[index]
        started = time.perf_counter()
        operation = "submit" if asynchronous else "generate"
        try:
            answer = await self.provider.dispatch(request, asynchronous=asynchronous)
        except UpstreamError as error:
            self.recorder.upstream(operation, error.reason, time.perf_counter() - started)
            if error.concerns_our_account:
                await self.upstream_limiter.record_failure(error.reason, error.retry_after_s)
            failure = failed(part, error, self.pace)
            return replace(part, request_id=error.request_id, result=failure)
        except Exception as error:  # noqa: BLE001 - the job ends with what is known: it may be sent
            self.background.report_failure(job_task_name(job.id), error)
            return replace(part, result=failed(part, _unforeseen(), self.pace))
        took_s = time.perf_counter() - started
        self.recorder.upstream(operation, "ok", took_s)
        await self.upstream_limiter.record_success(took_s)
        return answer

    async def _made(
        self, job: Job, index: int, request_id: str | None, downloads: PartDownloads
    ) -> JobPart:
        """A part whose images are made. Where others are still out, it is written down with the
        links of what is not here yet, so that no death loses them."""
        part = replace(job.parts[index], request_id=request_id, result=downloads.result())
        if len(job.parts) > 1:
            await self.books.record_part(
                job.id,
                index,
                request_id=request_id,
                result=part.result,
                due_ms=self.pace.silence_ms,
            )
        return part

    async def _accepted(self, job: Job, index: int, answer: TaskPending) -> JobPart:
        """The provider took a part: from here on its result survives this process."""
        upstream_id, request_id = answer.upstream_id, answer.request_id
        part = replace(job.parts[index], upstream_id=upstream_id, request_id=request_id)
        ours = await self.books.record_part(
            job.id,
            index,
            upstream_id=upstream_id,
            request_id=request_id,
            due_ms=self._first_poll_ms,
        )
        if ours:
            return part
        # The provider gave one id twice: whose picture it is cannot be known.
        error = UpstreamError(
            "upstream_ambiguous",
            "The provider answered with a task that belongs to another request.",
            proof=BillingEvidence.UNKNOWN,
        )
        return replace(part, upstream_id=None, result=failed(part, error, self.pace))

    async def _hand_over(self, job: Job, parts: Sequence[JobPart]) -> None:
        """Some parts run at the provider: write down those that ended; pollers do the rest."""
        for index, part in enumerate(parts):
            if part.result is not None:
                await self.books.record_part(
                    job.id,
                    index,
                    request_id=part.request_id,
                    result=part.result,
                    due_ms=self._first_poll_ms,
                )

    @property
    def _first_poll_ms(self) -> int:
        return round(self.pace.poll_interval_s * 1000)


def failed(part: JobPart, error: UpstreamError, pace: JobTimings) -> PartResult:
    """A part's failure; a refusal is charged where the provider names a fee, and one of its
    moderation also if the operator says that the provider does."""
    refused = error.reason == "content_policy_violation" and error.proof is BillingEvidence.REFUSED
    billed = refused and pace.moderation_charged if error.billed is None else error.billed
    if billed:
        return PartResult(images=part.n, failure=replace(error.note, charged=True))
    return PartResult(failure=error.note, proof=error.proof)


def _unforeseen() -> UpstreamError:
    return UpstreamError(
        "upstream_ambiguous",
        "The call to the provider broke here; the image may have been made.",
        proof=BillingEvidence.UNKNOWN,
    )


def _never_sent(error: GatewayError) -> Outcome:
    return Outcome(JobState.RELEASED, proof=BillingEvidence.NEVER_SENT, failure=error.note)
