"""The jobs of this process that wait for a permit, and one task that asks the store for all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from app.adapters.redis.replies import UnexpectedReply
from app.domain.errors import StoreUnavailable

MAX_BATCH = 256
MAX_HEAD_ASKED = 64
"""How many of the queued jobs are asked for when others left: more cannot move up at once."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer to a waiter: start in `wait_s`, or (`too_late`) it would have to wait so long. Of
    its calls `burst` may start in one second, all of them when that is 0."""

    too_late: bool
    wait_s: float
    burst: int = 0


@dataclass(slots=True, eq=False)
class PermitWaiter:
    """`deadline_s` is on the monotonic clock. `is_registered` is true once the store has queued it.
    `job_ended` is set when it need not wait any more, for its permit or for the start it was
    granted."""

    job_id: str
    calls: int
    deadline_s: float
    permit: asyncio.Future[Permit] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    is_registered: bool = False
    job_ended: asyncio.Event = field(default_factory=asyncio.Event)


RequestPermits = Callable[[Sequence[PermitWaiter]], Awaitable[Sequence[Permit | None]]]
"""Asks the store: a permit for each waiter, None while it is queued. May raise `StoreUnavailable`
and `UnexpectedReply`."""


class PermitQueue:
    def __init__(self, request_permits: RequestPermits) -> None:
        self._request_permits = request_permits
        self._waiters: dict[str, PermitWaiter] = {}
        self._again = self._include_tail = False
        self._asking: asyncio.Task[None] | None = None

    @property
    def unregistered_calls(self) -> int:
        """Calls of waiters that the store has not counted yet."""
        return sum(w.calls for w in self._waiters.values() if not w.is_registered)

    def enqueue(self, job_id: str, calls: int, deadline_s: float) -> PermitWaiter:
        waiter = self._waiters[job_id] = PermitWaiter(job_id, calls, deadline_s)
        self.request_permits()
        return waiter

    def remove(self, job_id: str) -> None:
        self._waiters.pop(job_id, None)

    def mark_ended(self, job_id: str) -> None:
        """A job that ended needs no permit any more."""
        waiter = self._waiters.get(job_id)
        if waiter is not None:
            waiter.job_ended.set()
            if not waiter.permit.done():
                waiter.permit.set_result(Permit(too_late=False, wait_s=0.0))

    def request_all_permits(self) -> None:
        """Also for those far behind: the store drops a waiter that is not asked for."""
        self._include_tail = True
        self.request_permits()

    def request_permits(self) -> None:
        """Ask the store soon: once, however many times this is called meanwhile."""
        self._again = True
        if self._waiters and self._asking is None:
            self._asking = asyncio.create_task(self._ask_until_quiet(), name="koi-permits")

    async def _ask_until_quiet(self) -> None:
        try:
            while self._again and self._waiters:
                self._again = False
                for batch in self._batches():
                    await self._ask_batch(batch)
        finally:
            self._asking = None

    def _batches(self) -> Iterable[list[PermitWaiter]]:
        waiting = [w for w in self._waiters.values() if not w.permit.done()]
        if not self._include_tail:
            is_registered = [w for w in waiting if w.is_registered]
            waiting = is_registered[:MAX_HEAD_ASKED] + [w for w in waiting if not w.is_registered]
        self._include_tail = False
        return [waiting[i : i + MAX_BATCH] for i in range(0, len(waiting), MAX_BATCH)]

    async def _ask_batch(self, batch: list[PermitWaiter]) -> None:
        try:
            permits = await self._request_permits(batch)
        except (StoreUnavailable, UnexpectedReply) as error:
            for waiter in batch:
                # A queued waiter stays in the queue; the others were not accepted.
                if not waiter.is_registered and not waiter.permit.done():
                    waiter.permit.set_exception(error)
            return
        for waiter, permit in zip(batch, permits, strict=True):
            waiter.is_registered = True
            if permit is not None and not waiter.permit.done():
                waiter.permit.set_result(permit)
