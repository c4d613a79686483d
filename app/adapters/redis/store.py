"""Runs scripts on the store. Scripts awaited at the same time share one pipeline.

Calls made in one turn of the loop, or while an exchange is under way, leave together in the next
one: fewer system calls, and one fsync for all of them. A caller that is cancelled leaves the
others alone. Whatever keeps the store from answering becomes `LedgerUnavailable`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from app.adapters.redis.breaker import Breaker, BreakerState
from app.adapters.redis.cluster import Routed
from app.adapters.redis.connection import Client, ledger_server
from app.adapters.redis.exchange import Argument, Call, Exchange, Pipeline
from app.adapters.redis.faults import REFUSING, kind_of
from app.adapters.redis.loader import Script
from app.adapters.redis.patience import OwnLag
from app.domain.errors import LedgerUnavailable

MOST_AT_ONCE = 128

Observe = Callable[[str, str, float], None]
"""Called with a script's name, `ok` or the kind of trouble, and the seconds it took."""


class Store:
    """One store and the way to it. `name` tells the ledger's from the cache's in the log.

    `replicas` must have what the ledger's scripts wrote before it counts (decision 15).
    """

    def __init__(
        self,
        client: Client,
        *,
        name: str = "ledger",
        timeout_s: float = 0.5,
        observe: Observe = lambda _script, _outcome, _seconds: None,
        breaker: Breaker | None = None,
        replicas: int = 0,
    ) -> None:
        self._client, self._timeout_s, self._observe = client, timeout_s, observe
        self._log = structlog.get_logger().bind(store=name)
        self._breaker = breaker or Breaker()
        self._tell = self._breaker.on_state
        self._breaker.on_state = self._changed
        self._away = False
        self._exchange: Exchange = (
            Pipeline(client.connection_pool, timeout_s, replicas)
            if isinstance(client, Redis)
            else Routed(client, timeout_s, replicas)
        )
        self._queue: list[Call] = []
        self._courier: asyncio.Task[None] | None = None

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    async def run(self, script: Script, keys: Sequence[str], *args: Argument) -> Any:
        """Run a script, loading it first where the store does not know it.

        The answer is what the script documents. Raises `LedgerUnavailable`; an error of the script
        itself stays a `ResponseError`.
        """
        if not self._breaker.permits():
            self._observe(script.name, "breaker", 0.0)
            raise _unavailable("breaker", asked=False)
        call = Call.of(script, keys, args)
        self._queue.append(call)
        if self._courier is None:
            self._courier = asyncio.create_task(self._carry(), name="koi-store")
        return await call.answer

    async def pubsub(self) -> PubSub:
        """A connection of its own to listen on; the caller closes it."""
        return (await ledger_server(self._client, self._timeout_s)).pubsub()

    async def aclose(self) -> None:
        """Finish what is queued, then hang up."""
        if self._courier is not None:
            await asyncio.wait([self._courier], timeout=2 * self._timeout_s)
        await self._client.aclose()

    async def _carry(self) -> None:
        try:
            while self._queue:
                calls = [call for call in self._queue[:MOST_AT_ONCE] if not call.answer.done()]
                del self._queue[:MOST_AT_ONCE]
                if calls:
                    await self._deliver(calls)
        finally:
            self._courier = None

    async def _deliver(self, calls: list[Call]) -> None:
        try:
            try:
                replies = await self._exchange(calls)
            except (RedisError, OSError) as error:
                replies = [error] * len(calls)
            kinds = {self._answer(call, reply) for call, reply in zip(calls, replies, strict=True)}
            if any(isinstance(reply, OwnLag) for reply in replies):
                # The store may have answered for all we know: that says nothing about it.
                return
            if "timeout" in kinds:
                # Those still in line have waited as long as the ones that were sent.
                waiting, self._queue = self._queue, []
                for call in waiting:
                    self._answer(call, TimeoutError())
            if kinds - REFUSING - {None}:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
        finally:
            # Whatever happened here, nobody waits for ever.
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(_unavailable("closed"))
                    call.answer.exception()  # seen: its caller may be gone

    def _answer(self, call: Call, reply: object) -> str | None:
        """Give a caller its reply or failure; tell the kind of trouble the store is in."""
        failure = reply if isinstance(reply, Exception) else None
        kind = kind_of(failure) if failure else None
        outcome = "ok" if failure is None else kind or "error"
        self._observe(call.script.name, outcome, time.perf_counter() - call.since)
        if call.answer.done():
            return kind
        if failure is None:
            call.answer.set_result(reply)
            return None
        if kind is None:
            call.answer.set_exception(failure)
            return None
        unavailable = _unavailable(kind)
        unavailable.__cause__ = failure
        call.answer.set_exception(unavailable)
        return kind

    def _changed(self, state: BreakerState) -> None:
        away = state is not BreakerState.CLOSED
        if away is not self._away:
            # Once each way: every probe in between changes the state, too (reliability, S39).
            self._away = away
            self._log.warning("store_breaker", state=state.value)
        self._tell(state)


def _unavailable(kind: str, *, asked: bool = True) -> LedgerUnavailable:
    return LedgerUnavailable(f"The ledger is unavailable ({kind}); nothing was spent.", asked=asked)
