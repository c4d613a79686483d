"""Use case: turn a request into a job, and wait for it.

The order of steps (design, section 3): arrive, recall, admit, launch; then, for a caller who
waits, finish. Nothing a caller does after `start` changes the accounts.
"""

import asyncio
import time
from dataclasses import dataclass

from app.domain.catalog import Catalog, Model
from app.domain.errors import (
    Draining,
    GenerationFailed,
    LedgerUnavailable,
    ModelNotFound,
    NotCached,
    Overloaded,
    StillProcessing,
    UpstreamError,
)
from app.domain.images import GenerationRequest
from app.domain.job import Job, JobState, TaskStatus, new_job_id
from app.domain.ledger import Admitted, Order, Repeat
from app.domain.limits import Standing
from app.domain.ports import Ledger, Recorder, ResultCache
from app.domain.principal import CachePolicy, Principal
from app.domain.recall import CacheControl, CacheOutcome, Recalled
from app.service.completions import Completions, Ended
from app.service.drain import Drain
from app.service.jobs import RunJob
from app.service.load import Load
from app.service.slots import SlotQueue

MAKING_PAUSE_S = 0.02
MAKER_S = 3.0
"""So long a maker may take from the cache to the ledger: two looks at a slow store. Unknown to the
ledger for longer, it died in between, and whoever waits for it makes the picture itself."""
MAKING_WAIT_S = 10.0
"""Nobody looks for a maker longer than this, however many of them die or are refused in turn."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One understood request. `response_format` is a `ResponseFormat`; `slot_wait_s` is how long
    it may wait for a concurrency slot before it is refused."""

    request: GenerationRequest
    repeat: Repeat
    control: CacheControl
    response_format: str
    slot_wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Started:
    """A job under way, or already ended (a cache hit or a replay).

    `age_s` and `ttl_s` describe a hit; `stored` says whether the cache will keep the result;
    `joined` that an earlier request pays.
    """

    job: Job
    standing: Standing
    cache: CacheOutcome
    age_s: int = 0
    ttl_s: int = 0
    stored: bool = False
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Generated:
    """A job with its pictures. `upstream_s` is the time spent on the provider."""

    job: Job
    standing: Standing
    upstream_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateImages:
    catalog: Catalog
    ledger: Ledger
    cache: ResultCache
    jobs: RunJob
    completions: Completions
    recorder: Recorder
    drain: Drain
    load: Load
    slots: SlotQueue

    async def start(self, principal: Principal, ask: Ask) -> Started:
        """Raises `ModelNotFound`, the `Refused` and `Unavailable` families, `NotCached`,
        `IdempotencyKeyReused`, `UpstreamError` while the provider refuses us; then nothing was
        dispatched."""
        model = self._allowed(principal, ask.request.model)
        self._room()
        with self.load.starting():
            return await self._start(principal, ask, model, new_job_id())

    async def _start(self, principal: Principal, ask: Ask, model: Model, job_id: str) -> Started:
        uncached = principal.cache is CachePolicy.OFF or ask.control.no_store
        if uncached:
            return await self._begin(principal, ask, model, job_id, _bypassed(ask), arrived=False)
        arrived = await self.ledger.arrive(principal, ask.repeat)
        if arrived.joins is not None:
            earlier = await self.ledger.job(arrived.joins)
            if earlier is not None:
                return self._joined(earlier, arrived.standing)
        recalled, making = await self._recall(principal, ask, job_id)
        # A mere look into the cache keeps no Idempotency-Key.
        if recalled.job_id and ask.repeat.idempotency_key and not ask.control.only_if_cached:
            await self.ledger.bind(principal, ask.repeat, recalled.job_id)
        if recalled.outcome is CacheOutcome.HIT:
            return self._hit(principal, ask, recalled, arrived.standing)
        if making is not None:
            return self._joined(making, arrived.standing)
        return await self._begin(principal, ask, model, job_id, recalled, arrived=True)

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
        ended = Ended(started.job, 0.0) if started.job.ended else await self._wait(started, wait_s)
        job = ended.job
        if job.failure is not None:
            raise GenerationFailed(job.failure, task_id=job.id)
        standing = started.standing
        if not started.joined and started.cache is not CacheOutcome.HIT:
            standing = standing.settled(job.n, job.billed, job.unit_micros)
        return Generated(job, standing, ended.upstream_s)

    async def abandon(self, started: Started) -> None:
        """The caller left before its answer; its next identical request joins this job."""
        try:
            await self.ledger.abandon(started.job.id)
        except LedgerUnavailable:
            return

    def _allowed(self, principal: Principal, name: str) -> Model:
        model = self.catalog.find(name)
        if model is None or not principal.may_use(model.name):
            raise ModelNotFound(
                "The model does not exist or this key may not use it; see GET /v1/models.",
                param="model",
            )
        return model

    def _room(self) -> None:
        if self.drain.draining:
            raise Draining
        if self.load.full:
            raise Overloaded

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
            if order.arrived:
                raise
            arrived = await self.ledger.arrive(order.principal, order.repeat)
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
        request = ask.request
        self.recorder.cached(CacheOutcome.HIT, request.model, len(recalled.pictures))
        job = Job(
            id=recalled.job_id or new_job_id(),
            key_id=principal.key_id,
            user=principal.user,
            team=principal.team,
            pool=principal.pool,
            model=request.model,
            n=request.n,
            size=request.size,
            quality=request.quality,
            unit_micros=None,
            created_ms=recalled.made_ms,
            state=JobState.SETTLED,
            status=TaskStatus.COMPLETED,
            progress=100,
            pictures=recalled.pictures,
            response_format=ask.response_format,
        )
        return Started(job, standing, CacheOutcome.HIT, recalled.age_s, recalled.ttl_s, stored=True)

    async def _wait(self, started: Started, wait_s: float) -> Ended:
        with self.load.waiting(started.job.id):
            ended = await self.completions.wait(started.job.id, wait_s)
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


def _bypassed(ask: Ask) -> Recalled:
    if ask.control.only_if_cached:
        raise _not_cached()
    return Recalled(CacheOutcome.BYPASS, stored=False)


def _not_cached() -> NotCached:
    return NotCached("No stored picture answers this request (only-if-cached).")
