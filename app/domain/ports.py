"""What the use cases need from the world. Each port says what happens when its world is away."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from app.domain.images import GenerationRequest, Picture
from app.domain.job import CacheSlot, Job, Outcome, PartResult, TaskStatus
from app.domain.journal import Debt, Mark, Step
from app.domain.ledger import (
    Admitted,
    Arrived,
    Audit,
    Census,
    Claim,
    Entry,
    Order,
    Repeat,
    Settlement,
)
from app.domain.limits import Standing
from app.domain.listing import PageQuery, TaskPage
from app.domain.media import StoredImage
from app.domain.principal import ApiKey, Principal, Team, User
from app.domain.recall import CacheControl, Recalled
from app.domain.upstream import Answer


class Ledger(Protocol):
    """Quotas, jobs and their settlement, as one book. Closed: raises `LedgerUnavailable`.

    Every method is atomic and safe to repeat with the same arguments.
    """

    async def arrive(self, principal: Principal, repeat: Repeat) -> Arrived:
        """Count one request against every pace (GCRA) and look for the job it repeats.

        Raises `RateLimited`, `IdempotencyKeyReused`.
        """

    async def admit(self, order: Order) -> Admitted:
        """Reserve images, money and concurrency of all scopes, all or nothing, and open the job.

        Joins instead of opening when the order repeats an earlier one. Counts the request's pace
        too when it has not arrived before (no cache to ask in between).
        Raises `RateLimited`, `InsufficientQuota`, `ConcurrencyLimited`, `IdempotencyKeyReused`.
        """

    async def dispatch(self, job_id: str, lease_ms: int) -> bool:
        """RESERVED -> DISPATCHED, due again after `lease_ms`; false when it is not RESERVED."""

    async def record(
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

    async def advance(
        self,
        claim: Claim,
        *,
        due_ms: int,
        status: TaskStatus | None = None,
        progress: int | None = None,
    ) -> bool:
        """Give a claimed job back, due again after `due_ms`; false when the lease was lost.

        Progress only rises.
        """

    async def settle(self, job_id: str, outcome: Outcome, *, hold_ms: int = 0) -> Settlement:
        """End a job: counters, ledger entry, replay record and task, in one write, once.

        An UNKNOWN outcome answers the caller and keeps the reservation, due after `hold_ms`; it
        may be settled again with proof. Raises `TaskNotFound` when there is no such job.
        """

    async def cancel(self, job_id: str) -> Settlement | None:
        """RESERVED -> RELEASED; None when it was dispatched already."""

    async def claim(self, limit: int, lease_ms: int) -> Sequence[Claim]:
        """Lease jobs that are due, the most overdue first; no other process gets them meanwhile."""

    async def claim_within(self, limit: int, lease_ms: int, polls: int) -> tuple[list[Claim], int]:
        """The same with room for so many polls, in order of age; a job in parts takes what is left.
        Who needs no poll is not held up. Also says how many polls are due still."""

    async def job(self, job_id: str) -> Job | None: ...

    async def jobs_of(self, user: str, limit: int) -> Sequence[Job]:
        """A user's own jobs, newest first."""

    async def bind(self, principal: Principal, repeat: Repeat, job_id: str) -> None:
        """Let the repeat's Idempotency-Key mean a job that the cache answered with, unless its user
        had as many of these within the hour as are kept."""

    async def abandon(self, job_id: str) -> None:
        """The caller left before its answer: the next identical request of its key joins."""

    async def owner_of(self, picture: str) -> tuple[str, str] | None:
        """The user and pool a stored picture was made for; None when unknown or expired."""

    async def standing(self, principal: Principal) -> Standing:
        """Every allowance of the principal, unlimited ones too."""

    async def adjust(self, entry: Entry) -> Entry:
        """Append a correction (kind ADJUST) and move the counters of its windows with it."""

    def entries(self, since_ms: int = 0, until_ms: int | None = None) -> AsyncIterator[Entry]:
        """The ledger in order, by time written."""

    async def audit(self) -> Audit: ...

    async def census(self) -> Census: ...


class TaskList(Protocol):
    """A user's own tasks, cheaply. Closed: raises `LedgerUnavailable`."""

    async def page(self, user: str, query: PageQuery) -> TaskPage | None:
        """None when the task it is to follow is none of the user's, or not listed any more."""


class Journal(Protocol):
    """The second copy of the books. What it cannot take now it takes later, in order."""

    @property
    def mark(self) -> Mark | None:
        """The latest mark in it when it was opened; None for a new one."""

    def note(self, step: Step) -> None:
        """Write a step down. Never raises; see `ready`."""

    def ready(self) -> bool:
        """False while steps cannot be written: nothing may be spent then (fault F66)."""


class Debts(Protocol):
    """What the store could not be told yet, kept on disk until it was (fault F71)."""

    async def owe(self, debt: Debt) -> bool:
        """Keep it through the death of this process; false when the disk does not take it."""

    async def paid(self, debt: Debt) -> None: ...

    async def open(self) -> Sequence[Debt]:
        """Everything owed by processes of this machine, living or dead."""


class KeyRing(Protocol):
    """Users, teams and keys. Known keys stay known for a while when the store is away."""

    async def authenticate(self, digest: str) -> tuple[ApiKey, User, Team | None] | None:
        """The records behind a key's SHA-256 (hex); None when unknown, expired or revoked."""

    async def put_user(self, user: User, *, create: bool) -> bool: ...
    async def user(self, name: str) -> User | None: ...
    async def users(self) -> Sequence[User]: ...
    async def put_team(self, team: Team, *, create: bool) -> bool: ...
    async def team(self, name: str) -> Team | None: ...
    async def teams(self) -> Sequence[Team]: ...
    async def put_key(self, key: ApiKey) -> None: ...
    async def key(self, key_id: str) -> ApiKey | None: ...
    async def keys(self, user: str | None = None) -> Sequence[ApiKey]: ...
    async def last_used(self) -> Mapping[str, int]: ...
    async def now_ms(self) -> int:
        """The store's clock."""


class ResultCache(Protocol):
    """Pictures by fingerprint and slot. Open: when its store is away every answer is a bypass."""

    async def recall(
        self, fingerprint: str, job_id: str, control: CacheControl, *, repeated: bool = False
    ) -> Recalled:
        """A `repeated` request is the latest one over again, not another wish: same slot."""

    async def keep(self, slot: CacheSlot, job_id: str, pictures: Sequence[Picture]) -> None:
        """Fill a slot that this job was making."""

    async def forget(self, slot: CacheSlot, job_id: str) -> None:
        """Free a slot that this job was making, or whose pictures are gone."""


class ImageProvider(Protocol):
    """The provider. Raises `UpstreamError` with its proof; `PollTroubled` for a failed poll."""

    async def dispatch(self, request: GenerationRequest, *, asynchronous: bool) -> Answer:
        """The one call that may cost money. Never repeated unless no byte was sent."""

    async def poll(self, upstream_id: str) -> Answer: ...


class ImageStore(Protocol):
    """Image bytes by name. Raises `ImageStoreUnavailable`."""

    async def put(self, name: str, body: bytes, media_type: str) -> None: ...
    async def get(self, name: str) -> StoredImage | None: ...
    async def delete(self, name: str) -> None: ...
    async def sweep(self, older_than: timedelta) -> int: ...
    async def check(self) -> None: ...


class ImageFetcher(Protocol):
    """Downloads a provider's link behind the egress guard. Raises `FetchError`."""

    async def fetch(self, url: str) -> bytes: ...


class Links(Protocol):
    """Signed links to our own pictures."""

    def sign(self, name: str) -> str:
        """The query string that opens this picture for a while."""

    def verify(self, name: str, exp: str, sig: str) -> bool: ...


class Signals(Protocol):
    """Word that a job ended, from whichever process ended it. Open: a lost signal only delays."""

    def ended(self) -> AsyncIterator[str | None]:
        """Job ids as they end; None when some may have been missed. For as long as it is asked."""


class Governor(Protocol):
    """What the provider grants us: its rate, places and goodwill, shared by all our processes.

    Closed where a turn is asked for: raises `LedgerUnavailable`.
    """

    @property
    def paced(self) -> bool:
        """Whether some rate is to be kept, so that polls need room."""

    def check(self, calls: int) -> None:
        """Refuse a job of so many calls that would wait in vain, before anything is reserved.

        Goes by what this process knows. Raises `Overloaded` when its turn is not to be expected in
        time, and `UpstreamError` (proof P0) while the provider keeps refusing our key or balance.
        """

    async def acquire(self, job_id: str, calls: int, wait_s: float) -> Sequence[float]:
        """Wait for a turn to dispatch: seconds from now on at which each call may start.

        Raises `Overloaded` when none comes in `wait_s` seconds, at once if that is foreseeable,
        and `UpstreamError` like `check`, except for the one job that may try every now and then.
        """

    async def release(self, job_id: str) -> None:
        """Give the turn back; harmless when there was none."""

    async def polls(self, wanted: int) -> int:
        """Room for so many polls, now; at most `wanted`, none while the store is away."""

    async def unused(self, polls: int) -> None:
        """Give back so many of the polls granted last: they were not made. Never raises."""

    async def accepted(self, took_s: float) -> None:
        """The provider took a request sent `took_s` seconds ago. Never raises."""

    async def failed(self, code: str, retry_after_s: float | None = None) -> None:
        """The provider refused a request, or throttled a poll. Never raises."""


class Recorder(Protocol):
    """What the use cases report for metrics. Never raises, never decides anything."""

    def cached(self, outcome: str, model: str, images: int) -> None:
        """Outcome hit, miss, joined or bypass; `images` not bought thanks to it."""

    def queued(self, seconds: float) -> None:
        """Time between admission and dispatch."""

    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        """Operation generate, submit, poll or fetch; outcome ok or a failure code."""

    def settled(self, job: Job, outcome: Outcome) -> None: ...

    def polled(self, late_s: float) -> None: ...

    def polls_waiting(self, polls: int) -> None:
        """Polls that are due and for which there was no room."""

    def settlement_lost(self) -> None: ...

    def loop_failed(self, loop: str) -> None: ...
