"""Use case: turn a request into a job, and wait for it.

The order of steps (design, section 3): arrive, recall, admit, launch; then, for a caller who
waits, finish. Nothing a caller does after `start` changes the accounts.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from app.domain.cache import CacheLookup, CacheOutcome
from app.domain.catalog import Catalog, Model
from app.domain.errors import (
    GatewayDraining,
    GatewayOverloaded,
    GenerationFailed,
    LedgerUnavailable,
    ModelNotFound,
    StillProcessing,
    TaskCancelled,
    UpstreamError,
)
from app.domain.job import Job, new_job_id
from app.domain.ledger import AdmissionRequest, AdmissionResult
from app.domain.limits import LimitSnapshot
from app.domain.ports import Ledger, MetricsRecorder, ResultCache
from app.domain.principal import CachePolicy, Principal
from app.service.background import BackgroundTasks, LoadLimiter
from app.service.cache_lookup import bypass_cache, find_or_join
from app.service.callers import WaitingCaller, always_present
from app.service.concurrency_queue import ConcurrencyQueue
from app.service.dedup import Deduplicator
from app.service.generation import FinishedJob, GenerateCommand, StartedJob, job_from_cache
from app.service.run_job import RunJob
from app.service.wait import EndedJob, JobWaiters


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateImages:
    """`collect_wait_s` is how long a caller waits for images that are made and of which none can
    be downloaded: it keeps the task, and hears so while it still listens."""

    catalog: Catalog
    ledger: Ledger
    deduplicator: Deduplicator
    cache: ResultCache
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
        present: Callable[[], bool] = always_present,
    ) -> StartedJob:
        """`present` says whether the caller is still there.

        Raises `ModelNotFound`, the `Refused` and `Unavailable` families, `NotCached`,
        `IdempotencyKeyReused`, `UpstreamError` while the provider refuses us, `CallerLeft`; then
        nothing was dispatched."""
        model = self._find_model(principal, command.request.model)
        caller = self.deduplicator.register(principal, command.dedup_keys, new_job_id(), present)
        try:
            self._check_capacity()
            with self.load.admitting():
                return await self._start(
                    principal, replace(command, dedup_keys=caller.dedup_keys), model, caller
                )
        except BaseException as error:
            self.deduplicator.close_refused(caller, error)
            raise

    async def _start(
        self, principal: Principal, command: GenerateCommand, model: Model, caller: WaitingCaller
    ) -> StartedJob:
        uncached = principal.cache is CachePolicy.OFF or command.control.no_store
        if uncached:
            bypassed = bypass_cache(command)
            started = await self._begin(
                principal, command, model, caller.id, bypassed, rate_limit_checked=False
            )
            return _of(caller, started)
        checked = await self.deduplicator.check_rate_limit(principal, caller)
        if checked.duplicate_of is not None:
            earlier = await self.ledger.job(checked.duplicate_of)
            if earlier is not None:
                return _of(caller, self._joined(earlier, checked.limit_snapshot))
        await self.deduplicator.callers.wait_for_departures(caller.attempt)
        return await self._make(principal, command, model, caller, checked.limit_snapshot)

    async def _make(
        self,
        principal: Principal,
        command: GenerateCommand,
        model: Model,
        caller: WaitingCaller,
        limit_snapshot: LimitSnapshot,
    ) -> StartedJob:
        """Answer out of the cache, or be a guest where it is made already, or make it."""
        recalled, making = await find_or_join(
            self.cache, self.ledger, principal, command, caller.id
        )
        guest = making is not None or recalled.outcome is CacheOutcome.HIT
        self.deduplicator.callers.set_awaited_variant(
            caller, recalled.cache_variant if guest else None
        )
        # A mere look into the cache keeps no Idempotency-Key.
        if (
            recalled.job_id
            and command.dedup_keys.idempotency_key
            and not command.control.only_if_cached
        ):
            await self.ledger.bind_idempotency_key(principal, command.dedup_keys, recalled.job_id)
        if recalled.outcome is CacheOutcome.HIT:
            return _of(caller, self._hit(principal, command, recalled, limit_snapshot))
        if making is not None:
            again = partial(self._make, principal, command, model, caller, limit_snapshot)
            return replace(_of(caller, self._joined(making, limit_snapshot)), restart=again)
        started = await self._begin(
            principal, command, model, caller.id, recalled, rate_limit_checked=True
        )
        return _of(caller, started)

    async def _begin(
        self,
        principal: Principal,
        command: GenerateCommand,
        model: Model,
        job_id: str,
        recalled: CacheLookup,
        *,
        rate_limit_checked: bool,
    ) -> StartedJob:
        admission = AdmissionRequest(
            job_id=job_id,
            principal=principal,
            request=command.request,
            part_sizes=self.jobs.part_sizes(model, command.request.n),
            unit_micros=model.price(command.request.size, command.request.quality),
            dedup_keys=command.dedup_keys,
            lease_ms=self.jobs.pace.lease_ms,
            cache_variant=recalled.cache_variant,
            response_format=command.response_format,
            rate_limit_checked=rate_limit_checked,
            request_id=command.request_id,
        )
        admitted = await self._admit(admission, command.concurrency_wait_s)
        if admitted.joined:
            return self._joined(admitted.job, admitted.limit_snapshot)
        if self.background.is_draining:
            # The drain began meanwhile and may have ended: nobody waits for work launched now.
            await self.jobs.release_unsent(admitted.job, GatewayDraining())
            raise GatewayDraining
        self.recorder.cached(recalled.outcome, model.name, 0)
        self.jobs.launch(admitted.job, command.request, model)
        return StartedJob(
            admitted.job,
            admitted.limit_snapshot,
            recalled.outcome,
            stored=recalled.cache_variant is not None,
        )

    async def wait_for_images(self, started: StartedJob, wait_s: float) -> FinishedJob:
        """Wait for a job's pictures; raises `StillProcessing` or `GenerationFailed`."""
        began_s = time.monotonic()
        ended = (
            EndedJob(started.job, 0.0) if started.job.ended else await self._wait(started, wait_s)
        )
        job = ended.job
        if job.failure is not None:
            if started.restart is not None and job.failure.code == TaskCancelled.code:
                # Somebody else cancelled what this caller waits for as well.
                again = await started.restart()
                return await self.wait_for_images(
                    again, max(wait_s - (time.monotonic() - began_s), 0.0)
                )
            raise GenerationFailed(job.failure, task_id=job.id)
        limit_snapshot = started.limit_snapshot
        if not started.joined and started.cache is not CacheOutcome.HIT:
            limit_snapshot = limit_snapshot.after_settlement(job.n, job.billed, job.unit_micros)
        return FinishedJob(job, limit_snapshot, ended.upstream_s)

    async def abandon(self, started: StartedJob) -> None:
        """The caller left before its answer; its next identical request joins this job."""
        caller = started.caller
        if caller is None:
            return
        if caller.cache_variant is not None:
            await self.cache.evict(caller.cache_variant, caller.id)  # not a second wish, then
        await self.deduplicator.abandon(caller)

    def received(self, started: StartedJob) -> None:
        """The caller has its whole answer: what it asks from now on is another wish."""
        if started.caller is not None:
            self.deduplicator.received(started.caller)

    def close(self, started: StartedJob) -> None:
        """However it ended, nobody waits for an answer any more."""
        if started.caller is not None:
            self.deduplicator.callers.deregister(started.caller)

    def _find_model(self, principal: Principal, name: str) -> Model:
        model = self.catalog.find(name)
        if model is None or not principal.may_use(model.name):
            raise ModelNotFound
        return model

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
        """Admission; a slot that will not be filled by this job is freed for the next one."""
        admitted = None
        try:
            admitted = await self._admit_despite_limiter(admission) or await self.slots.admit(
                admission, concurrency_wait_s
            )
        except LedgerUnavailable as error:
            await self.jobs.void_unconfirmed(admission.job_id, error)
            raise
        finally:
            if admission.cache_variant is not None and (admitted is None or admitted.joined):
                await self.cache.evict(admission.cache_variant, admission.job_id)
        return admitted

    async def _admit_despite_limiter(self, admission: AdmissionRequest) -> AdmissionResult | None:
        """Refuse what the provider will not take in time; a repeat joins its job all the same."""
        try:
            self.jobs.upstream_limiter.check_queue(len(admission.part_sizes))
        except (GatewayOverloaded, UpstreamError):
            caller = self.deduplicator.callers.find(admission.job_id)
            if admission.rate_limit_checked or caller is None:
                raise
            checked = await self.deduplicator.check_rate_limit(admission.principal, caller)
            earlier = checked.duplicate_of and await self.ledger.job(checked.duplicate_of)
            if not earlier:
                raise
            return AdmissionResult(earlier, checked.limit_snapshot, joined=True)
        return None

    def _joined(self, job: Job, limit_snapshot: LimitSnapshot) -> StartedJob:
        self.recorder.cached(CacheOutcome.JOINED, job.model, job.n)
        return StartedJob(job, limit_snapshot, CacheOutcome.JOINED, joined=True)

    def _hit(
        self,
        principal: Principal,
        command: GenerateCommand,
        recalled: CacheLookup,
        limit_snapshot: LimitSnapshot,
    ) -> StartedJob:
        self.recorder.cached(CacheOutcome.HIT, command.request.model, len(recalled.pictures))
        job = job_from_cache(principal, command, recalled)
        return StartedJob(
            job, limit_snapshot, CacheOutcome.HIT, recalled.age_s, recalled.ttl_s, stored=True
        )

    async def _wait(self, started: StartedJob, wait_s: float) -> EndedJob:
        with self.load.waiting(started.job.id):
            ended = await self.waiters.wait(started.job.id, wait_s, self.collect_wait_s)
        if ended is not None:
            return ended
        if self.background.is_draining:
            await self.abandon(started)
            raise GatewayDraining
        raise StillProcessing(
            "The generation goes on. Repeat the same request to wait for it again, "
            f"or read it at /v1/tasks/{started.job.id}; it is paid for once.",
            task_id=started.job.id,
        )


def _of(caller: WaitingCaller, started: StartedJob) -> StartedJob:
    caller.job_id = started.job.id
    return replace(started, caller=caller)
