"""A job: the durable record of one request, which outlives its connection, and how it ends."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.attribution import Attribution
from app.domain.copies import copy_with
from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import Picture, digest
from app.domain.upstream_ids import encode_call_id


class JobState(StrEnum):
    """What a job means for money. The letters are what the store keeps."""

    RESERVED = "R"
    """Images and money are held; nothing was sent. Ends RELEASED when its lease lapses."""
    DISPATCHED = "D"
    """Recorded before the request is sent. From here on, a lost answer may mean a bill."""
    UNKNOWN = "U"
    """Nobody knows whether it was billed: held until evidence comes, then presumed billed."""
    SETTLED = "S"
    """Charged."""
    RELEASED = "X"
    """Free."""

    @property
    def terminal(self) -> bool:
        return self in (JobState.SETTLED, JobState.RELEASED)


OPEN_STATES = tuple(state for state in JobState if not state.terminal)
"""Those in which images and money are held."""


class TaskStatus(StrEnum):
    """What a caller sees.

    COLLECTING: the provider made the images and they are charged, but none of them is in our store
    yet; their links are kept and tried again (`Job.pending`).
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
    """One upstream call of a job, which asks for `n` images.

    `upstream_id` is the provider's task id and `request_id` its name for the POST. Its bill may use
    either; callers see neither. `result` is set once the part has ended. `anomaly` is what the
    latest polls said against the task, until one says otherwise. `denied` counts the polls in a row
    that called the task failed after it had shown its images.
    """

    n: int
    upstream_id: str | None = None
    result: "PartResult | None" = None
    request_id: str | None = None
    anomaly: "PollAnomaly | None" = None
    denied: int = 0

    @property
    def calls(self) -> tuple[str, ...]:
        ids = (self.upstream_id, self.request_id)
        return tuple(encode_call_id(id) for id in ids if id is not None)


class PollAnomalyKind(StrEnum):
    """What a poll may say against a task that the provider had accepted."""

    MISSING = "missing"
    """The provider does not know it (any more)."""
    EMPTY = "empty"
    """The task is completed and shows no image."""


@dataclass(frozen=True, slots=True)
class PollAnomaly:
    """`polls` polls in a row said `kind`, the first at `since_ms` (Unix ms, the store's clock)."""

    kind: PollAnomalyKind
    polls: int
    since_ms: int


@dataclass(frozen=True, slots=True)
class PendingImage:
    """The link of an image that the provider made and that is not in our store yet.

    `part` and `index` say which of the job's images it is (`picture_stem`). `expires_ms` is Unix
    milliseconds, None when the link does not say when it ends. An empty `url` means that the image
    came as bytes that our store did not take. If the part has a task, the provider may show it
    again; otherwise it is only in the memory of the process that received it.
    """

    part: int
    index: int
    url: str
    revised_prompt: str | None = None
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PartResult:
    """How one upstream call ended.

    `images` counts what the provider made (and bills); `pictures` are those in our store now,
    `pending` those still to be downloaded. A failure has its evidence in `proof`; a success has
    none.
    """

    images: int = 0
    pictures: tuple[Picture, ...] = ()
    failure: FailureNote | None = None
    proof: BillingEvidence | None = None
    pending: tuple[PendingImage, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectionProgress:
    """How far the download of a job's pending images is: since when (the settlement, Unix ms by the
    store's clock), after how many tries, and why the latest one failed (never with a link)."""

    since_ms: int
    tries: int = 0
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class CacheVariant:
    """The cache entry that a job fills: the `index`-th picture kept for one fingerprint."""

    fingerprint: str
    index: int


@dataclass(frozen=True, slots=True)
class Job:
    """The durable record of one request.

    Times are Unix milliseconds of the store's clock. `unit_micros` is the price of one image, None
    when unknown. `pool` says who may see the job beside its user. `calls` are the provider's names
    for its upstream calls, for the operator only. `pending` images are still to be downloaded;
    `collecting` says how that goes or went. `request_id` names its request in answers and logs,
    `attribution` for whom that was, `deleted` the pictures that its user deleted. `provider` has
    the job's tasks, whatever the catalog says later; None for the main one.
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
    deleted: tuple[str, ...] = ()
    attribution: Attribution | None = None
    provider: str | None = None

    @property
    def pictures_left(self) -> tuple[Picture, ...]:
        """Without those that its user has deleted."""
        return tuple(picture for picture in self.pictures if picture.name not in self.deleted)

    @property
    def ended(self) -> bool:
        """Whether the caller's answer is final (in UNKNOWN the money may still be held)."""
        return self.status.terminal

    @property
    def is_complete(self) -> bool:
        """Whether every image that was asked for is in our store."""
        return self.status is TaskStatus.COMPLETED and len(self.pictures) >= self.n

    def after(
        self, outcome: "Outcome", *, ended_ms: int | None = None, dispatched_ms: int | None = None
    ) -> "Job":
        """The job as it ended."""
        return copy_with(
            self,
            state=outcome.state,
            status=outcome.status,
            progress=100 if outcome.status is TaskStatus.COMPLETED else self.progress,
            dispatched_ms=dispatched_ms or self.dispatched_ms,
            ended_ms=ended_ms or self.ended_ms,
            pictures=outcome.pictures,
            billed=outcome.billed,
            failure=outcome.failure,
            calls=outcome.calls or self.calls,
            pending=outcome.pending,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job's end means for the ledger and for the caller.

    `state` is SETTLED, RELEASED or UNKNOWN. `billed` images are charged (0..n), of which
    `presumed` without evidence; `surplus` images were made beyond n and are charged to the house.
    `calls` are the provider's names for the upstream calls. `pending` images were made and are
    still to be downloaded: while there are any, the job is collecting.
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
        """How many images were made and are given up. A charged refusal made none."""
        if self.failure is not None and self.failure.code != "image_unavailable":
            return 0
        return max(self.billed - self.presumed - len(self.pictures) - len(self.pending), 0)

    @property
    def status(self) -> TaskStatus:
        ended = TaskStatus.COMPLETED if self.failure is None else TaskStatus.FAILED
        return TaskStatus.COLLECTING if self.pending else ended


def new_job_id() -> str:
    """A task id of 128 random bits, in the provider's spelling (`task_…`)."""
    return f"task_{secrets.token_hex(16)}"


def picture_stem(job_id: str, part: int, index: int) -> str:
    """The name of a job's picture without extension. It is always the same, so that a second
    download replaces the first; and it cannot be guessed, because the job id cannot."""
    return f"img_{digest(job_id, part, index)[:32]}"


def in_image_order(
    job_id: str, parts: Sequence[JobPart], pictures: Sequence[Picture]
) -> list[Picture]:
    """Pictures in the order of the job's images, in whatever order they came."""
    positions = ((part, index) for part, of in enumerate(parts) for index in range(of.n))
    order = {picture_stem(job_id, *position): rank for rank, position in enumerate(positions)}
    return sorted(pictures, key=lambda picture: order.get(picture.name.partition(".")[0], -1))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a caller has fewer pictures than it `asked` for; `pending` ones are still downloaded, to
    be added to the same task. `reason` never holds a link."""

    asked: int
    delivered: int
    pending: int
    reason: str


def find_shortfall(job: Job) -> Shortfall | None:
    """None for a job with all its pictures, and for one that has not ended or has failed."""
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
