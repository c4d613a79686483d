"""The values the ledger takes and gives: admissions, claims, settlements, entries, audits."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.domain.attribution import Attribution
from app.domain.images import GenerationRequest, Picture, digest
from app.domain.job import CacheVariant, Job, JobState, PendingImage
from app.domain.limits import LimitSnapshot
from app.domain.principal import Principal
from app.domain.webhooks import WebhookTarget

PollRooms = Mapping[str | None, int]
"""How many polls there is room for, by provider; None is the main one."""


class CallerPresence(StrEnum):
    """What is known of an earlier caller: it still waits or has its answer, it hung up, or the
    process that serves it does not answer."""

    CONNECTED = "here"
    DISCONNECTED = "left"
    UNRESPONSIVE = "silent"


@dataclass(frozen=True, slots=True)
class DedupKeys:
    """How a request may be recognised as a repeat of an earlier one (decision 21).

    `body` is the digest of the canonical request body; `idempotency_key` the caller's own key
    digested with the user; `is_sdk_retry` is true when the SDK says this is a retry
    (`x-stainless-retry-count` > 0); `fresh` when no earlier failure will do (`no-cache`).
    `caller_id` names this request. `callers` is what is known of earlier callers, by id; None: they
    are not asked.
    """

    body: str
    idempotency_key: str | None = None
    is_sdk_retry: bool = False
    fresh: bool = False
    caller_id: str | None = None
    callers: Mapping[str, CallerPresence] | None = None


class PossibleDuplicate(Exception):
    """This may repeat a request of one of these callers: ask whether they are still connected."""

    def __init__(self, calls: tuple[str, ...]) -> None:
        super().__init__(*calls)
        self.calls = calls


@dataclass(frozen=True, slots=True)
class AnswerReceipt:
    """A caller was sent its whole answer about a job."""

    job_id: str
    caller_id: str


@dataclass(frozen=True, slots=True)
class RateLimitCheck:
    """A request within its rate limits. `duplicate_of` is the job that an earlier identical request
    started."""

    limit_snapshot: LimitSnapshot
    duplicate_of: str | None = None


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """Everything admission needs to open a job.

    `part_sizes` are the images asked of each upstream call; `lease_ms` is how long the
    reservation may stay undispatched; `response_format` is what the caller asked for, so that a
    task read later is answered alike; `rate_limit_checked` is false when the request is still to be
    counted against its rate, `request_counted` when it is against its day. `request_id` names the
    request in the log, for every later line about the job; `webhook` is told of the job's end;
    `provider` makes its images, None for the main one; `attribution` is for whom and what it is.
    """

    job_id: str
    principal: Principal
    request: GenerationRequest
    part_sizes: tuple[int, ...]
    unit_micros: int | None
    dedup_keys: DedupKeys
    lease_ms: int
    cache_variant: CacheVariant | None = None
    response_format: str | None = None
    rate_limit_checked: bool = True
    request_counted: bool = True
    request_id: str | None = None
    webhook: WebhookTarget | None = None
    attribution: Attribution | None = None
    provider: str | None = None

    @property
    def micros(self) -> int | None:
        return None if self.unit_micros is None else self.unit_micros * self.request.n


@dataclass(frozen=True, slots=True)
class AdmissionResult:
    """The job to wait for: a new one, or (`joined`) the one this request repeats."""

    job: Job
    limit_snapshot: LimitSnapshot
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling did. `first` is false when the job had been settled before: nothing moved."""

    job: Job
    first: bool


@dataclass(frozen=True, slots=True)
class JobClaim:
    """A due job, leased to this process for one step.

    By the store's clock, `late_ms` is how overdue it was, `age_ms` how long ago it was dispatched
    (or admitted, if it was not): this machine's own clock may be wrong.
    """

    job: Job
    token: int
    late_ms: int
    age_ms: int

    @property
    def now_ms(self) -> int:
        """The store's clock when it was claimed."""
        job = self.job
        return self.age_ms + (job.created_ms if job.dispatched_ms is None else job.dispatched_ms)


@dataclass(frozen=True, slots=True)
class CollectionClaim:
    """A job whose images are due for another try, leased to this process. `tries` counts this one:
    it is counted before it is made. `now_ms` is the store's clock."""

    job: Job
    tries: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class CollectionTimings:
    """When a job is due for the next try: `first_ms` after the first one, doubling up to
    `max_ms`, never sooner than `lease_ms`."""

    first_ms: int
    max_ms: int
    lease_ms: int

    def delay_ms(self, tries: int) -> int:
        return min(self.first_ms << min(max(tries - 1, 0), 30), self.max_ms)


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """What became of a job's pending images: those now in our store, those `lost` for good, and
    `links` that replace older ones. `error` is why some are still missing. `tried` had their quick
    tries: once all pending images had, a caller that has some waits no more. The next try is due
    after `due_ms`. `denied` says of each part whose task was polled whether the task has failed."""

    pictures: tuple[tuple[PendingImage, Picture], ...] = ()
    lost: tuple[PendingImage, ...] = ()
    links: tuple[PendingImage, ...] = ()
    error: str | None = None
    tried: tuple[PendingImage, ...] = ()
    due_ms: int = 0
    denied: tuple[tuple[int, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class CollectionResult:
    """What a report changed: how many `pictures` are new and how many images newly `lost`; `ended`
    when the task ended by it."""

    job: Job
    pictures: int = 0
    lost: int = 0
    ended: bool = False


class EntryKind(StrEnum):
    SETTLE = "settle"
    RELEASE = "release"
    ADJUST = "adjust"
    DELIVERY = "delivery"
    """Charges nothing. `delivered` is negative for images that were given up after the settlement,
    positive when one of those came."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the append-only ledger: the only truth about what was used.

    `images` and `micros` are charged amounts (adjustments may be negative; `micros` None where
    the price is unknown); `delivered` images were handed over by the provider when the job was
    settled: in our store or on their way; `day` and `month` are the windows of the reservation;
    `at_ms` is the store's clock when it was written. `id` grows monotonically.

    `surplus` images were made beyond what was asked and cost the house `surplus_micros`, 0 also
    where the price is unknown.

    For the provider's bill: `calls` are its names for the upstream calls, `dispatched_ms` is when
    they were sent, `asked` how many images they were to make, `provider` whose bill it is (None for
    the main one); a correction has none of them. `attribution` is for whom and what the job was.
    """

    id: str
    kind: EntryKind
    at_ms: int
    job: str
    key: str
    user: str
    team: str | None
    model: str
    size: str
    quality: str
    images: int
    micros: int | None
    delivered: int
    presumed: int
    surplus: int
    day: str
    month: str
    proof: str | None = None
    code: str | None = None
    note: str | None = None
    calls: tuple[str, ...] = ()
    dispatched_ms: int | None = None
    asked: int | None = None
    surplus_micros: int = 0
    attribution: Attribution | None = None
    provider: str | None = None


def correction_id(job_id: str, newest: str) -> str:
    """The id under which a job is corrected, drawn from its `newest` entry that charges or gives
    back: what was judged by one state of a job is entered once, whoever judges."""
    return digest("correction", job_id, newest)


@dataclass(frozen=True, slots=True)
class OpenJobStats:
    """The open jobs by state, and the images and micro-units they hold. `lag_ms` is how overdue the
    oldest is; `collecting` counts settled jobs with images still to be downloaded."""

    jobs: dict[JobState, int]
    held_images: int
    held_micros: int
    lag_ms: int
    collecting: int = 0


@dataclass(frozen=True, slots=True)
class CounterDifference:
    """A counter that disagrees with the ledger."""

    scope: str
    window: str
    field: str
    counter: int
    ledger: int


@dataclass(frozen=True, slots=True)
class LedgerAudit:
    """The result of recomputing every counter from the ledger and the open jobs."""

    entries: int
    open_jobs: int
    counters: int
    differences: tuple[CounterDifference, ...]
    unread: tuple[str, ...] = ()
    """Months that a full audit could not compare: their entries are in files on other machines."""

    @property
    def difference(self) -> int:
        return sum(abs(d.counter - d.ledger) for d in self.differences)
