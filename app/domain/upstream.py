"""What the provider can answer, whatever its dialect.

The port to what the provider grants us.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.images import ProviderImage
from app.domain.job import TaskStatus


@dataclass(frozen=True, slots=True)
class TaskPending:
    """The provider works on it under its own id: any text that `names_a_task`.

    `progress` is 0-100 or None when not said; `is_known_status` is false for a status word nobody
    has seen before. `request_id` names the POST (`CALL_ID`), if its answer said so.
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
    """A job that holds places or a coming start at the provider, or waits for `calls` places."""

    job_id: str
    calls: int


@dataclass(frozen=True, slots=True)
class UpstreamTraffic:
    """How our traffic to the provider stands, for all processes together.

    `queued` jobs wait for one of the places of which `busy` are taken. `share` of the usual rate
    is asked for, less than 1 while the provider's 429s are remembered; nothing is for `pause_s`.
    `refused` is the code with which the provider keeps refusing our key or balance.
    """

    queued: int = 0
    busy: int = 0
    share: float = 1.0
    pause_s: float = 0.0
    refused: str | None = None


class PollInconclusive(Exception):
    """A poll that says nothing about the task: network trouble, 5xx, 429. Ask again later.

    `missing` is true when the provider does not know the task: normal right after the submit
    (contract study, section 4), later a sign that it is lost. `empty`: the task is said to be
    completed and shows no image, which some providers mend a moment later. `throttled` is true when
    we asked too often.
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
    """Room for `count` polls; `name` is what the store counts them under, empty where none is."""

    count: int
    name: str = ""


class UpstreamLimiter(Protocol):
    """What the provider grants us: its rate, places and goodwill, shared by all our processes.

    Closed where a permit is asked for: raises `StoreUnavailable`.
    """

    @property
    def has_rate_limit(self) -> bool:
        """Whether some rate is to be kept, so that polls need room."""

    def check_queue(self, calls: int) -> None:
        """Refuse a job of so many calls that would wait in vain, before anything is reserved.

        Goes by what this process knows. Raises `Overloaded` when its turn is not to be expected in
        time, and `UpstreamError` (proof P0) while the provider keeps refusing our key or balance.
        """

    async def acquire(self, job_id: str, calls: int, wait_s: float) -> Sequence[float]:
        """Wait for a turn to dispatch: seconds from now on at which each call may start.

        A job that ended meanwhile is let through at once: the ledger will not have it sent.
        Raises `Overloaded` when none comes in `wait_s` seconds, at once if that is foreseeable,
        and `UpstreamError` like `check_queue`, except for the one job that may try every now and
        then.
        """

    async def release(self, job_id: str) -> None:
        """Free the places of a job that ran; harmless when there were none."""

    async def release_all(self, job_id: str, calls: int) -> None:
        """Give back all that a job of so many calls holds or waits for, in whatever process: its
        place in the queue, its places, and starts that have not come. Harmless when repeated."""

    async def list_holders(self) -> Sequence[SlotHolder]:
        """Jobs that hold or wait for something, those of the last few seconds left out where they
        hold places; at most some hundreds."""

    async def acquire_polls(self, wanted: int) -> PollGrant:
        """Room for so many polls, now; at most `wanted`, none while the store is away."""

    async def refund_polls(self, grant: PollGrant, polls: int) -> None:
        """Give back so many polls of a grant: they were not made. Once for each. Never raises."""

    async def record_success(self, took_s: float) -> None:
        """The provider took a request sent `took_s` seconds ago. Never raises."""

    async def record_failure(self, code: str, retry_after_s: float | None = None) -> None:
        """The provider refused a request, or throttled a poll. Never raises."""
