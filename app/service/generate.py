"""Use case: turn a request into a job, and wait for it.

The order of steps (design, section 3): arrive, recall, admit, launch; then, for a caller who
waits, finish. Nothing a caller does after `start` changes the accounts.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from app.domain.catalog import Catalog, Model
from app.domain.errors import (
    Draining,
    GenerationFailed,
    LedgerUnavailable,
    ModelNotFound,
    NotCached,
    Overloaded,
    StillProcessing,
    TaskCancelled,
    UpstreamError,
)
from app.domain.job import Job, new_job_id
from app.domain.ledger import Admitted, Order
from app.domain.limits import Standing
from app.domain.ports import Ledger, Recorder, ResultCache
from app.domain.principal import CachePolicy, Principal
from app.domain.recall import CacheOutcome, Recalled
from app.service.callers import Call, always
from app.service.completions import Completions, Ended
from app.service.drain import Drain
from app.service.jobs import RunJob
from app.service.load import Load
from app.service.repeats import Repeats
from app.service.slots import SlotQueue
from app.service.started import Ask, Generated, Started, recalled_job

MAKING_PAUSE_S = 0.02
MAKER_S = 3.0
"""So long a maker may take from the cache to the ledger: two looks at a slow store. Unknown to the
ledger for longer, it died in between, and whoever waits for it makes the picture itself."""
MAKING_WAIT_S = 10.0
"""Nobody looks for a maker longer than this, however many of them die or are refused in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateImages:
    """`collect_wait_s` is how long a caller waits for images that are made and of which none can
    be downloaded: it keeps the task, and hears so while it still listens."""

    catalog: Catalog
    ledger: Ledger
    repeats: Repeats
    cache: ResultCache
    jobs: RunJob
    completions: Completions
    recorder: Recorder
    drain: Drain
    load: Load
    slots: SlotQueue
    collect_wait_s: float

    async def start(
        self, principal: Principal, ask: Ask, present: Callable[[], bool] = always
    ) -> Started:
        """`present` says whether the caller is still there.

        Raises `ModelNotFound`, the `Refused` and `Unavailable` families, `NotCached`,
        `IdempotencyKeyReused`, `UpstreamError` while the provider refuses us, `CallerLeft`; then
        nothing was dispatched."""
        model = self._allowed(principal, ask.request.model)
        call = self.repeats.begin(principal, ask.repeat, new_job_id(), present)
        try:
            self._room()
            with self.load.starting():
                return await self._start(principal, replace(ask, repeat=call.repeat), model, call)
        except BaseException as error:
            self.repeats.refused(call, error)
            raise

    async def _start(self, principal: Principal, ask: Ask, model: Model, call: Call) -> Started:
        uncached = principal.cache is CachePolicy.OFF or ask.control.no_store
        if uncached:
            bypassed = _bypassed(ask)
            started = await self._begin(principal, ask, model, call.id, bypassed, arrived=False)
            return _of(call, started)
        arrived = await self.repeats.arrive(principal, call)
        if arrived.joins is not None:
            earlier = await self.ledger.job(arrived.joins)
            if earlier is not None:
                return _of(call, self._joined(earlier, arrived.standing))
        await self.repeats.callers.departed(call.attempt)
        return await self._make(principal, ask, model, call, arrived.standing)

    async def _make(
        self, principal: Principal, ask: Ask, model: Model, call: Call, standing: Standing
    ) -> Started:
        """Answer out of the cache, or be a guest where it is made already, or make it."""
        recalled, making = await self._recall(principal, ask, call.id)
        guest = making is not None or recalled.outcome is CacheOutcome.HIT
        self.repeats.callers.sit_in(call, recalled.slot if guest else None)
        # A mere look into the cache keeps no Idempotency-Key.
        if recalled.job_id and ask.repeat.idempotency_key and not ask.control.only_if_cached:
            await self.ledger.bind(principal, ask.repeat, recalled.job_id)
        if recalled.outcome is CacheOutcome.HIT:
            return _of(call, self._hit(principal, ask, recalled, standing))
        if making is not None:
            again = partial(self._make, principal, ask, model, call, standing)
            return replace(_of(call, self._joined(making, standing)), again=again)
        started = await self._begin(principal, ask, model, call.id, recalled, arrived=True)
        return _of(call, started)

    async def _begin(
        self,
        principal: Principal,
        ask: Ask,
        model: Model,
        job_id: str,
        recalled: Recalled,
        *,
        arrived: bool,
    ) -> Started:
        order = Order(
            job_id=job_id,
            principal=principal,
            request=ask.request,
            part_sizes=self.jobs.part_sizes(model, ask.request.n),
            unit_micros=model.price(ask.request.size, ask.request.quality),
            repeat=ask.repeat,
            lease_ms=self.jobs.pace.lease_ms,
            slot=recalled.slot,
            response_format=ask.response_format,
            arrived=arrived,
            request_id=ask.request_id,
        )
        admitted = await self._admit(order, ask.slot_wait_s)
        if admitted.joined:
            return self._joined(admitted.job, admitted.standing)
        if self.drain.draining:
            # The drain began meanwhile and may have ended: nobody waits for work launched now.
            await self.jobs.renounce(admitted.job, Draining())
            raise Draining
        self.recorder.cached(recalled.outcome, model.name, 0)
        self.jobs.launch(admitted.job, ask.request, model)
        return Started(
            admitted.job, admitted.standing, recalled.outcome, stored=recalled.slot is not None
        )

    async def finish(self, started: Started, wait_s: float) -> Generated:
        """Wait for a job's pictures; raises `StillProcessing` or `GenerationFailed`."""
        began_s = time.monotonic()
        ended = Ended(started.job, 0.0) if started.job.ended else await self._wait(started, wait_s)
        job = ended.job
        if job.failure is not None:
            if started.again is not None and job.failure.code == TaskCancelled.code:
                # Somebody else cancelled what this caller waits for as well.
                again = await started.again()
                return await self.finish(again, max(wait_s - (time.monotonic() - began_s), 0.0))
            raise GenerationFailed(job.failure, task_id=job.id)
        standing = started.standing
        if not started.joined and started.cache is not CacheOutcome.HIT:
            standing = standing.settled(job.n, job.billed, job.unit_micros)
        return Generated(job, standing, ended.upstream_s)

    async def abandon(self, started: Started) -> None:
        """The caller left before its answer; its next identical request joins this job."""
        call = started.call
        if call is None:
            return
        if call.slot is not None:
            await self.cache.forget(call.slot, call.id)  # not a second wish, then
        await self.repeats.abandon(call)

    def received(self, started: Started) -> None:
        """The caller has its whole answer: what it asks from now on is another wish."""
        if started.call is not None:
            self.repeats.received(started.call)

    def over(self, started: Started) -> None:
        """However it ended, nobody waits for an answer any more."""
        if started.call is not None:
            self.repeats.callers.leave(started.call)

    def _allowed(self, principal: Principal, name: str) -> Model:
        model = self.catalog.find(name)
        if model is None or not principal.may_use(model.name):
            raise ModelNotFound
        return model

    def _room(self) -> None:
        if self.drain.draining:
            raise Draining
        if self.load.full:
            raise Overloaded
        if self.jobs.deliver.collect.full:
            raise Overloaded(
                "The image store takes nothing, and images that were made wait for it; nothing was "
                "spent. Repeat the request when it is back."
            )

    async def _recall(
        self, principal: Principal, ask: Ask, job_id: str
    ) -> tuple[Recalled, Job | None]:
        """What the cache knows, and the job to join when another one is making it."""
        deadline_s = time.monotonic() + MAKING_WAIT_S
        recalled = await self._ask_cache(principal, ask, job_id)
        while recalled.outcome is CacheOutcome.JOINED:
            making = await self.ledger.job(recalled.job_id or "")
            if making is not None and making.failure is None:
                return recalled, making
            gone = making is not None or recalled.marked_s > MAKER_S
            if ask.control.only_if_cached and gone:
                break
            if time.monotonic() > deadline_s:
                raise Overloaded("Identical requests keep failing; nothing was spent on this one.")
            if not gone:
                await asyncio.sleep(MAKING_PAUSE_S)
            instead_of = recalled.job_id if gone else None
            recalled = await self._ask_cache(principal, ask, job_id, instead_of)
        if ask.control.only_if_cached and recalled.outcome is not CacheOutcome.HIT:
            raise _not_cached()
        return recalled, None

    async def _ask_cache(
        self, principal: Principal, ask: Ask, job_id: str, instead_of: str | None = None
    ) -> Recalled:
        fingerprint = ask.request.fingerprint(principal.pool)
        return await self.cache.recall(
            fingerprint, job_id, ask.control, repeated=ask.repeat.marked, instead_of=instead_of
        )

    async def _admit(self, order: Order, slot_wait_s: float) -> Admitted:
        """Admission; a slot that will not be filled by this job is freed for the next one."""
        admitted = None
        try:
            admitted = await self._unwelcome(order) or await self.slots.admit(order, slot_wait_s)
        except LedgerUnavailable as error:
            await self.jobs.withdraw(order.job_id, error)
            raise
        finally:
            if order.slot is not None and (admitted is None or admitted.joined):
                await self.cache.forget(order.slot, order.job_id)
        return admitted

    async def _unwelcome(self, order: Order) -> Admitted | None:
        """Refuse what the provider will not take in time; a repeat joins its job all the same."""
        try:
            self.jobs.governor.check(len(order.part_sizes))
        except (Overloaded, UpstreamError):
            call = self.repeats.callers.known(order.job_id)
            if order.arrived or call is None:
                raise
            arrived = await self.repeats.arrive(order.principal, call)
            earlier = arrived.joins and await self.ledger.job(arrived.joins)
            if not earlier:
                raise
            return Admitted(earlier, arrived.standing, joined=True)
        return None

    def _joined(self, job: Job, standing: Standing) -> Started:
        self.recorder.cached(CacheOutcome.JOINED, job.model, job.n)
        return Started(job, standing, CacheOutcome.JOINED, joined=True)

    def _hit(
        self, principal: Principal, ask: Ask, recalled: Recalled, standing: Standing
    ) -> Started:
        self.recorder.cached(CacheOutcome.HIT, ask.request.model, len(recalled.pictures))
        job = recalled_job(principal, ask, recalled)
        return Started(job, standing, CacheOutcome.HIT, recalled.age_s, recalled.ttl_s, stored=True)

    async def _wait(self, started: Started, wait_s: float) -> Ended:
        with self.load.waiting(started.job.id):
            ended = await self.completions.wait(started.job.id, wait_s, self.collect_wait_s)
        if ended is not None:
            return ended
        if self.drain.draining:
            await self.abandon(started)
            raise Draining
        raise StillProcessing(
            "The generation goes on. Repeat the same request to wait for it again, "
            f"or read it at /v1/tasks/{started.job.id}; it is paid for once.",
            task_id=started.job.id,
        )


def _of(call: Call, started: Started) -> Started:
    call.job_id = started.job.id
    return replace(started, call=call)


def _bypassed(ask: Ask) -> Recalled:
    if ask.control.only_if_cached:
        raise _not_cached()
    return Recalled(CacheOutcome.BYPASS, stored=False)


def _not_cached() -> NotCached:
    return NotCached("No stored picture answers this request (only-if-cached).")
