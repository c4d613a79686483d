"""Runs scripts on the store. Scripts called in one turn of the event loop share one exchange.

They leave in one write: fewer system calls, and one fsync for all of them. Several batches may be
under way on the link at once. A caller that is cancelled does not affect the others. Whatever keeps
the store from answering becomes `StoreUnavailable`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import structlog
from redis.asyncio import Redis

from app.adapters.redis.client.breaker import BreakerState, CircuitBreaker
from app.adapters.redis.client.connection import Client, find_ledger_node
from app.adapters.redis.client.errors import WRITE_REFUSALS, classify_error
from app.adapters.redis.client.listener import Listener, listen
from app.adapters.redis.client.pipeline import NodePipeline, Pipeline, ReplyReader, ScriptCall
from app.adapters.redis.client.scripts import Argument, Command, Script
from app.adapters.redis.client.timeouts import EventLoopLag
from app.domain.errors import StoreUnavailable

MAX_BATCH = 128

Observe = Callable[[str, str, float], None]
"""Called with a script's name, `ok` or the kind of failure, and the seconds it took."""


class BatchingStore:
    """One store and the connections to it. In the log, `name` says which store it is.

    So many `replicas` must have what the ledger's scripts wrote before it counts (decision 15).
    """

    def __init__(
        self,
        client: Client,
        *,
        name: str = "ledger",
        timeout_s: float = 0.5,
        observe: Observe = lambda _script, _outcome, _seconds: None,
        breaker: CircuitBreaker | None = None,
        replicas: int = 0,
    ) -> None:
        self._client, self._timeout_s, self._observe = client, timeout_s, observe
        self._log = structlog.get_logger().bind(store=name)
        self._breaker = breaker or CircuitBreaker()
        self._on_state = self._breaker.on_state
        self._breaker.on_state = self._breaker_changed
        self.fix = ""
        """What to do when the store is away, for the log."""
        self._is_away = False
        self._pipeline = _open_pipeline(client, timeout_s, replicas)
        self._queue: list[ScriptCall] = []
        self._is_flush_due = False
        self._sent: set[ScriptCall] = set()
        self._failure: Exception | None = None
        """How the link ended last: the batches that were under way on it fail once."""

    @property
    def state(self) -> BreakerState:
        return self._breaker.state

    async def run(
        self,
        script: Script | Command,
        keys: Sequence[str],
        *args: Argument,
        reader: ReplyReader | None = None,
    ) -> Any:
        """Run a script or a command; a script that the store does not know is loaded first.

        A script answers what its header says, or what `reader` makes of it. Raises
        `StoreUnavailable`; an error of the script itself stays a `ResponseError`.
        """
        if not self._breaker.allows():
            self._observe(script.name, "breaker", 0.0)
            raise _unavailable("breaker", asked=False)
        call = ScriptCall.of(script, keys, args, reader)
        self._queue.append(call)
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)
        return await call.reply

    async def listen(self, channel: str) -> Listener:
        """Listen on a connection of its own; the caller closes it. Raises `RedisError`,
        `OSError`."""
        node = await find_ledger_node(self._client, self._timeout_s)
        return await listen(node.connection_pool, channel)

    async def aclose(self) -> None:
        """Finish what is queued, then hang up."""
        waiting = [call.reply for call in (*self._queue, *self._sent)]
        if waiting:
            await asyncio.wait(waiting, timeout=2 * self._timeout_s)
        await self._pipeline.aclose()
        await self._client.aclose()

    def _flush(self) -> None:
        self._is_flush_due = False
        while self._queue and not (self._sent and self._pipeline.is_serial):
            calls = [call for call in self._queue[:MAX_BATCH] if not call.reply.done()]
            del self._queue[:MAX_BATCH]
            if calls:
                self._sent.update(calls)
                self._pipeline.send(calls, partial(self._finish, calls))

    def _finish(self, calls: Sequence[ScriptCall], replies: list[Any] | Exception) -> None:
        try:
            self._resolve_all(calls, replies)
        finally:
            # Whatever happened here, no caller may wait for ever.
            for call in calls:
                if not call.reply.done():
                    call.reply.set_exception(_unavailable("closed"))
                    call.reply.exception()  # marked as read: its caller may be gone
        if self._queue:
            self._flush()

    def _resolve_all(self, calls: Sequence[ScriptCall], replies: list[Any] | Exception) -> None:
        self._sent.difference_update(calls)
        counts = replies is not self._failure
        if isinstance(replies, Exception):
            self._failure = replies
            replies = [replies] * len(calls)
        if any(call.reader is not None for call in calls):
            replies = _read(calls, replies)
        kinds = {self._resolve(call, reply) for call, reply in zip(calls, replies, strict=True)}
        # Answers that this process was too late to read say nothing about the store.
        if counts and not any(isinstance(reply, EventLoopLag) for reply in replies):
            self._judge(kinds)

    def _judge(self, kinds: set[str | None]) -> None:
        """What the failures of a batch say about the store; None where a call succeeded."""
        if "timeout" in kinds:
            # The calls still queued have waited as long as the ones that were sent.
            waiting, self._queue = self._queue, []
            for call in waiting:
                self._resolve(call, TimeoutError())
        if kinds - WRITE_REFUSALS - {None}:
            self._breaker.record_failure()
        else:
            self._breaker.record_success()

    def _resolve(self, call: ScriptCall, reply: object) -> str | None:
        """Give a caller its reply or failure; returns the kind of failure, if it is the store's."""
        failure = reply if isinstance(reply, Exception) else None
        kind = classify_error(failure) if failure else None
        outcome = "ok" if failure is None else kind or "error"
        self._observe(call.script.name, outcome, time.perf_counter() - call.queued_at_s)
        if call.reply.done():
            return kind
        if failure is None:
            call.reply.set_result(reply)
            return None
        if kind is None:
            call.reply.set_exception(failure)
            return None
        unavailable = _unavailable(kind)
        unavailable.__cause__ = failure
        call.reply.set_exception(unavailable)
        return kind

    def _breaker_changed(self, state: BreakerState) -> None:
        away = state is not BreakerState.CLOSED
        if away is not self._is_away:
            # Logged once each way: every probe in between changes the state, too.
            self._is_away = away
            advice = {"fix": self.fix} if away and self.fix else {}
            self._log.warning("store_breaker", state=state.value, **advice)
        self._on_state(state)


def _read(calls: Sequence[ScriptCall], replies: Sequence[Any]) -> list[Any]:
    """What the replies mean, kept before anybody acts on one of them."""
    answers = list(replies)
    flushes = {}
    for n, (call, reply) in enumerate(zip(calls, replies, strict=True)):
        if call.reader is None or isinstance(reply, Exception):
            continue
        flushes[id(call.reader)] = call.reader.flush
        try:
            answers[n] = call.reader.read(reply)
        except Exception as error:  # noqa: BLE001 - its caller's alone
            answers[n] = error
    for flush in flushes.values():
        flush()
    return answers


def _unavailable(kind: str, *, asked: bool = True) -> StoreUnavailable:
    return StoreUnavailable(f"The ledger is unavailable ({kind}); nothing was spent.", asked=asked)


def _open_pipeline(client: Client, timeout_s: float, replicas: int) -> Pipeline:
    if isinstance(client, Redis):
        return NodePipeline(client.connection_pool, timeout_s, replicas)
    from app.adapters.redis.client.cluster import ClusterPipeline  # noqa: PLC0415 - few need it

    return ClusterPipeline(client, timeout_s, replicas)
