"""The port to what the provider grants us."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.upstream import Holder


@dataclass(frozen=True, slots=True)
class PollGrant:
    """Room for `count` polls; `name` is what the store counts them under, empty where none is."""

    count: int
    name: str = ""


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

        A job that ended meanwhile is let through at once: the ledger will not have it sent.
        Raises `Overloaded` when none comes in `wait_s` seconds, at once if that is foreseeable,
        and `UpstreamError` like `check`, except for the one job that may try every now and then.
        """

    async def release(self, job_id: str) -> None:
        """Free the places of a job that ran; harmless when there were none."""

    async def withdraw(self, job_id: str, calls: int) -> None:
        """Give back all that a job of so many calls holds or waits for, in whatever process: its
        place in the queue, its places, and starts that have not come. Harmless when repeated."""

    async def holders(self) -> Sequence[Holder]:
        """Jobs that hold or wait for something, those of the last few seconds left out where they
        hold places; at most some hundreds."""

    async def polls(self, wanted: int) -> PollGrant:
        """Room for so many polls, now; at most `wanted`, none while the store is away."""

    async def unused(self, grant: PollGrant, polls: int) -> None:
        """Give back so many polls of a grant: they were not made. Once for each. Never raises."""

    async def accepted(self, took_s: float) -> None:
        """The provider took a request sent `took_s` seconds ago. Never raises."""

    async def failed(self, code: str, retry_after_s: float | None = None) -> None:
        """The provider refused a request, or throttled a poll. Never raises."""
