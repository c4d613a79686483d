"""A small stand-in for the gateway: the same use cases over a dict, no store, no money.

It lets the edge be tested over real sockets on its own, and makes any failure happen on demand.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import app
from app.adapters.webhooks.poster import HttpWebhookPoster
from app.api.settings import EdgeSettings
from app.domain.budget import MemoryBudget
from app.domain.cache import CacheOutcome
from app.domain.catalog import Catalog, parse_catalog
from app.domain.errors import (
    FailureNote,
    GenerationFailed,
    ImageNotFound,
    InvalidApiKey,
    ModelNotFound,
    RateLimited,
    StillProcessing,
    TaskNotCancellable,
    TaskNotFound,
)
from app.domain.images import Picture
from app.domain.job import Job, JobState, TaskStatus, new_job_id, picture_stem
from app.domain.limits import (
    LimitKind,
    Limits,
    LimitSnapshot,
    LimitStatus,
    LimitWindow,
    Scope,
    ScopeKind,
)
from app.domain.media import (
    SLICE_BYTES,
    ImageContent,
    ImageSlice,
    ImageStoreUnavailable,
    media_type_of,
)
from app.domain.principal import CachePolicy, Principal
from app.domain.queries import TaskPage, TaskQuery, UsageBucket, UsageQuery, UsageRow
from app.service.background import BackgroundTasks
from app.service.caller_limits import KeyedSemaphore, KeyRateLimiter, WaitingCap
from app.service.gateway import Gateway
from app.service.generation import FinishedJob, GenerateCommand, StartedJob
from app.service.wait import EndedJob
from app.service.webhooks import Webhooks

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
NOW = 1_795_000_000
MODELS = """
[[models]]
name = "painter"
modes = ["sync"]
sizes = ["1024x1024"]
qualities = ["standard"]
aliases = ["studio/painter"]
"""


def principal(user: str, models: frozenset[str] | None = None) -> Principal:
    scopes = (Scope(ScopeKind.USER, user, Limits()),)
    return Principal(f"key_{user}", user, None, scopes, CachePolicy.PRIVATE, models)


KEYS = {
    "koi-ann-0123456789": principal("ann"),
    "koi-bob-0123456789": principal("bob"),
    "koi-cat-0123456789": principal("cat", frozenset({"painter"})),
}
STANDING = LimitSnapshot(
    (
        LimitStatus(ScopeKind.USER, "ann", LimitKind.REQUESTS, LimitWindow.MINUTE, 60, 1, 0, 1),
        LimitStatus(ScopeKind.USER, "ann", LimitKind.IMAGES, LimitWindow.DAY, 100, 3, 2, 3600),
        LimitStatus(ScopeKind.TEAM, "art", LimitKind.IMAGES, LimitWindow.MONTH, 5000, 3, 2, 90_000),
        LimitStatus(
            ScopeKind.USER, "ann", LimitKind.MONEY, LimitWindow.DAY, 10_000_000, 140_000, 0, 3600
        ),
        LimitStatus(ScopeKind.USER, "ann", LimitKind.CONCURRENCY, LimitWindow.NOW, None, 0, 1, 0),
    )
)


@dataclass
class Stage:
    """What happens next, and what happened. `delay_s` is how long a job takes; from `ends_at` on
    pictures cannot be read any more, because they are gone or for `ends_in`."""

    delay_s: float = 0.0
    refuse: Exception | None = None
    end: FailureNote | None = None
    cache: CacheOutcome = CacheOutcome.MISS
    store_away: bool = False
    ends_at: int | None = None
    ends_in: Exception | None = None
    reads: int = 0
    picture: bytes = PNG
    micros: int | None = 280_000
    asked: list[GenerateCommand] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    received: list[str] = field(default_factory=list)
    questions: list[UsageQuery] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    observed: list[tuple[Any, ...]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    steering: int = 0
    able: bool = True

    def reset(self) -> None:
        fresh = Stage()
        for name in (f.name for f in dataclasses.fields(self)):
            setattr(self, name, getattr(fresh, name))

    async def authenticate(self, secret: str) -> Principal:
        if secret not in KEYS:
            raise InvalidApiKey
        return KEYS[secret]


@dataclass
class Generate:
    stage: Stage
    catalog: Catalog
    waited_s: dict[str, float] = field(default_factory=dict)

    async def start(
        self, caller: Principal, ask: GenerateCommand, _: Callable[[], bool] = lambda: True
    ) -> StartedJob:
        if self.stage.refuse is not None:
            raise self.stage.refuse
        model = self.catalog.find(ask.request.model)
        if model is None or not caller.may_use(model.name):
            raise ModelNotFound("no", param="model")
        self.stage.asked.append(ask)
        job = self._job(caller, ask)
        if self.stage.cache is CacheOutcome.HIT:
            job = finished(job, self.stage.end)
        self.stage.jobs[job.id] = job
        return StartedJob(job, STANDING, self.stage.cache, age_s=7, ttl_s=3593, stored=True)

    async def wait_for_end(self, started: StartedJob, wait_s: float) -> EndedJob | None:
        waited_s = min(self.stage.delay_s, wait_s)
        await asyncio.sleep(waited_s)
        self.waited_s[started.job.id] = waited_s
        if waited_s < self.stage.delay_s:
            return None
        return EndedJob(finished(started.job, self.stage.end), 0.0)

    async def wait_for_images(self, started: StartedJob, wait_s: float) -> FinishedJob:
        if not started.job.ended:
            left_s = self.stage.delay_s - self.waited_s.get(started.job.id, 0)
            await asyncio.sleep(min(left_s, wait_s))
            if left_s > wait_s:
                raise StillProcessing("Still at it.", task_id=started.job.id)
        job = finished(started.job, self.stage.end)
        self.stage.jobs[job.id] = job
        if job.failure is not None:
            raise GenerationFailed(job.failure, task_id=job.id)
        return FinishedJob(job, STANDING, self.stage.delay_s)

    async def abandon(self, started: StartedJob) -> None:
        self.stage.abandoned.append(started.job.id)

    def received(self, started: StartedJob) -> None:
        self.stage.received.append(started.job.id)

    def close(self, started: StartedJob) -> None:
        pass

    def _job(self, caller: Principal, ask: GenerateCommand) -> Job:
        request = ask.request
        return Job(
            id=new_job_id(),
            key_id=caller.key_id,
            user=caller.user,
            team=caller.team,
            pool=caller.pool,
            model=request.model,
            n=request.n,
            size=request.size,
            quality=request.quality,
            unit_micros=None,
            created_ms=NOW * 1000,
            response_format=ask.response_format,
        )


def finished(job: Job, failure: FailureNote | None) -> Job:
    if failure is not None:
        return dataclasses.replace(
            job, state=JobState.RELEASED, status=TaskStatus.FAILED, failure=failure
        )
    pictures = tuple(
        Picture(f"{picture_stem(job.id, 0, index)}.png", "image/png", 1024, 1024, "a koi, revised")
        for index in range(job.n)
    )
    return dataclasses.replace(
        job, state=JobState.SETTLED, status=TaskStatus.COMPLETED, progress=100, pictures=pictures
    )


def sliced(body: bytes, name: str, at: int = 0, most: int = SLICE_BYTES) -> ImageSlice:
    return ImageSlice(body[at : at + most], media_type_of(name) or "", len(body))


@dataclass
class Tasks:
    stage: Stage

    async def read(self, caller: Principal, task_id: str, wait_s: float = 0) -> Job:
        job = self.stage.jobs.get(task_id)
        if job is None or job.user != caller.user:
            raise TaskNotFound
        if not job.ended and wait_s:
            await asyncio.sleep(min(self.stage.delay_s, wait_s))
            if self.stage.delay_s <= wait_s:
                job = self.stage.jobs[task_id] = finished(job, self.stage.end)
        return job

    async def list(self, caller: Principal, query: TaskQuery) -> TaskPage:
        own = [job for job in self.stage.jobs.values() if job.user == caller.user]
        return TaskPage(own[: query.limit], len(own) > query.limit)

    async def cancel(self, caller: Principal, task_id: str) -> Job:
        job = await self.read(caller, task_id)
        if job.ended:
            raise TaskNotCancellable("It has ended.")
        note = FailureNote("task_cancelled", "Cancelled.")
        self.stage.jobs[task_id] = finished(job, note)
        return self.stage.jobs[task_id]

    async def picture(self, caller: Principal | None, name: str) -> ImageSlice:
        for job in self.stage.jobs.values():
            mine = caller is None or caller.user == job.user
            if mine and any(picture.name == name for picture in job.pictures):
                return sliced(self.stage.picture, name)
        raise ImageNotFound


@dataclass
class Usage:
    stage: Stage

    async def read_limits(self, _caller: Principal) -> LimitSnapshot:
        return STANDING

    recall_limits = read_limits

    async def report(self, question: UsageQuery) -> tuple[UsageBucket, ...]:
        self.stage.questions.append(question)
        row = UsageRow(images=2, delivered=2, requests=1, micros=self.stage.micros)
        named = {name: f"some-{name}" for name in question.by}
        width = question.bucket_ms or 1
        return (
            UsageBucket(
                question.since_ms, question.since_ms + width, (dataclasses.replace(row, **named),)
            ),
        )


@dataclass
class Pictures:
    stage: Stage

    async def read(self, name: str, at: int = 0, most: int = SLICE_BYTES) -> ImageSlice | None:
        self.stage.reads += 1
        if self.stage.store_away:
            raise ImageStoreUnavailable("gone fishing")
        if self.stage.ends_at is not None and at >= self.stage.ends_at:
            if self.stage.ends_in is not None:
                raise self.stage.ends_in
            return None
        return sliced(self.stage.picture, name, at, most)

    async def get(self, name: str) -> ImageContent | None:
        found = await self.read(name)
        return found and ImageContent(self.stage.picture, found.media_type)


class Links:
    def sign(self, name: str) -> str:
        return f"exp={int(time.time()) + 600}&sig=s-{name[4:12]}"

    def verify(self, name: str, exp: str, sig: str) -> bool:
        return exp.isdecimal() and int(exp) > time.time() and sig == f"s-{name[4:12]}"


@dataclass
class Meters:
    stage: Stage
    content_type: str = "text/plain; version=0.0.4; charset=utf-8"

    def render(self) -> bytes:
        return b"koi_requests_total 1\n"

    def observe_request(self, *request: Any) -> None:
        self.stage.observed.append(request)

    def in_flight(self, delta: int) -> None:
        assert delta in (1, -1)

    def refused(self, code: str) -> None:
        self.stage.refusals.append(code)

    def egress_override(self) -> None:
        self.stage.steering += 1


class NoAdminKeys:
    async def authenticate(self, _secret: str) -> None:
        return None

    async def authenticate_digest(self, _digest: str) -> None:
        return None


class NoSessions:
    async def find(self, _token: str) -> None:
        return None


@dataclass
class StandIn:
    """Has what `app.wiring.gateway.RunningGateway` has."""

    gateway: Gateway
    edge_settings: EdgeSettings
    metrics: Meters
    stage: Stage

    async def readiness(self) -> tuple[bool, dict[str, str]]:
        return self.stage.able, {"ledger": "ok" if self.stage.able else "away"}

    def is_alive(self) -> bool:
        return True


def catalog() -> Catalog:
    text = (Path(app.__file__).parent / "catalog.toml").read_text(encoding="utf-8")
    return parse_catalog(text + MODELS)


class Forgetful(KeyRateLimiter):
    """What one test is refused, the next one is not."""

    def remember_refusal(self, principal: Principal, refusal: RateLimited) -> None:
        pass


def stand_in(stage: Stage, edge_settings: EdgeSettings) -> StandIn:
    offer = catalog()
    gateway: Any = Gateway(
        catalog=offer,
        authenticate=stage.authenticate,  # type: ignore[arg-type]
        generate=Generate(stage, offer),  # type: ignore[arg-type]
        estimate=None,  # type: ignore[arg-type]
        tasks=Tasks(stage),  # type: ignore[arg-type]
        usage=Usage(stage),  # type: ignore[arg-type]
        keys=None,  # type: ignore[arg-type]
        admin_keys=NoAdminKeys(),  # type: ignore[arg-type]
        holder_keys=None,  # type: ignore[arg-type]
        sign_in=None,
        sessions=NoSessions(),  # type: ignore[arg-type]
        audit_log=None,  # type: ignore[arg-type]
        operations=None,  # type: ignore[arg-type]
        notices=None,  # type: ignore[arg-type]
        spend_alerts=None,  # type: ignore[arg-type]
        invitations=None,  # type: ignore[arg-type]
        webhooks=Webhooks(None, HttpWebhookPoster(), None, 0),  # type: ignore[arg-type]
        backups=None,  # type: ignore[arg-type]
        downloaded_backups=None,  # type: ignore[arg-type]
        house=Limits(),
        zone=ZoneInfo("UTC"),
        pictures=Pictures(stage),  # type: ignore[arg-type]
        previews=None,  # type: ignore[arg-type]
        references=None,  # type: ignore[arg-type]
        budget=MemoryBudget(64 << 20),
        serving=MemoryBudget(2 << 20),
        links=Links(),
        background=BackgroundTasks(lambda _name, _error: None),
        rate_limiter=Forgetful(0, 0),
        waiting_cap=WaitingCap(None),
        answers=KeyedSemaphore(8, 1),
        downloads=KeyedSemaphore(8, 1),
    )
    return StandIn(gateway, edge_settings, Meters(stage), stage)


def opener(stage: Stage, edge_settings: EdgeSettings) -> Any:
    @asynccontextmanager
    async def open_gateway() -> AsyncIterator[StandIn]:
        yield stand_in(stage, edge_settings)

    return open_gateway
