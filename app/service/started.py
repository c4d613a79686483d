"""What a caller asks for, and what its request has become."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from app.domain.images import GenerationRequest
from app.domain.job import Job
from app.domain.ledger import Repeat
from app.domain.limits import Standing
from app.domain.recall import CacheControl, CacheOutcome
from app.service.callers import Call


@dataclass(frozen=True, slots=True)
class Ask:
    """One understood request. `response_format` is "url" or "b64_json"."""

    request: GenerationRequest
    repeat: Repeat
    control: CacheControl
    response_format: str


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
