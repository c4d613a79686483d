"""What the use cases need from outside. Each port says what happens when it does not answer."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from app.domain.administration import AuditNote
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
    PollRooms,
    RateLimitCheck,
    Settlement,
)
from app.domain.limits import LimitSnapshot
from app.domain.media import ImageDraft, ImageFetcher, ImageLinks, ImageStore
from app.domain.principal import KeyRing, Principal
from app.domain.queries import TaskPage, TaskQuery
from app.domain.upstream import UpstreamAnswer, UpstreamLimiter


class Ledger(Protocol):
    """Quotas, jobs and their settlement. Closed: raises `LedgerUnavailable` when it is away.

    Every method is atomic and safe to repeat with the same arguments.
    """

    async def check_rate_limit(
        self, principal: Principal, dedup_keys: DedupKeys, *, rate_limit_checked: bool = False
    ) -> RateLimitCheck:
        """Count one request against every rate limit (GCRA) and look for the job it repeats.

        With `rate_limit_checked` it was counted before. Raises `RateLimited`,
        `IdempotencyKeyReused`; `PossibleDuplicate` when it may be a repeat: then it is counted.
        """

    async def may_repeat(self, principal: Principal, dedup_keys: DedupKeys) -> bool:
        """False: no job is known that this request repeats. Counts and joins nothing."""

    async def admit(self, admission: AdmissionRequest) -> AdmissionResult:
        """Reserve images, money and concurrency of all scopes, all or nothing, and open the job.

        Joins instead of opening when the request repeats an earlier one. Counts the request
        against its rate limits too, unless `rate_limit_checked` (no cache was asked in between).
        Raises `RateLimited`, `InsufficientQuota`, `ConcurrencyLimited`, `IdempotencyKeyReused`,
        `SpendingStopped`, `TooManyRefusals`; `PossibleDuplicate` when it may be a repeat: then it
        is counted.
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
        """Record how far a part is; false when the upstream id belongs to another job."""

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

        Progress only rises. `anomalies` are what this step's polls found wrong with parts, None for
        a task that answered well; they are counted in the job."""

    async def settle(
        self,
        job_id: str,
        outcome: Outcome,
        *,
        hold_ms: int = 0,
        recheck_ms: int | None = None,
        collect_ms: int = 0,
        known: Job | None = None,
    ) -> Settlement:
        """End a job: counters, ledger entry, replay record and task, in one write, once. `known` is
        the job as its own process has it, which spares reading it back.

        An UNKNOWN outcome answers the caller and keeps the reservation, due after `hold_ms`, or
        `recheck_ms` while the provider can be asked; it may be settled again with proof. Pending
        images are due for a try by anybody after `collect_ms`. Raises `TaskNotFound`.
        """

    async def claim_collections(
        self, limit: int, timings: CollectionTimings
    ) -> Sequence[CollectionClaim]:
        """Lease settled jobs whose images are due for a try, which is counted before it is made."""

    async def record_collection(self, job_id: str, report: CollectionReport) -> CollectionResult:
        """Record what became of pending images, each once. The task ends with the last one, or once
        some are there and the others were tried in vain. Pictures may come before the job is
        settled, and after they were given up. Raises `TaskNotFound`."""

    async def cancel(self, job_id: str, by: AuditNote | None = None) -> Settlement | None:
        """RESERVED -> RELEASED, without an entry: nothing was used. None when it was dispatched.
        What an operator cancels adds a record to the audit log: `by` whom."""

    async def claim(self, limit: int, lease_ms: int) -> Sequence[JobClaim]:
        """Lease jobs that are due, the most overdue first; no other process gets them meanwhile."""

    async def claim_with_polls(
        self, limit: int, lease_ms: int, polls: PollRooms
    ) -> tuple[list[JobClaim], Mapping[str | None, int]]:
        """The same with room for so many polls of each provider, the most overdue jobs first; a job
        of several parts takes what is left. Jobs that need no poll do not wait, nor those of
        providers that are not named. Also returns how many polls of each are still due."""

    async def job(self, job_id: str) -> Job | None: ...

    async def filter_open(self, job_ids: Sequence[str]) -> frozenset[str]:
        """Those of these jobs that still are to be sent or run at the provider (R or D).

        Raises `LedgerDataLost` while the ledger is quarantined: nothing is known then.
        """

    async def list_jobs(self, user: str, limit: int) -> Sequence[Job]:
        """A user's own jobs, newest first."""

    async def list_unfinished(self) -> Sequence[str]:
        """The jobs that are open, then those with images pending, each by the time they are due."""

    async def bind_idempotency_key(
        self, principal: Principal, dedup_keys: DedupKeys, job_id: str
    ) -> None:
        """Let an Idempotency-Key mean a job whose pictures the cache answered with, unless its user
        had as many of these within the hour as are allowed."""

    async def abandon(self, job_id: str, caller_id: str | None = None) -> None:
        """The caller who holds the job left: the next identical request of its key joins it."""

    async def save_receipts(self, receipts: Sequence[AnswerReceipt]) -> None:
        """Callers were sent their whole answers, so no retry of theirs will come."""

    async def find_owner(self, picture: str) -> tuple[str, str] | None:
        """The user and pool a stored picture was made for; None when unknown or expired."""

    async def delete_picture(self, picture: str, user: str, job_id: str) -> bool | None:
        """Take a picture away from its user; whether others may still see it (a shared pool). None
        when it is not theirs."""

    async def read_limits(self, principal: Principal) -> LimitSnapshot:
        """How every limit of the principal stands, unlimited ones too."""

    async def adjust(self, entry: Entry, note: AuditNote | None = None) -> Entry:
        """Append a correction (kind ADJUST) and move the counters of its windows with it. `note`
        adds a record to the audit log. Under one `entry.id` one is entered; whoever comes later
        is given that one, whatever it says."""

    def entries(
        self, since_ms: int = 0, until_ms: int | None = None, *, newest_first: bool = False
    ) -> AsyncIterator[Entry]:
        """The ledger in order, by time written."""

    async def audit(self, *, full: bool = False, files: bool = True) -> LedgerAudit:
        """Compare the counters with rollups and newer entries; `full`: and the rollups with all
        entries, those in `files` of closed months included."""

    async def full_audit_due(self) -> bool:
        """Whether a full audit is due; then it is this process's to make."""

    async def open_job_stats(self) -> OpenJobStats: ...


class TaskList(Protocol):
    """A user's own tasks, cheaply. Closed: raises `LedgerUnavailable`."""

    async def list_page(self, user: str, query: TaskQuery) -> TaskPage | None:
        """None when the task the page is to follow is not the user's, or no longer listed."""


class ResultCache(Protocol):
    """Pictures by fingerprint and variant. Open: without its store every answer is a bypass."""

    async def look_up(
        self,
        fingerprint: str,
        job_id: str,
        control: CacheControl,
        *,
        repeated: bool = False,
        instead_of: str | None = None,
    ) -> CacheLookup:
        """A `repeated` request is the latest one over again, so it gets the same variant.

        `instead_of` is a job that was to make the pictures and does not: of all requests that say
        so, exactly one gets its variant, and the others join that one.
        """

    async def may_have(self, fingerprint: str) -> bool:
        """False: there are no pictures, and no job makes them for the cache."""

    async def fill(self, variant: CacheVariant, job_id: str, pictures: Sequence[Picture]) -> None:
        """Fill a variant that this job was making."""

    async def evict(self, variant: CacheVariant, job_id: str) -> bool:
        """Free a variant that this job was making, or whose pictures are gone. False when the
        cache could not be asked."""


class ImageProvider(Protocol):
    """The provider. Raises `UpstreamError` with its evidence about the bill,
    `PollInconclusive` for a poll that says nothing."""

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
        """Polls that are due and that the rate limit did not allow."""

    def settlement_lost(self) -> None: ...

    def outbox_delivery_failed(self, message_name: str, error: Exception) -> None:
        """The store did not take an outbox message although it is there; it is tried again."""

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
    """Signals that a job ended, from any process. Open: a lost signal only delays."""

    def ended(self) -> AsyncIterator[str | None]:
        """Ids of jobs as they end; None when some may have been missed. Never ends."""

    async def publish(self, message: str) -> int:
        """Send a message to every process that serves callers, this one too; returns how many
        listen.

        Raises `StoreUnavailable`.
        """

    def caller_messages(self) -> AsyncIterator[str]:
        """The messages that processes send. Never ends."""
