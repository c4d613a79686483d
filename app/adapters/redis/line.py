"""The jobs of this process that wait for a turn at the provider, and the one who asks for all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.domain.errors import LedgerUnavailable

AT_ONCE = 256
FOREMOST = 64
"""So many of those already in line are asked for when somebody left: no more can move up."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The answer to a waiter: start in `wait_s`, or (`late`) that it would wait so long."""

    late: bool
    wait_s: float
    abreast: int = 0


@dataclass(slots=True, eq=False)
class Waiter:
    """`deadline_s` is on the monotonic clock; `asked` once the store has it in line; `over` once
    its job has ended: it need not wait for its turn any more, nor for the start it was given."""

    job_id: str
    calls: int
    deadline_s: float
    turn: asyncio.Future[Turn] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    asked: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


Ask = Callable[[Sequence[Waiter]], Awaitable[Sequence[Any]]]
"""Asks the store for turns: an answer for each waiter. May raise `LedgerUnavailable`."""


class Line:
    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._waiters: dict[str, Waiter] = {}
        self._again = self._all = False
        self._asking: asyncio.Task[None] | None = None

    @property
    def unasked(self) -> int:
        """Calls of waiters whom the store has not counted yet."""
        return sum(w.calls for w in self._waiters.values() if not w.asked)

    def enter(self, job_id: str, calls: int, deadline_s: float) -> Waiter:
        waiter = self._waiters[job_id] = Waiter(job_id, calls, deadline_s)
        self.ask()
        return waiter

    def leave(self, job_id: str) -> None:
        self._waiters.pop(job_id, None)

    def end(self, job_id: str) -> None:
        """A job that ended needs no turn any more."""
        waiter = self._waiters.get(job_id)
        if waiter is not None:
            waiter.over.set()
            if not waiter.turn.done():
                waiter.turn.set_result(Turn(late=False, wait_s=0.0))

    def ask_for_all(self) -> None:
        """Also for those far behind: unheard, they would lose their place."""
        self._all = True
        self.ask()

    def ask(self) -> None:
        """Ask the store soon: once, however many times this is called meanwhile."""
        self._again = True
        if self._waiters and self._asking is None:
            self._asking = asyncio.create_task(self._rounds(), name="koi-line")

    async def _rounds(self) -> None:
        try:
            while self._again and self._waiters:
                self._again = False
                for batch in self._batches():
                    await self._round(batch)
        finally:
            self._asking = None

    def _batches(self) -> Iterable[list[Waiter]]:
        waiting = [w for w in self._waiters.values() if not w.turn.done()]
        if not self._all:
            asked = [w for w in waiting if w.asked]
            waiting = asked[:FOREMOST] + [w for w in waiting if not w.asked]
        self._all = False
        return [waiting[i : i + AT_ONCE] for i in range(0, len(waiting), AT_ONCE)]

    async def _round(self, batch: list[Waiter]) -> None:
        try:
            answers = await self._ask(batch)
        except LedgerUnavailable as error:
            for waiter in batch:
                # Who is in line stays there; who is not was not taken.
                if not waiter.asked and not waiter.turn.done():
                    waiter.turn.set_exception(error)
            return
        for waiter, (word, ms, *abreast) in zip(batch, answers, strict=True):
            waiter.asked = True
            if word != "queued" and not waiter.turn.done():
                waiter.turn.set_result(Turn(word == "late", ms / 1000, *abreast))
