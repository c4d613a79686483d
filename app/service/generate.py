"""Use case: turn a request into a job, and wait for its pictures. `GenerateImages.start` shows
every step of a request in order, with the errors it may end with."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn

from app.domain.cache import CacheLookup, CacheOutcome
from app.domain.catalog import Catalog
from app.domain.errors import (
    GatewayDraining,
    GatewayOverloaded,
    GenerationFailed,
    LedgerUnavailable,
    StillProcessing,
    TaskCancelled,
    UpstreamError,
)
from app.domain.job import Job, new_job_id
from app.domain.ledger import AdmissionRequest, AdmissionResult, RateLimitCheck
from app.domain.limits import LimitSnapshot, UsedUp
from app.domain.ports import Ledger, MetricsRecorder, ResultCache
from app.domain.principal import Principal
from app.service.background import BackgroundTasks, LoadLimiter
from app.service.cache_lookup import bypass_cache, find_or_join
from app.service.callers import always_present
from app.service.concurrency_queue import ConcurrencyQueue
from app.service.dedup import Deduplicator
from app.service.generation import (
    FinishedJob,
    GenerateCommand,
    IncomingRequest,
    StartedJob,
    start_from_cache,
)
from app.service.run_job import RunJob
from app.service.used_up_limits import UsedUpLimits
from app.service.wait import EndedJob, JobWaiters, WakeReason


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateImages:
    """`collect_wait_s` is how long a caller waits for images that are made while none of them can
    be downloaded. Then it is told its task id, while it still listens."""

    catalog: Catalog
    ledger: Ledger
    deduplicator: Deduplicator
    cache: ResultCache
    used_up: UsedUpLimits
    jobs: RunJob
    waiters: JobWaiters
    recorder: MetricsRecorder
    background: BackgroundTasks
    load: LoadLimiter
    slots: ConcurrencyQueue
    collect_wait_s: float

    async def start(
        self,
        principal: Principal,
        command: GenerateCommand,
        is_present: Callable[[], bool] = always_present,
    ) -> StartedJob:
        """Answer with a job that is there already, or open and launch a new one.

        The steps, and the errors that may end the request at each. Whichever is raised, nothing
        was sent to the provider and nothing is charged:

        1. find the model: `ModelNotFound`
        2. register the caller, so that a later repeat can be told from a new request
        3. check what this process can carry: `GatewayDraining`, `GatewayOverloaded`
        4. check the rate limit, and join the job that this request repeats: `RateLimited`,
           `IdempotencyKeyReused`, `CallerDisconnected`
        5. look in the cache, and answer with its pictures or join the job that makes them:
           `NotCached`, `GatewayOverloaded`
        6. reserve images, money and a concurrency slot in every scope, and open the job:
           the other `AdmissionRefused`, `LedgerUnavailable`, `UpstreamError` while the provider
           refuses our key or balance
        7. launch the job. From here on it needs no caller: `RunJob` waits for a permit, sends it to
           the provider, downloads the images and settles it; `Poller` takes over what the provider
           accepted as a task.

        Where no cache is used, step 6 includes step 4. A limit that was found used up a moment
        ago refuses again after step 3, unless the request may be answered for free. `is_present`
        says whether the caller is still connected. `wait_for_images` waits for the result.
        """
        model = principal.resolve_model(self.catalog, command.request.model)
        caller = self.deduplicator.register(principal, command.dedup_keys, new_job_id(), is_present)
        incoming = IncomingRequest(principal, command, model, caller)
        try:
            self._check_capacity()
            with self.load.admitting():
                await self.used_up.check(incoming)
                return await self._join_or_open_job(incoming)
        except BaseException as error:
            self.deduplicator.close_refused(caller, error)
            raise

    async def _join_or_open_job(self, incoming: IncomingRequest) -> StartedJob:
        """Steps 4 to 7."""
        try:
            if incoming.skips_cache:
                return await self._open_job(incoming, bypass_cache(incoming.command))
            principal, caller = incoming.principal, incoming.caller
            checked = await self.deduplicator.check_rate_limit(principal, caller)
            if (earlier := await self._find_repeated(checked)) is not None:
                return self._join(incoming, earlier, checked.limit_snapshot)
            await self.deduplicator.callers.wait_for_departures(caller.attempt)
            return await self._use_cache_or_open_job(incoming, checked.limit_snapshot)
        except UsedUp as refusal:
            self.used_up.remember(incoming, refusal)
            raise

    async def _use_cache_or_open_job(
        self, incoming: IncomingRequest, limit_snapshot: LimitSnapshot
    ) -> StartedJob:
        """Steps 5 to 7. They are taken again when the job that was joined here is cancelled."""
        principal, command, caller = incoming.principal, incoming.command, incoming.caller
        found, making = await find_or_join(self.cache, self.ledger, incoming)
        is_hit = found.outcome is CacheOutcome.HIT
        self.deduplicator.callers.set_awaited_variant(
            caller, found.cache_variant if is_hit or making is not None else None
        )
        # `only-if-cached` asks what is there and orders nothing, so it binds no Idempotency-Key.
        if (
            found.job_id
            and caller.dedup_keys.idempotency_key
            and not command.control.only_if_cached
        ):
            await self.ledger.bind_idempotency_key(principal, caller.dedup_keys, found.job_id)
        if is_hit:
            self.recorder.cached(found.outcome, incoming.model.name, len(found.pictures))
            return start_from_cache(incoming, found, limit_snapshot)
        if making is not None:
            again = partial(self._use_cache_or_open_job, incoming, limit_snapshot)
            return replace(self._join(incoming, making, limit_snapshot), restart=again)
        return await self._open_job(incoming, found, rate_limit_checked=True)

    async def _open_job(
        self, incoming: IncomingRequest, found: CacheLookup, *, rate_limit_checked: bool = False
    ) -> StartedJob:
        """Steps 6 and 7."""
        lease_ms = self.jobs.timings.lease_ms
        admission = incoming.admission(found, lease_ms, rate_limit_checked=rate_limit_checked)
        admitted = await self._admit(admission, incoming.command.concurrency_wait_s)
        if admitted.joined:
            return self._join(incoming, admitted.job, admitted.limit_snapshot)
        if self.background.is_draining:
            # The drain began meanwhile and may be over: nobody would wait for work launched now.
            await self.jobs.release_unsent(admitted.job, GatewayDraining())
            raise GatewayDraining
        self.recorder.cached(found.outcome, incoming.model.name, 0)
        self.jobs.launch(admitted.job, incoming.command.request, incoming.model)
        return StartedJob(
            admitted.job,
            admitted.limit_snapshot,
            found.outcome,
            stored=found.cache_variant is not None,
            caller=incoming.waits_for(admitted.job),
        )

    async def wait_for_images(self, started: StartedJob, wait_s: float) -> FinishedJob:
        """Wait for a job's pictures.

        Raises `StillProcessing` when `wait_s` is over, `GenerationFailed`, and `GatewayDraining`
        when another process goes on with the job; what the restart of a joined job raises too.
        """
        began_s = time.monotonic()
        ended = await self._wait(started, wait_s)
        job = ended.job
        if job.failure is not None:
            if started.restart is not None and job.failure.code == TaskCancelled.code:
                # The owner of the joined job cancelled it; this caller still wants its pictures.
                again = await started.restart()
                return await self.wait_for_images(
                    again, max(wait_s - (time.monotonic() - began_s), 0.0)
                )
            raise GenerationFailed(job.failure, task_id=job.id)
        limit_snapshot = started.limit_snapshot
        if not started.joined and started.cache is not CacheOutcome.HIT:
            limit_snapshot = limit_snapshot.after_settlement(job.n, job.billed, job.unit_micros)
        return FinishedJob(job, limit_snapshot, ended.upstream_s)

    async def wait_for_end(self, started: StartedJob, wait_s: float) -> EndedJob | None:
        """The job once it has ended, or None after `wait_s`. Raises `GatewayDraining` when another
        process goes on with it."""
        if started.job.ended:
            return EndedJob(started.job, 0.0)
        with self.load.waiting(started.job.id):
            news = await self.waiters.wait_for_news(started.job.id, wait_s, self.collect_wait_s)
        if news is WakeReason.DISMISSED:
            await self._dismiss(started)
        return news if isinstance(news, EndedJob) else None

    async def abandon(self, started: StartedJob) -> None:
        """The caller left before its answer; its next identical request joins this job."""
        caller = started.caller
        if caller is None:
            return
        if caller.cache_variant is not None:
            # Otherwise the repeat would count as a request for another picture.
            await self.cache.evict(caller.cache_variant, caller.id)
        await self.deduplicator.abandon(caller)

    def received(self, started: StartedJob) -> None:
        """The caller has its whole answer: an identical request is a new one from now on."""
        if started.caller is not None:
            self.deduplicator.received(started.caller)

    def close(self, started: StartedJob) -> None:
        """Nobody waits for the answer any more, however the request ended."""
        if started.caller is not None:
            self.deduplicator.callers.deregister(started.caller)

    def _check_capacity(self) -> None:
        if self.background.is_draining:
            raise GatewayDraining
        if self.load.is_full:
            raise GatewayOverloaded
        if self.jobs.finisher.downloader.is_full:
            raise GatewayOverloaded(
                "The image store takes nothing, and images that were made wait for it; nothing was "
                "spent. Repeat the request when it is back."
            )

    async def _admit(
        self, admission: AdmissionRequest, concurrency_wait_s: float
    ) -> AdmissionResult:
        """Admission; a cache variant that this job will not fill is freed for the next one."""
        admitted = None
        try:
            admitted = await self._check_upstream_queue(admission) or await self.slots.admit(
                admission, concurrency_wait_s
            )
        except LedgerUnavailable as error:
            await self.jobs.void_unconfirmed(admission.job_id, error)
            raise
        finally:
            if admission.cache_variant is not None and (admitted is None or admitted.joined):
                await self.cache.evict(admission.cache_variant, admission.job_id)
        return admitted

    async def _check_upstream_queue(self, admission: AdmissionRequest) -> AdmissionResult | None:
        """Refuse what the provider would not take in time; a repeat joins its job. None: go on."""
        try:
            self.jobs.check_queue(admission)
        except (GatewayOverloaded, UpstreamError):
            caller = self.deduplicator.callers.find(admission.job_id)
            if admission.rate_limit_checked or caller is None:
                raise
            checked = await self.deduplicator.check_rate_limit(admission.principal, caller)
            earlier = await self._find_repeated(checked)
            if earlier is None:
                raise
            return AdmissionResult(earlier, checked.limit_snapshot, joined=True)
        return None

    async def _find_repeated(self, checked: RateLimitCheck) -> Job | None:
        """The job that this request repeats, if the ledger still has it."""
        return await self.ledger.job(checked.duplicate_of) if checked.duplicate_of else None

    def _join(
        self, incoming: IncomingRequest, job: Job, limit_snapshot: LimitSnapshot
    ) -> StartedJob:
        self.recorder.cached(CacheOutcome.JOINED, job.model, job.n)
        caller = incoming.waits_for(job)
        return StartedJob(job, limit_snapshot, CacheOutcome.JOINED, joined=True, caller=caller)

    async def _wait(self, started: StartedJob, wait_s: float) -> EndedJob:
        ended = await self.wait_for_end(started, wait_s)
        if ended is not None:
            return ended
        if self.background.is_draining:
            await self._dismiss(started)
        raise StillProcessing(
            "The generation goes on. Repeat the same request to wait for it again, "
            f"or read it at /v1/tasks/{started.job.id}; it is paid for once.",
            task_id=started.job.id,
        )

    async def _dismiss(self, started: StartedJob) -> NoReturn:
        await self.abandon(started)
        raise GatewayDraining
