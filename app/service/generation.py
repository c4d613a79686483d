"""What a caller asks for, and what becomes of its request."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.domain.attribution import Attribution
from app.domain.cache import CacheControl, CacheLookup, CacheOutcome
from app.domain.catalog import Model
from app.domain.images import GenerationRequest
from app.domain.job import Job, JobState, TaskStatus, new_job_id
from app.domain.ledger import AdmissionRequest, DedupKeys
from app.domain.limits import LimitSnapshot
from app.domain.principal import CachePolicy, Principal
from app.domain.webhooks import WebhookTarget
from app.service.callers import WaitingCaller


@dataclass(frozen=True, slots=True)
class GenerateCommand:
    """One parsed request. `response_format` is a `ResponseFormat`; `concurrency_wait_s` is how long
    it may wait for a concurrency slot before it is refused; `request_id` names it in the log;
    `webhook` is told how the job ends; `attribution` is told in reports."""

    request: GenerationRequest
    dedup_keys: DedupKeys
    control: CacheControl
    response_format: str
    concurrency_wait_s: float = 0.0
    request_id: str | None = None
    webhook: WebhookTarget | None = None
    attribution: Attribution | None = None


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A job under way, or already ended (a cache hit or a replay).

    `age_s` and `ttl_s` describe a cache hit; `stored` says whether the cache will keep the result,
    `joined` that an earlier request pays for it. `caller` is to be told how the request ends.
    `restart` is set when this request joined another caller's job through the cache: it opens a
    job of its own should that one be cancelled.
    """

    job: Job
    limit_snapshot: LimitSnapshot
    cache: CacheOutcome
    age_s: int = 0
    ttl_s: int = 0
    stored: bool = False
    joined: bool = False
    caller: WaitingCaller | None = None
    restart: "Callable[[], Awaitable[StartedJob]] | None" = None

    @property
    def is_paid_before(self) -> bool:
        """Whether somebody else pays: the cache had the pictures, or another job makes them."""
        return self.cache is CacheOutcome.HIT or self.restart is not None


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """A request on its way through the steps: who asks for what, and the caller that waits. The
    caller has the dedup keys that count."""

    principal: Principal
    command: GenerateCommand
    model: Model
    caller: WaitingCaller

    @property
    def skips_cache(self) -> bool:
        return self.principal.cache is CachePolicy.OFF or self.command.control.no_store

    def admission(
        self, found: CacheLookup, lease_ms: int, *, rate_limit_checked: bool
    ) -> AdmissionRequest:
        """What the ledger is asked to reserve, after the cache `found` no picture."""
        request, command, model = self.command.request, self.command, self.model
        references = len(request.references)
        return AdmissionRequest(
            job_id=self.caller.id,
            principal=self.principal,
            request=request,
            part_sizes=_part_sizes(request.n, model.images_per_call(references)),
            unit_micros=model.price(request.size, request.quality, references),
            dedup_keys=self.caller.dedup_keys,
            lease_ms=lease_ms,
            cache_variant=found.cache_variant,
            response_format=command.response_format,
            rate_limit_checked=rate_limit_checked,
            request_counted=rate_limit_checked,
            request_id=command.request_id,
            webhook=command.webhook,
            attribution=command.attribution,
            provider=model.provider,
        )

    def waits_for(self, job: Job) -> WaitingCaller:
        """The caller, who waits for that job from now on."""
        self.caller.job_id = job.id
        return self.caller


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job with its pictures. `upstream_s` is the time that the provider took."""

    job: Job
    limit_snapshot: LimitSnapshot
    upstream_s: float


def _part_sizes(n: int, most: int) -> tuple[int, ...]:
    """More images than one upstream call may carry are fanned out inside one job."""
    full, rest = divmod(n, most)
    return (most,) * full + ((rest,) if rest else ())


def start_from_cache(
    incoming: IncomingRequest, recalled: CacheLookup, limit_snapshot: LimitSnapshot
) -> StartedJob:
    """A cache hit, shown as a job of the caller, who pays nothing for it."""
    principal, command = incoming.principal, incoming.command
    request = command.request
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
        response_format=command.response_format,
    )
    return StartedJob(
        job,
        limit_snapshot,
        CacheOutcome.HIT,
        age_s=recalled.age_s,
        ttl_s=recalled.ttl_s,
        stored=True,
        caller=incoming.waits_for(job),
    )
