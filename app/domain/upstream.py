"""What the provider can answer, in whatever dialect; and the port that keeps its limits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.images import ProviderImage
from app.domain.job import TaskStatus


@dataclass(frozen=True, slots=True)
class TaskPending:
    """The provider works on it under its own task id: any text that `is_task_id` accepts.

    `progress` is 0-100, None when not said; `is_known_status` is false for a status word that Koi
    does not know. `request_id` is the provider's name for the POST, if its answer said one.
    """

    upstream_id: str
    status: TaskStatus = TaskStatus.PROCESSING
    progress: int | None = None
    is_known_status: bool = True
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class TaskImages:
    """The provider's images, at least one and possibly more or fewer than asked."""

    images: tuple[ProviderImage, ...]
    request_id: str | None = None


UpstreamAnswer = TaskPending | TaskImages


@dataclass(frozen=True, slots=True)
class SlotHolder:
    """A job that holds provider slots or the permit for a coming start, or waits for `calls`
    slots."""

    job_id: str
    calls: int


@dataclass(frozen=True, slots=True)
class UpstreamTraffic:
    """The traffic to the provider of all processes together.

    `queued` jobs wait for slots, of which `busy` are taken. `share` of the usual rate is used, less
    than 1 after 429s of the provider; for `pause_s` nothing is sent. `refused` is the code with
    which the provider keeps refusing our key or balance.
    """

    queued: int = 0
    busy: int = 0
    share: float = 1.0
    pause_s: float = 0.0
    refused: str | None = None


class PollInconclusive(Exception):
    """A poll that says nothing certain about the task: network trouble, 5xx, 429. Ask again later.

    `missing`: the provider does not know the task, which is normal right after the submit and later
    a sign that it is lost. `empty`: the task is completed and shows no image, which some providers
    correct a moment later. `throttled`: Koi asked too often.
    """

    def __init__(
        self,
        message: str,
        *,
        missing: bool = False,
        empty: bool = False,
        throttled: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.missing = missing
        self.empty = empty
        self.throttled = throttled
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class PollGrant:
    """Room for `count` polls; `name` is the store's name for this grant, empty where it counts
    none."""

    count: int
    name: str = ""


class UpstreamLimiter(Protocol):
    """Keeps the provider's limits in all our processes together: its rate, its concurrency slots,
    and the pauses that it asks for.

    Fails closed where a permit is asked for: raises `StoreUnavailable`.
    """

    @property
    def has_rate_limit(self) -> bool:
        """Whether a rate is limited, so that polls need room."""

    def check_queue(self, calls: int) -> None:
        """Refuse a job of this many calls that would wait in vain, before anything is reserved.

        Uses what this process knows. Raises `GatewayOverloaded` when no permit can be expected in
        time, and `UpstreamError` (P0) while the provider keeps refusing our key or balance.
        """

    async def acquire(self, job_id: str, calls: int, wait_s: float) -> Sequence[float]:
        """Wait for a permit to dispatch: after how many seconds from now each call may start.

        A job that ended meanwhile gets one at once, because the ledger will not let it be sent.
        Raises `GatewayOverloaded` when none comes in `wait_s` seconds, at once if that is
        foreseeable; and `UpstreamError` like `check_queue`, except for the one job that may probe
        the provider now and then.
        """

    async def release(self, job_id: str) -> None:
        """Free the slots of a job that ran. May be repeated."""

    async def release_all(self, job_id: str, calls: int) -> None:
        """Give back all that a job of this many calls holds or waits for, in whatever process: its
        queue entry, its slots, and permits for later starts. May be repeated."""

    async def list_holders(self) -> Sequence[SlotHolder]:
        """Jobs that hold or wait for something, at most some hundreds. Slots that were taken in the
        last few seconds are left out."""

    async def acquire_polls(self, wanted: int) -> PollGrant:
        """Room for at most `wanted` polls now; none while the store is unavailable."""

    async def refund_polls(self, grant: PollGrant, polls: int) -> None:
        """Give back polls of a grant that were not made, each once. Never raises."""

    async def record_success(self, took_s: float) -> None:
        """The provider accepted a request that was sent `took_s` seconds ago. Never raises."""

    async def record_failure(self, code: str, retry_after_s: float | None = None) -> None:
        """The provider refused a request, or throttled a poll. Never raises."""
