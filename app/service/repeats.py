"""Recognising a request that repeats an earlier one, so that it is not bought again (decision 21).

The ledger says which job a request repeats, the other processes whether earlier callers are still
there, and this process remembers which requests it refused: the retry of a refusal is a new wish.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from app.domain.errors import LedgerUnavailable, Overloaded, Refused
from app.domain.ledger import Admitted, Arrived, Contested, Order, Presence, Repeat
from app.domain.ports import Ledger
from app.domain.principal import Principal
from app.service.callers import Call, Callers

T = TypeVar("T")

MOST_ROUNDS = 8
"""Each round learns of calls that opened meanwhile."""
REFUSAL_S = 60.0
"""Clients wait no longer than the longest `Retry-After` before they retry a refusal."""
MOST_REFUSALS = 4096
MOST_ALIKE = 64


class CallerLeft(Exception):
    """The caller hung up before anything was opened for it: nothing is spent."""


@dataclass(slots=True)
class Refusals:
    """Refusals told lately that asked for a retry, by attempt, each until it is forgotten."""

    _told: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def note(self, attempt: str) -> None:
        """A refusal that asks for a retry was told."""
        until = self._told.setdefault(attempt, deque(maxlen=MOST_ALIKE))
        until.append(time.monotonic() + REFUSAL_S)
        self._told.move_to_end(attempt)
        if len(self._told) > MOST_REFUSALS:
            self._told.popitem(last=False)

    def take(self, attempt: str) -> bool:
        """Whether a retry was to be expected that has nothing to join; from now on, one less."""
        until = self._told.get(attempt)
        if until is None:
            return False
        now = time.monotonic()
        while until and until[0] <= now:
            until.popleft()
        found = bool(until)
        if found:
            until.popleft()
        if not until:
            del self._told[attempt]
        return found


@dataclass(frozen=True, slots=True)
class Repeats:
    """Asks the ledger on behalf of calls, each under the id of the job it would open."""

    ledger: Ledger
    callers: Callers
    refusals: Refusals = field(default_factory=Refusals)

    def begin(
        self, principal: Principal, repeat: Repeat, job_id: str, present: Callable[[], bool]
    ) -> Call:
        """A new call, which `callers` keeps until it is over."""
        attempt = f"{principal.key_id} {repeat.body}"
        refused_before = repeat.marked and self.refusals.take(attempt)
        if refused_before:
            # What was refused left nothing to join; a job whose caller left is joined all the same.
            repeat = replace(repeat, marked=False, fresh=True)
        repeat = replace(repeat, call=job_id, callers={})
        call = Call(job_id, attempt, repeat, present, job_id, refused_before)
        self.callers.enter(call)
        return call

    def refused(self, call: Call, error: BaseException) -> None:
        """The call ended before it had a job; its retry may be a new wish."""
        if isinstance(error, Refused | Overloaded) and error.note.retryable:
            self.refusals.note(call.attempt)
        self.callers.leave(call)

    async def arrive(self, principal: Principal, call: Call) -> Arrived:
        """`Ledger.arrive`, once it is known who is still there. Raises `CallerLeft` too."""

        async def ask(repeat: Repeat, again: bool) -> Arrived:
            return await self.ledger.arrive(principal, repeat, paced=again)

        arrived = await self._judged(call, ask)
        if arrived.joins is not None:
            self._joined(call)
        return arrived

    async def admit(self, order: Order) -> Admitted:
        """`Ledger.admit`, once it is known who is still there. Raises `CallerLeft` too."""
        call = self.callers.known(order.job_id)
        if call is None:
            return await self.ledger.admit(order)

        async def ask(repeat: Repeat, again: bool) -> Admitted:
            arrived = order.arrived or again
            return await self.ledger.admit(replace(order, repeat=repeat, arrived=arrived))

        admitted = await self._judged(call, ask)
        if admitted.joined:
            self._joined(call)
        return admitted

    def _joined(self, call: Call) -> None:
        if call.refused_before:
            # It was another's retry: the one that was refused is still to come.
            call.refused_before = False
            self.refusals.note(call.attempt)

    async def _judged(self, call: Call, ask: Callable[[Repeat, bool], Awaitable[T]]) -> T:
        known: dict[str, Presence] = {}
        for round_ in range(MOST_ROUNDS):
            try:
                return await ask(replace(call.repeat, callers=known), round_ > 0)
            except Contested as contested:
                # Its own repeat may have overtaken it.
                if not await call.stays():
                    raise CallerLeft from None
                known |= await self.callers.ask(contested.calls)
        return await ask(replace(call.repeat, callers=None), True)

    async def abandon(self, call: Call) -> None:
        """The caller left before its answer; its next identical request joins the job."""
        try:
            await self.ledger.abandon(call.job_id, call.id)
        except LedgerUnavailable:
            pass
        finally:
            self.callers.leave(call)

    def received(self, call: Call) -> None:
        """The whole answer went out and the caller is there to read it."""
        if call.slot is None:
            self.callers.served(call)
        else:
            self.callers.leave(call)
