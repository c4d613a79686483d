"""Messages that are posted to URLs until they arrive: webhooks of tasks, notices to the operator.

A delivery is created in the write that ends its task, waits in the store, and is tried by whichever
process claims it: at least once, for a day. Receivers tell a repeated one by its id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

from app.domain.notices import Datum

MAX_WEBHOOK_CHARS = 2048
HOUSE_USER = "@house"
"""Stands where a delivery has its user, for notices to the operator. No user can have this name."""


class WebhookEvent(StrEnum):
    """What a webhook may be told. A task that failed may be completed later, by late pictures."""

    TASK_COMPLETED = "task.completed"
    TASK_FAILED = "task.failed"


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where a task's end is told. `user` asked for it, and its secret signs; no `events` means all
    of them; `origin` is where links to pictures point (`https://koi.example`), `lifetime_ms` how
    long a delivery is tried."""

    url: str
    user: str
    origin: str
    lifetime_ms: int
    events: tuple[WebhookEvent, ...] = ()


class DeliveryState(StrEnum):
    """Only WAITING ones are tried.

    GONE: the receiver answered 410. SUPERSEDED: the task had another end before this one was told.
    DROPPED: too many of the user's deliveries waited. KEPT: a notice without a receiver.
    """

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"
    SUPERSEDED = "superseded"
    DROPPED = "dropped"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one URL. Times are Unix milliseconds of the store's clock.

    `kind` is a `WebhookEvent` or a `NoticeKind`. `tries` counts all tries and names the latest
    one; `round_tries` those since it was created or delivered again. `status` and `error` are of
    the latest try. `due_ms` is when the next one is due, None once it is over.
    """

    id: str
    user: str
    url: str
    kind: str
    state: DeliveryState
    created_ms: int
    receiver: str = ""
    job_id: str | None = None
    origin: str = ""
    subject: str = ""
    data: Mapping[str, Datum] = field(default_factory=dict)
    tries: int = 0
    round_tries: int = 0
    status: int | None = None
    error: str | None = None
    ended_ms: int | None = None
    due_ms: int | None = None

    @property
    def is_notice(self) -> bool:
        return self.job_id is None


@dataclass(frozen=True, slots=True)
class DeliveryClaims:
    """Due deliveries, leased to this process, and the store's clock."""

    deliveries: Sequence[Delivery]
    now_ms: int


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """How a try went. `state` is set when it was the last one, else the next is due in `due_ms`;
    when that is beyond the delivery's lifetime, it has failed."""

    delivery: Delivery
    state: DeliveryState | None = None
    due_ms: int = 0
    status: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRoom:
    """How many deliveries a process takes: in all, of one receiver and of one user; those that it
    carries already (`in_flight`, by receiver and by user) count there."""

    total: int
    per_receiver: int
    per_user: int
    in_flight: Mapping[str, int] = field(default_factory=dict)


WebhookAdded = Literal["added", "told", "full", "missing"]


class DeliveryQueue(Protocol):
    """Every method raises `LedgerUnavailable`."""

    async def add_webhook(
        self, job_id: str, target: WebhookTarget, asked: str | None
    ) -> WebhookAdded:
        """One more URL is told of a job's end, once; when the job has ended, now. `asked` names a
        request that was answered with an ended job and is to be told by itself. Nobody is told when
        the job is `missing`, or `full`: it has as many URLs as it may."""

    async def claim(self, room: DeliveryRoom, lease_ms: int) -> DeliveryClaims:
        """Lease due deliveries of each receiver in turn. A try is counted before it is made.
        Of a closed store only notices."""

    async def report(self, report: DeliveryReport) -> DeliveryState:
        """What the delivery is now; what a process reports that lost its lease is ignored."""

    async def list_newest(
        self, user: str, limit: int, *, failed: bool = False
    ) -> Sequence[Delivery]:
        """A user's deliveries, newest first; with `failed` those whose latest try failed."""

    async def find(self, id: str) -> Delivery | None: ...
    async def users(self) -> Sequence[str]:
        """Everybody who ever had a delivery that waited."""

    async def redeliver(self, id: str, lifetime_ms: int) -> bool:
        """Make a delivery due now, for as long as a new one; false when it is not known (any more),
        or when too many of its user wait."""


@dataclass(frozen=True, slots=True)
class ReceiverAnswer:
    """The HTTP status, and the beginning of the body."""

    status: int
    body: bytes = b""


class ReceiverUnreachable(Exception):
    """No answer came. `reason` is for the delivery log; `refused` when Koi will not send there."""

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.refused = reason, refused


class WebhookPoster(Protocol):
    """Posts messages, to admitted URLs only, and follows no redirect."""

    def check_url(self, url: str) -> None:
        """Raises `ReceiverUnreachable` for a URL that nothing is ever posted to."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> ReceiverAnswer:
        """Raises `ReceiverUnreachable`."""
