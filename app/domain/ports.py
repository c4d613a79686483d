"""What the use cases need from the world. Each port says what happens when its world is away.

The port by which the processes of a deployment hear of each other.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from app.domain.cache import CacheControl, CacheLookup
from app.domain.images import GenerationRequest, Picture
from app.domain.job import CacheVariant, Job, Outcome, PartResult, PollAnomalyKind, TaskStatus
from app.domain.ledger import (
    AdmissionRequest,
    AdmissionResult,
    AnswerReceipt,
    CollectionClaim,
    CollectionReport,
    CollectionResult,
    CollectionTimings,
    DedupKeys,
    Entry,
    JobClaim,
    LedgerAudit,
    OpenJobStats,
    RateLimitCheck,
    Settlement,
)
from app.domain.limits import LimitSnapshot
from app.domain.media import ImageDraft, ImageFetcher, ImageLinks, ImageStore
from app.domain.principal import KeyRing, Principal
from app.domain.queries import TaskPage, TaskQuery
from app.domain.upstream import UpstreamAnswer, UpstreamLimiter


class Ledger(Protocol):
    """Quotas, jobs and their settlement, as one book. Closed: raises `LedgerUnavailable`.

    Every method is atomic and safe to repeat with the same arguments.
    """

    async def check_rate_limit(
        self, principal: Principal, dedup_keys: DedupKeys, *, rate_limit_checked: bool = False
    ) -> RateLimitCheck:
        """Count one request against every pace (GCRA) and look for the job it repeats.

        A request asked about again is counted once: `paced`. Raises `RateLimited`,
        `IdempotencyKeyReused`; `Contested` when it may be a repeat and its pace is counted.
        """

    async def admit(self, admission: AdmissionRequest) -> AdmissionResult:
        """Reserve images, money and concurrency of all scopes, all or nothing, and open the job.

        Joins instead of opening when the order repeats an earlier one. Counts the request's pace
        too when it has not arrived before (no cache to ask in between).
        Raises `RateLimited`, `InsufficientQuota`, `ConcurrencyLimited`, `IdempotencyKeyReused`;
        `Contested` when it may be a repeat: from then on it has arrived.
        """

    async def dispatch(self, job_id: str, lease_ms: int) -> bool:
        """RESERVED -> DISPATCHED, due again after `lease_ms`; false when it is not RESERVED."""

    async def record_part(
        self,
        job_id: str,
        part: int,
        *,
        upstream_id: str | None = None,
        request_id: str | None = None,
        result: PartResult | None = None,
        due_ms: int,
    ) -> bool:
        """Write down how far a part is; false when the upstream id belongs to another job."""

    async def reschedule(
        self,
        claim: JobClaim,
        *,
        due_ms: int,
        status: TaskStatus | None = None,
        progress: int | None = None,
        anomalies: Mapping[int, PollAnomalyKind | None] | None = None,
    ) -> bool:
        """Give a claimed job back, due again after `due_ms`; false when the lease was lost.

        Progress only rises. `anomalies` are what this look said against parts, None for a task that
        answered well; they are counted in the job."""

    async def settle(
        self,
        job_id: str,
        outcome: Outcome,
        *,
        hold_ms: int = 0,
        recheck_ms: int | None = None,
        collect_ms: int = 0,
    ) -> Settlement:
        """End a job: counters, ledger entry, replay record and task, in one write, once.

        An UNKNOWN outcome answers the caller and keeps the reservation, due after `hold_ms`, or
        `recheck_ms` while the provider can be asked; it may be settled again with proof. Pending
        images are due for a try by anybody after `collect_ms`. Raises `TaskNotFound`.
        """

    async def claim_collections(
        self, limit: int, timings: CollectionTimings
    ) -> Sequence[CollectionClaim]:
        """Lease settled jobs whose images are due for a try, counted before it is made."""

    async def record_collection(self, job_id: str, report: CollectionReport) -> CollectionResult:
        """Write down what became of pending images, each once; the task ends with the last one, or
        once some are there and the others were tried in vain. Pictures may come before the job is
        settled, and after they were given up. Raises `TaskNotFound`."""

    async def cancel(self, job_id: str) -> Settlement | None:
        """RESERVED -> RELEASED, without an entry: nothing was used. None when it was dispatched."""

    async def claim(self, limit: int, lease_ms: int) -> Sequence[JobClaim]:
        """Lease jobs that are due, the most overdue first; no other process gets them meanwhile."""

    async def claim_with_polls(
        self, limit: int, lease_ms: int, polls: int
    ) -> tuple[list[JobClaim], int]:
        """The same with room for so many polls, in order of age; a job in parts takes what is left.
        Who needs no poll is not held up. Also says how many polls are due still."""

    async def job(self, job_id: str) -> Job | None: ...

    async def filter_open(self, job_ids: Sequence[str]) -> frozenset[str]:
        """Those of these jobs that still are to be sent or run at the provider (R or D).

        Raises `LedgerUnavailable` also while the books are known to be lost: nothing is known then.
        """

    async def list_jobs(self, user: str, limit: int) -> Sequence[Job]:
        """A user's own jobs, newest first."""

    async def bind_idempotency_key(
        self, principal: Principal, dedup_keys: DedupKeys, job_id: str
    ) -> None:
        """Let the repeat's Idempotency-Key mean a job that the cache answered with, unless its user
        had as many of these within the hour as are kept."""

    async def abandon(self, job_id: str, caller_id: str | None = None) -> None:
        """The caller who holds the job left: the next identical request of its key joins."""

    async def save_receipts(self, receipts: Sequence[AnswerReceipt]) -> None:
        """Callers were sent their whole answers: no retry of theirs is to come."""

    async def find_owner(self, picture: str) -> tuple[str, str] | None:
        """The user and pool a stored picture was made for; None when unknown or expired."""

    async def read_limits(self, principal: Principal) -> LimitSnapshot:
        """Every allowance of the principal, unlimited ones too."""

    async def adjust(self, entry: Entry) -> Entry:
        """Append a correction (kind ADJUST) and move the counters of its windows with it."""

    def entries(self, since_ms: int = 0, until_ms: int | None = None) -> AsyncIterator[Entry]:
        """The ledger in order, by time written."""

    async def audit(self) -> LedgerAudit: ...

    async def open_job_stats(self) -> OpenJobStats: ...


class TaskList(Protocol):
    """A user's own tasks, cheaply. Closed: raises `LedgerUnavailable`."""

    async def list_page(self, user: str, query: TaskQuery) -> TaskPage | None:
        """None when the task it is to follow is none of the user's, or not listed any more."""


class ResultCache(Protocol):
    """Pictures by fingerprint and slot. Open: when its store is away every answer is a bypass."""

    async def look_up(
        self,
        fingerprint: str,
        job_id: str,
        control: CacheControl,
        *,
        repeated: bool = False,
        instead_of: str | None = None,
    ) -> CacheLookup:
        """A `repeated` request is the latest one over again, not another wish: same slot.

        `instead_of` is a job that was said to make the picture and does not: of all who say so,
        exactly one gets its slot, and the others join that one.
        """

    async def fill(self, variant: CacheVariant, job_id: str, pictures: Sequence[Picture]) -> None:
        """Fill a slot that this job was making."""

    async def evict(self, variant: CacheVariant, job_id: str) -> None:
        """Free a slot that this job was making, or whose pictures are gone."""


class ImageProvider(Protocol):
    """The provider. Raises `UpstreamError` with its proof; `PollTroubled` for a failed poll."""

    async def dispatch(self, request: GenerationRequest, *, asynchronous: bool) -> UpstreamAnswer:
        """The one call that may cost money. Never repeated unless no byte was sent."""

    async def poll(self, upstream_id: str) -> UpstreamAnswer: ...


class MetricsRecorder(Protocol):
    """What the use cases report for metrics. Never raises, never decides anything."""

    def cached(self, outcome: str, model: str, images: int) -> None:
        """Outcome hit, miss, joined or bypass; `images` not bought thanks to it."""

    def queued(self, seconds: float) -> None:
        """Time between admission and dispatch."""

    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        """Operation generate, submit, poll or fetch; outcome ok or a failure code."""

    def settled(self, job: Job, outcome: Outcome) -> None: ...

    def record_collection(self, done: CollectionResult) -> None:
        """Pictures that came after their job was settled, and images given up."""

    def polled(self, late_s: float) -> None: ...

    def polls_waiting(self, polls: int) -> None:
        """Polls that are due and for which there was no room."""

    def settlement_lost(self) -> None: ...

    def outbox_delivery_failed(self, message: str, error: Exception) -> None:
        """The store did not take what it is owed, and not because it is away; tried again."""

    def loop_failed(self, loop: str) -> None: ...


__all__ = [
    "ImageDraft",
    "ImageFetcher",
    "ImageLinks",
    "ImageProvider",
    "ImageStore",
    "KeyRing",
    "Ledger",
    "MetricsRecorder",
    "ResultCache",
    "SignalBus",
    "UpstreamLimiter",
]


class SignalBus(Protocol):
    """Word that a job ended, from whichever process ended it. Open: a lost signal only delays."""

    def ended(self) -> AsyncIterator[str | None]:
        """Job ids as they end; None when some may have been missed. For as long as it is asked."""

    async def publish(self, message: str) -> int:
        """Say something to every process that serves callers, this one too; how many listen.

        Raises `LedgerUnavailable`.
        """

    def caller_messages(self) -> AsyncIterator[str]:
        """What processes say, for as long as it is asked."""
