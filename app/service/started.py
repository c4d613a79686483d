"""What a caller asks for, and what its request has become."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.domain.images import GenerationRequest
from app.domain.job import Job, JobState, TaskStatus, new_job_id
from app.domain.ledger import Repeat
from app.domain.limits import Standing
from app.domain.principal import Principal
from app.domain.recall import CacheControl, CacheOutcome, Recalled
from app.service.callers import Call


@dataclass(frozen=True, slots=True)
class Ask:
    """One understood request. `response_format` is a `ResponseFormat`; `slot_wait_s` is how long
    it may wait for a concurrency slot before it is refused; `request_id` names it in the log."""

    request: GenerationRequest
    repeat: Repeat
    control: CacheControl
    response_format: str
    slot_wait_s: float = 0.0
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A job under way, or already ended (a cache hit or a replay).

    `age_s` and `ttl_s` describe a hit; `stored` says whether the cache will keep the result;
    `joined` that an earlier request pays. `call` is this request, to be told how it ends; `again`
    makes what a guest waited for, should its maker cancel it.
    """

    job: Job
    standing: Standing
    cache: CacheOutcome
    age_s: int = 0
    ttl_s: int = 0
    stored: bool = False
    joined: bool = False
    call: Call | None = None
    again: "Callable[[], Awaitable[Started]] | None" = None


@dataclass(frozen=True, slots=True)
class Generated:
    """A job with its pictures. `upstream_s` is the time spent on the provider."""

    job: Job
    standing: Standing
    upstream_s: float


def recalled_job(principal: Principal, ask: Ask, recalled: Recalled) -> Job:
    """A cache hit as the job of whoever asks, who pays nothing for it."""
    request = ask.request
    return Job(
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
