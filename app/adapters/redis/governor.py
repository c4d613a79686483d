"""The `Governor` on Redis: the provider's rate, places, throttle and breaker, for all processes.

The rate is a log of the last minute's requests, not a leaking bucket: a bucket lets nearly twice
the limit through in its first minute, and the provider would answer that with 429. Whatever is
decided is decided by a script; this process keeps a view of it that is a second old at most, so
that nothing is asked while nothing is limited.
"""

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import orjson

from app.adapters.redis import clock, keyspace
from app.adapters.redis.line import Line, Waiter
from app.adapters.redis.loader import load
from app.adapters.redis.store import Store
from app.adapters.redis.traffic import UpstreamLimits, View
from app.domain.errors import LedgerUnavailable, Overloaded, Proof, UpstreamError
from app.domain.governor import PollGrant
from app.domain.upstream import Holder, Traffic

__all__ = ["RedisGovernor", "UpstreamLimits"]

TICK_S = 1.0
MINUTE_S = 60.0
SPREAD_S = 1.5
"""Between calls of one job that a per-second limit keeps apart; SECOND_MS of the scripts."""
ANSWER_S = 2.0
"""A store slower than this beyond the wait itself has not answered."""
DEFAULT_PAUSE_S, LONGEST_PAUSE_S = 2, 60
REFUSING = {
    "upstream_auth": "The provider refuses the credentials of this gateway; its operator must act. "
    "Nothing was sent.",
    "upstream_billing": "The provider account of this gateway is exhausted; its operator must act. "
    "Nothing was sent.",
}


class RedisGovernor:
    """`observe` is told how the traffic stands, about once a second."""

    def __init__(
        self,
        store: Store,
        limits: UpstreamLimits,
        *,
        observe: Callable[[Traffic], None] = lambda _traffic: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._limits, self._observe, self._sleep = store, limits, observe, sleep
        self._text = limits.text
        self._scripts = load("upstream")
        self._view = View()
        self._line = Line(self._turns)
        self._name = secrets.token_hex(4)
        self._starts: deque[float] = deque()
        self._told = 0
        self._taken_s: float | None = None

    @property
    def paced(self) -> bool:
        """Whether a rate stands in the way, so that polls have to be asked for."""
        limits = self._limits
        return limits.rpm is not None or limits.burst is not None or self._view.throttled

    @property
    def _free(self) -> bool:
        return self._limits.concurrency is None and not self.paced

    async def run(self) -> None:
        """Look at the store every second, and keep this process's waiters in line."""
        while True:
            with suppress(LedgerUnavailable):
                await self._look()
                self._observe(self._view.traffic)
            self._line.ask_for_all()
            await asyncio.sleep(TICK_S)

    def nudge(self, job_id: str) -> None:
        """A job ended: there may be a place, and if it waits here, it waits no longer."""
        self._line.end(job_id)
        self._line.ask()

    def check(self, calls: int) -> None:
        """See the port."""
        view = self._view
        if view.refused and time.monotonic() < view.at_s + view.probe_ms / 1000:
            raise refusing(view.refused)
        wait_s = self._expected_s(calls)
        if wait_s > self._limits.queue_s:
            raise busy(wait_s)

    async def acquire(self, job_id: str, calls: int, wait_s: float) -> Sequence[float]:
        """See the port. First come, first served, across all processes."""
        if self._view.refused:
            await self._probe()
        if self._free:
            self._count(calls)
            return (0.0,) * calls
        waiter = self._line.enter(job_id, calls, time.monotonic() + wait_s)
        try:
            async with asyncio.timeout(wait_s + ANSWER_S):
                turn = await waiter.turn
            if turn.late:
                raise busy(turn.wait_s)
            await self._start_of(waiter, turn.wait_s)
            if waiter.over.is_set():
                await self._withdraw(waiter)
                return (0.0,) * calls
        except TimeoutError:
            await self._withdraw(waiter)
            raise busy(self._expected_s(calls)) from None
        except asyncio.CancelledError:
            await asyncio.shield(self._withdraw(waiter))
            raise
        finally:
            self._line.leave(job_id)
        self._count(calls)
        return tuple(i // turn.abreast * SPREAD_S if turn.abreast else 0.0 for i in range(calls))

    async def _start_of(self, waiter: Waiter, wait_s: float) -> None:
        """Wait for the start that was given, or until the job is over."""
        if wait_s <= 0:
            await self._sleep(wait_s)
            return
        either = {asyncio.ensure_future(w) for w in (self._sleep(wait_s), waiter.over.wait())}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in either:
                waiting.cancel()

    async def release(self, job_id: str) -> None:
        """See the port."""
        if self._limits.concurrency is not None:
            self._see(await self._run("release", job_id, ""))
            self._line.ask()

    async def withdraw(self, job_id: str, calls: int) -> None:
        """See the port."""
        if not self._free:
            self._see(await self._run("release", job_id, self._member(job_id, calls)))
            self._line.end(job_id)
            self._line.ask()

    async def holders(self) -> Sequence[Holder]:
        """See the port. Not asked for while nobody holds anything, as far as is known here."""
        view = self._view
        if self._free or not (view.busy or view.queued or view.next_ms > 0):
            return ()
        return tuple(Holder(id, calls) for id, calls in await self._run("holders"))

    async def polls(self, wanted: int) -> PollGrant:
        """See the port."""
        granted, name = wanted, ""
        if self.paced:
            name = secrets.token_hex(6)
            try:
                granted = await self._run("polls", name, wanted)
            except LedgerUnavailable:
                granted = 0
        self._count(granted)
        return PollGrant(granted, name)

    async def unused(self, grant: PollGrant, polls: int) -> None:
        """See the port."""
        for _ in range(min(polls, len(self._starts))):
            self._starts.pop()
        if grant.name and polls > 0:
            with suppress(LedgerUnavailable):
                await self._run("unpoll", grant.name, grant.count, grant.count - polls)

    async def accepted(self, took_s: float) -> None:
        """See the port. Only told to the store while somebody was refused lately."""
        self._taken_s = time.monotonic() - took_s
        if self._view.fails:
            with suppress(LedgerUnavailable):
                self._see(await self._run("accepted", round(took_s * 1000)))

    async def failed(self, code: str, retry_after_s: float | None = None) -> None:
        """See the port."""
        with suppress(LedgerUnavailable):
            if code == "upstream_rate_limited":
                pause_s = min(max(retry_after_s or DEFAULT_PAUSE_S, 1), LONGEST_PAUSE_S)
                tale = (math.ceil(pause_s * 1000), self._name, self._lately())
                self._see(await self._run("throttled", *tale))
            elif code in REFUSING:
                ago_s = -1.0 if self._taken_s is None else time.monotonic() - self._taken_s
                ago_ms = -1 if ago_s < 0 else round(ago_s * 1000)
                self._see(await self._run("refused", code, ago_ms))

    async def _probe(self) -> None:
        """Pass as the one who finds out whether we are taken again, or fail like the last one."""
        code = self._view.refused
        allowed, view = await self._run("probe")
        self._see(view)
        if not allowed:
            raise refusing(code)

    def _expected_s(self, calls: int) -> float:
        """How long a job that asks now would wait, going by what is known here."""
        view, places = self._view, self._limits.concurrency
        wait_s = view.next_s
        if places is not None:
            ahead = view.busy + view.queued + self._line.unasked
            wait_s = max(wait_s, (ahead + calls - places) * view.held_ms / 1000 / places)
        return max(wait_s, 0.0)

    async def _turns(self, waiters: Sequence[Waiter]) -> list[Any]:
        now_s = time.monotonic()
        asks = [(w.job_id, w.calls, max(round((w.deadline_s - now_s) * 1000), 0)) for w in waiters]
        answers: list[Any] = await self._run("turn", orjson.dumps(asks))
        self._see(answers.pop(0))
        return answers

    async def _withdraw(self, waiter: Waiter) -> None:
        member = self._member(waiter.job_id, waiter.calls)
        with suppress(LedgerUnavailable):
            self._see(await self._run("release", waiter.job_id, member))

    def _member(self, job_id: str, calls: int) -> str:
        """How a job stands in the store's queue; empty where there is none."""
        places = min(calls, self._limits.concurrency or 0)
        return f"{places} {job_id}" if places else ""

    async def _look(self) -> None:
        count = self._lately()
        tale = (self._name, count) if count or self._told else ("", 0)
        view = await self._run("view", *tale)
        self._told = count
        self._see(view)
        if self._view.fails and self._taken_s is not None:
            # Who was refused elsewhere does not know that we were not.
            await self.accepted(time.monotonic() - self._taken_s)

    def _see(self, view: Sequence[Any]) -> None:
        self._view = View(time.monotonic(), *view)

    def _count(self, requests: int) -> None:
        self._starts.extend([time.monotonic()] * requests)
        self._lately()

    def _lately(self) -> int:
        """The requests of this process in the last minute."""
        since_s = time.monotonic() - MINUTE_S
        while self._starts and self._starts[0] < since_s:
            self._starts.popleft()
        return len(self._starts)

    async def _run(self, script: str, *args: Any) -> Any:
        return await self._store.run(
            self._scripts[script], keyspace.UPSTREAM_ROUTE, self._text, *args, clock.shown()
        )


def refusing(code: str) -> UpstreamError:
    """The provider's own answer, given for it while it is known."""
    return UpstreamError(code, REFUSING[code], proof=Proof.NEVER_SENT)


def busy(wait_s: float) -> Overloaded:
    """Nobody waits in vain: refused at once, with the time after which there may be a turn."""
    again_s = min(max(math.ceil(wait_s), 1), LONGEST_PAUSE_S)
    return Overloaded("The provider is busy; try again later.", retry_after_s=again_s)
