"""A job: one request's life in the gateway, socket or not, and what its end means for money.

What a caller is told when it has fewer pictures than it asked for.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import Picture, digest
from app.domain.upstream_ids import encode_call_id


class JobState(StrEnum):
    """Money states of the reliability study, section 6.1."""

    RESERVED = "R"
    """Held; nothing was sent. Lapses to RELEASED."""
    DISPATCHED = "D"
    """Written before the socket is. From here on, silence may mean a bill."""
    UNKNOWN = "U"
    """Ambiguous: held until resolved, then presumed billed."""
    SETTLED = "S"
    RELEASED = "X"

    @property
    def terminal(self) -> bool:
        return self in (JobState.SETTLED, JobState.RELEASED)


class TaskStatus(StrEnum):
    """What a caller sees (provider's page: queued, processing; design 1: completed, failed).

    COLLECTING: the provider made the images and they are charged, but none of them has reached our
    store yet; their links are kept and tried again (`Job.pending`).
    """

    QUEUED = "queued"
    PROCESSING = "processing"
    COLLECTING = "collecting"
    COMPLETED = "completed"
    FAILED = "failed"

    @property
    def terminal(self) -> bool:
        return self in (TaskStatus.COMPLETED, TaskStatus.FAILED)


@dataclass(frozen=True, slots=True)
class JobPart:
    """One upstream call of a job. `n` images asked of it.

    `upstream_id` is the provider's task id and `request_id` its name for the POST, by either of
    which its bill may call it; never shown to a caller. `result` is set once the part has ended;
    `anomaly` is what the latest polls said against the task, until one says otherwise; `denied` is
    how many polls in a row said that it failed after it had shown its images.
    """

    n: int
    upstream_id: str | None = None
    result: "PartResult | None" = None
    request_id: str | None = None
    anomaly: "PollAnomaly | None" = None
    denied: int = 0

    @property
    def calls(self) -> tuple[str, ...]:
        return tuple(
            encode_call_id(id) for id in (self.upstream_id, self.request_id) if id is not None
        )


class PollAnomalyKind(StrEnum):
    """What a poll may say against a task that the provider had taken."""

    MISSING = "missing"
    """The provider does not know it (any more)."""
    EMPTY = "empty"
    """It is completed and shows no image."""


@dataclass(frozen=True, slots=True)
class PollAnomaly:
    """So many polls in a row said so, the first one at `since_ms` (Unix ms, the store's clock)."""

    kind: PollAnomalyKind
    polls: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class PendingImage:
    """The link of an image that the provider made and that is not in our store yet.

    `part` and `index` name its place among the job's images (`picture_stem`). `expires_ms` is Unix
    milliseconds, None when the link does not say how long it lives. An empty `url`: the image came
    as bytes that our store did not take. The provider's task may show it again, if the part has
    one; otherwise it is in the memory of the process that received it and nowhere else.
    """

    part: int
    index: int
    url: str
    revised_prompt: str | None = None
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PartResult:
    """How one upstream call ended.

    `images` counts what the provider made (and bills); `pictures` are those now in our store,
    `pending` those still to be downloaded. A failure carries its proof class; success has none.
    """

    images: int = 0
    pictures: tuple[Picture, ...] = ()
    failure: FailureNote | None = None
    proof: BillingEvidence | None = None
    pending: tuple[PendingImage, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectionProgress:
    """How collecting a job's images goes: since when (its settlement, Unix ms by the store's
    clock), after how many tries, and why the latest one failed (never with a link)."""

    since_ms: int
    tries: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class CacheVariant:
    """Where a job's pictures belong in the cache once they exist."""

    fingerprint: str
    index: int


@dataclass(frozen=True, slots=True)
class Job:
    """The durable record of one request.

    Times are Unix milliseconds of the store's clock. `unit_micros` is the price of one image, or
    None when unknown. `pool` says who may see it beside its user. `calls` are the provider's names
    for its upstream calls, for the operator only. `pending` images are still to be downloaded;
    `collecting` says how that goes, also once it is over. `request_id` names the request that
    opened it, as its answer and the log do.
    """

    id: str
    key_id: str
    user: str
    team: str | None
    pool: str
    model: str
    n: int
    size: str
    quality: str
    unit_micros: int | None
    created_ms: int
    state: JobState = JobState.RESERVED
    status: TaskStatus = TaskStatus.QUEUED
    progress: int = 0
    parts: tuple[JobPart, ...] = ()
    cache_variant: CacheVariant | None = None
    dispatched_ms: int | None = None
    ended_ms: int | None = None
    pictures: tuple[Picture, ...] = ()
    billed: int = 0
    failure: FailureNote | None = None
    response_format: str | None = None
    calls: tuple[str, ...] = ()
    pending: tuple[PendingImage, ...] = ()
    collecting: CollectionProgress | None = None
    request_id: str | None = None

    @property
    def ended(self) -> bool:
        """The caller's answer is final (the money may still be held, in UNKNOWN)."""
        return self.status.terminal

    @property
    def is_complete(self) -> bool:
        """Every image that was asked for is in our store."""
        return self.status is TaskStatus.COMPLETED and len(self.pictures) >= self.n


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job's end does to the books and to the caller.

    `state` is SETTLED, RELEASED or UNKNOWN. `billed` images are charged (0..n), of which
    `presumed` without evidence; `surplus` were made beyond n and go to the house account. `calls`
    name the upstream calls as the provider's bill does. `pending` images were made and are still
    to be downloaded: while there are any, the job is collecting, whatever else is there.
    """

    state: JobState
    pictures: tuple[Picture, ...] = ()
    billed: int = 0
    presumed: int = 0
    surplus: int = 0
    proof: BillingEvidence | None = None
    failure: FailureNote | None = None
    calls: tuple[str, ...] = ()
    pending: tuple[PendingImage, ...] = ()

    @property
    def lost(self) -> int:
        """Images that were made and are given up already. A charged refusal made none."""
        if self.failure is not None and self.failure.code != "image_unavailable":
            return 0
        kept = self.presumed + len(self.pictures) + len(self.pending)
        return max(self.billed - kept, 0)

    @property
    def status(self) -> TaskStatus:
        if self.pending:
            return TaskStatus.COLLECTING
        return TaskStatus.COMPLETED if self.failure is None else TaskStatus.FAILED


def new_job_id() -> str:
    """A task id of 128 random bits, in the provider's spelling (`task_…`)."""
    return f"task_{secrets.token_hex(16)}"


def picture_stem(job_id: str, part: int, index: int) -> str:
    """The name of a job's picture without extension: repeatable, so a second collection of the
    same result overwrites instead of duplicating; unguessable, since the job id is."""
    return f"img_{digest(job_id, part, index)[:32]}"


def in_image_order(
    job_id: str, parts: Sequence[JobPart], pictures: Sequence[Picture]
) -> list[Picture]:
    """Pictures in the order of the images they are, whenever each of them came."""
    places = ((part, index) for part, of in enumerate(parts) for index in range(of.n))
    order = {picture_stem(job_id, *place): rank for rank, place in enumerate(places)}
    return sorted(pictures, key=lambda picture: order.get(picture.name.partition(".")[0], -1))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """`asked` images, of which `delivered` are here and `pending` are still being collected: they
    are added to the same task. `reason` never holds a link."""

    asked: int
    delivered: int
    pending: int
    reason: str


def find_shortfall(job: Job) -> Shortfall | None:
    """None for a job that is whole, or has not ended with pictures."""
    if job.status is not TaskStatus.COMPLETED or job.is_complete:
        return None
    here, pending = len(job.pictures), len(job.pending)
    if pending:
        why = job.collecting.last_error if job.collecting is not None else None
        reason = f"still being collected: {why or 'not downloaded yet'}"
    elif job.billed > here:
        reason = "charged, but neither the provider's link nor its task brought the rest"
    else:
        reason = "the provider made fewer images than were asked for"
    return Shortfall(job.n, here, pending, reason)
