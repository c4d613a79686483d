"""Running a job: permit, dispatch, download, settle. It goes on when the caller hangs up."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from app.domain.catalog import Model
from app.domain.copies import copy_with
from app.domain.errors import (
    BillingEvidence,
    GatewayError,
    GatewayOverloaded,
    LedgerUnavailable,
    StoreUnavailable,
    UpstreamError,
)
from app.domain.images import GenerationRequest
from app.domain.job import Job, JobPart, JobState, Outcome, PartResult
from app.domain.journal import OutboxOutcome
from app.domain.ledger import AdmissionRequest
from app.domain.ports import Ledger, MetricsRecorder
from app.domain.upstream import TaskPending, UpstreamAnswer
from app.service.background import BackgroundTasks, job_task_name
from app.service.downloads import PartDownloads
from app.service.finish_job import JobFinisher
from app.service.lease import run_renewing
from app.service.log_context import job_log_context
from app.service.settle import JobSettler
from app.service.timings import JobTimings
from app.service.upstreams import Upstreams

RENEW_RESERVATION_S = 4.0
FAILED_UNSENT = "The gateway failed before it sent this request; nothing was spent."


@dataclass(frozen=True, slots=True, kw_only=True)
class RunJob:
    ledger: Ledger
    upstreams: Upstreams
    finisher: JobFinisher
    settler: JobSettler
    recorder: MetricsRecorder
    background: BackgroundTasks
    timings: JobTimings

    def check_queue(self, admission: AdmissionRequest) -> None:
        """See `UpstreamLimiter.check_queue`."""
        limiter = self.upstreams.of(admission.provider).limiter
        limiter.check_queue(len(admission.part_sizes))

    def launch(self, job: Job, request: GenerationRequest, model: Model) -> None:
        with job_log_context(job.id, job.request_id):
            self.background.launch(self._run(job, request, model), job_task_name(job.id))

    async def release_unsent(self, job: Job, error: GatewayError) -> None:
        """End a job of which nothing was sent to the provider."""
        await self.settler.settle(job, _never_sent(error))

    async def void_unconfirmed(self, job_id: str, error: LedgerUnavailable) -> None:
        """The store may have opened this job and its reply was lost: end the job when the store is
        back, so that a repeat of the request opens its own."""
        if error.asked:
            await self.settler.enqueue(OutboxOutcome(job_id, _never_sent(error)))

    async def _run(self, job: Job, request: GenerationRequest, model: Model) -> None:
        """Wait for a permit of the provider's rate, record the dispatch, then send.

        Before the dispatch is recorded nothing was sent, so every failure releases the job.
        """
        admitted, upstream = time.perf_counter(), self.upstreams.of(job.provider)
        try:
            permit = upstream.limiter.acquire(job.id, len(job.parts), self.timings.queue_s)
            kept = partial(self.ledger.record_part, job.id, 0, due_ms=self.timings.lease_ms)
            starts = await run_renewing(permit, kept, RENEW_RESERVATION_S)
            del permit, kept  # not to be kept for as long as the provider takes
            silence_ms = upstream.timings.silence_ms + round(1000 * starts[-1])
            dispatched = await self.ledger.dispatch(job.id, silence_ms)
        except (GatewayOverloaded, UpstreamError, StoreUnavailable) as error:
            # Also when the store recorded the dispatch without our knowing: nothing was sent.
            await self.settler.settle(job, _never_sent(error))
            return
        except Exception as error:  # noqa: BLE001 - also after a bug of ours the quota is freed
            self.background.report_failure(job_task_name(job.id), error)
            await self.settler.settle(job, _never_sent(GatewayError(FAILED_UNSENT)))
            return
        if not dispatched:
            await self.settler.release_slot(job)
            return
        self.recorder.queued(time.perf_counter() - admitted)
        if model.upstream_name is not None:
            request = replace(request, model=model.upstream_name)
        await self._dispatch(job, request, upstream.timings.is_asynchronous(model), starts)

    async def _dispatch(
        self, job: Job, request: GenerationRequest, asynchronous: bool, starts: Sequence[float]
    ) -> None:
        started = time.perf_counter()
        coming: dict[int, PartDownloads] = {}
        calls = [
            self._run_part(job, index, request, asynchronous, start_s, coming)
            for index, start_s in enumerate(starts)
        ]
        parts = await asyncio.gather(*calls) if len(calls) > 1 else [await calls.pop()]
        upstream_s = time.perf_counter() - started
        if all(part.result is not None for part in parts):
            await self.finisher.settle_parts(job, parts, coming, upstream_s)
            return
        await self._hand_over(job, parts)
        for downloads in coming.values():
            self.finisher.report_later(job, downloads)

    async def _run_part(
        self,
        job: Job,
        index: int,
        request: GenerationRequest,
        asynchronous: bool,
        start_s: float,
        coming: dict[int, PartDownloads],
    ) -> JobPart:
        """One part, from its start to its answer; the downloads that it starts are in `coming`."""
        if start_s:
            await asyncio.sleep(start_s)
        if job.parts[index].n != request.n:
            request = replace(request, n=job.parts[index].n)
        answer = await self._call(job, index, request, asynchronous)
        if isinstance(answer, JobPart):
            return answer
        if isinstance(answer, TaskPending):
            return await self._accepted(job, index, answer)
        coming[index] = await self.finisher.start(job, index, answer.images)
        return await self._made(job, index, answer.request_id, coming[index])

    async def _call(
        self, job: Job, index: int, request: GenerationRequest, asynchronous: bool
    ) -> UpstreamAnswer | JobPart:
        """The only POST of a part: the provider's answer, or the part as it failed."""
        part, upstream = job.parts[index], self.upstreams.of(job.provider)
        started = time.perf_counter()
        operation = "submit" if asynchronous else "generate"
        try:
            answer = await upstream.provider.dispatch(request, asynchronous=asynchronous)
        except UpstreamError as error:
            self.recorder.upstream(operation, error.reason, time.perf_counter() - started)
            if error.concerns_our_account:
                await upstream.limiter.record_failure(error.reason, error.retry_after_s)
            failure = failed(part, error, self.timings)
            return replace(part, request_id=error.request_id, result=failure)
        except Exception as error:  # noqa: BLE001 - a bug of ours; the request may have been sent
            self.background.report_failure(job_task_name(job.id), error)
            return replace(part, result=failed(part, _unforeseen(), self.timings))
        took_s = time.perf_counter() - started
        self.recorder.upstream(operation, "ok", took_s)
        await upstream.limiter.record_success(took_s)
        return answer

    async def _made(
        self, job: Job, index: int, request_id: str | None, downloads: PartDownloads
    ) -> JobPart:
        """A part whose images are made. While other parts still run, it is recorded with the links
        of images that are not here yet, so that the end of this process does not lose them."""
        part = copy_with(job.parts[index], request_id=request_id, result=downloads.result())
        if len(job.parts) > 1:
            await self.settler.record_part(
                job.id,
                index,
                request_id=request_id,
                result=part.result,
                due_ms=self.upstreams.of(job.provider).timings.silence_ms,
            )
        return part

    async def _accepted(self, job: Job, index: int, answer: TaskPending) -> JobPart:
        """The provider accepted a part as a task: from here on its result survives this process."""
        upstream_id, request_id = answer.upstream_id, answer.request_id
        part = copy_with(job.parts[index], upstream_id=upstream_id, request_id=request_id)
        ours = await self.settler.record_part(
            job.id,
            index,
            upstream_id=upstream_id,
            request_id=request_id,
            due_ms=self.timings.first_poll_ms,
        )
        if ours:
            return part
        # The provider gave two requests one id: nobody can tell whose picture it is.
        error = UpstreamError(
            "upstream_ambiguous",
            "The provider answered with a task that belongs to another request.",
            proof=BillingEvidence.UNKNOWN,
        )
        return replace(part, upstream_id=None, result=failed(part, error, self.timings))

    async def _hand_over(self, job: Job, parts: Sequence[JobPart]) -> None:
        """Some parts run at the provider: record those that ended; the poller does the rest."""
        for index, part in enumerate(parts):
            if part.result is not None:
                await self.settler.record_part(
                    job.id,
                    index,
                    request_id=part.request_id,
                    result=part.result,
                    due_ms=self.timings.first_poll_ms,
                )


def failed(part: JobPart, error: UpstreamError, timings: JobTimings) -> PartResult:
    """A part's failure. A refusal is charged where the provider names a fee; a refusal by its
    moderation also where the operator says that the provider charges for these (decision 5)."""
    refused = error.reason == "content_policy_violation" and error.proof is BillingEvidence.REFUSED
    billed = refused and timings.moderation_charged if error.billed is None else error.billed
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
