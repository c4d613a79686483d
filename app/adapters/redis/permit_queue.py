"""The jobs of this process that wait for a turn at the provider, and the one who asks for all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.errors import LedgerUnavailable

MAX_BATCH = 256
MAX_HEAD_ASKED = 64
"""So many of those already in line are asked for when somebody left: no more can move up."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer to a waiter: start in `wait_s`, or (`late`) that it would wait so long."""

    too_late: bool
    wait_s: float
    burst: int = 0


@dataclass(slots=True, eq=False)
class PermitWaiter:
    """`deadline_s` is on the monotonic clock; `is_registered` once the store has it in line;
    `over` once
    its job has ended: it need not wait for its turn any more, nor for the start it was given."""

    job_id: str
    calls: int
    deadline_s: float
    permit: asyncio.Future[Permit] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    is_registered: bool = False
    job_ended: asyncio.Event = field(default_factory=asyncio.Event)


RequestPermits = Callable[[Sequence[PermitWaiter]], Awaitable[Sequence[Any]]]
"""Asks the store for turns: an answer for each waiter. May raise `LedgerUnavailable`."""


class PermitQueue:
    def __init__(self, request_permits: RequestPermits) -> None:
        self._request_permits = request_permits
        self._waiters: dict[str, PermitWaiter] = {}
        self._again = self._include_tail = False
        self._asking: asyncio.Task[None] | None = None

    @property
    def unregistered_calls(self) -> int:
        """Calls of waiters whom the store has not counted yet."""
        return sum(w.calls for w in self._waiters.values() if not w.is_registered)

    def enqueue(self, job_id: str, calls: int, deadline_s: float) -> PermitWaiter:
        waiter = self._waiters[job_id] = PermitWaiter(job_id, calls, deadline_s)
        self.request_permits()
        return waiter

    def remove(self, job_id: str) -> None:
        self._waiters.pop(job_id, None)

    def mark_ended(self, job_id: str) -> None:
        """A job that ended needs no turn any more."""
        waiter = self._waiters.get(job_id)
        if waiter is not None:
            waiter.job_ended.set()
            if not waiter.permit.done():
                waiter.permit.set_result(Permit(too_late=False, wait_s=0.0))

    def request_all_permits(self) -> None:
        """Also for those far behind: unheard, they would lose their place."""
        self._include_tail = True
        self.request_permits()

    def request_permits(self) -> None:
        """Ask the store soon: once, however many times this is called meanwhile."""
        self._again = True
        if self._waiters and self._asking is None:
            self._asking = asyncio.create_task(self._ask_until_quiet(), name="koi-line")

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
            answers = await self._request_permits(batch)
        except LedgerUnavailable as error:
            for waiter in batch:
                # Who is in line stays there; who is not was not taken.
                if not waiter.is_registered and not waiter.permit.done():
                    waiter.permit.set_exception(error)
            return
        for waiter, (word, ms, *burst) in zip(batch, answers, strict=True):
            waiter.is_registered = True
            if word != "queued" and not waiter.permit.done():
                waiter.permit.set_result(Permit(word == "late", ms / 1000, *burst))
