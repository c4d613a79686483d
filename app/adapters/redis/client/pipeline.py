"""Sends calls to one server together: in one write, on one link that is made when it is needed."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, NoScriptError, RedisError, ResponseError

from app.adapters.redis import keyspace
from app.adapters.redis.client.errors import translate_resets
from app.adapters.redis.client.link import Done, Exchange, Link
from app.adapters.redis.client.scripts import (
    Argument,
    Command,
    Script,
    build_script,
    packed_command,
)

NOOP_WRITE = build_script(
    "confirm",
    "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) or '0')",
)
"""A write that changes nothing. WAIT confirms only the writes of its own connection: without this,
a repeated call that found its work done already would be confirmed although no replica has it."""
WAIT_TIMEOUT_SHARE = 0.7
"""Of the store's timeout, so that too few replicas differ from a store that does not answer."""
ASKING = packed_command("ASKING")


class ReplyReader(Protocol):
    """What a call's reply means for this process, whether or not its caller still waits."""

    def read(self, reply: Any) -> Any:
        """The answer for the caller. Raises what the caller is told instead."""

    def flush(self) -> None:
        """Called after all replies of a batch were read, before any caller gets its answer."""


@dataclass(slots=True, eq=False)
class ScriptCall:
    """One script or command to run, and where its answer goes. `packed` is the command as bytes."""

    script: Script | Command
    keys: Sequence[str]
    packed: bytes
    reply: asyncio.Future[Any]
    reader: ReplyReader | None = None
    queued_at_s: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls,
        script: Script | Command,
        keys: Sequence[str],
        args: Sequence[Argument],
        reader: ReplyReader | None = None,
    ) -> "ScriptCall":
        """Packed at once, so that a bad argument fails its own caller and no other."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return cls(script, keys, script.packed(keys, args), reply, reader)


class Pipeline(Protocol):
    """Sends batches of calls. `is_serial`: one batch has its replies before the next is sent."""

    @property
    def is_serial(self) -> bool: ...

    def send(self, calls: Sequence[ScriptCall], done: Done) -> None:
        """`done` is called once, perhaps before this returns."""

    async def aclose(self) -> None: ...


class NodePipeline:
    """One server. So many `replicas` must have what the ledger wrote before it counts: then a
    batch waits for them, and the next one would time out while it waits for that one's replicas."""

    def __init__(self, pool: ConnectionPool, timeout_s: float, replicas: int = 0) -> None:
        self._pool, self._timeout_s, self._replicas = pool, timeout_s, replicas
        self._link: Link | None = None
        self._unsent: list[Exchange] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None

    @property
    def is_serial(self) -> bool:
        return self._replicas > 0

    def send(self, calls: Sequence[ScriptCall], done: Done, *, asking: bool = False) -> None:
        """`asking`: each call is for a slot that is being moved to this server (`ASK`)."""
        self._send_calls(calls, (), partial(self._load_unknown, calls, done, asking), asking)

    async def ask(self, calls: Sequence[ScriptCall], *, asking: bool = False) -> list[Any]:
        """`send`, for who waits. Raises `RedisError` or `OSError` when the server as a whole does
        not answer."""
        answered: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def done(replies: list[Any] | Exception) -> None:
            if answered.done():
                return  # nobody waits any more
            if isinstance(replies, Exception):
                answered.set_exception(replies)
            else:
                answered.set_result(replies)

        self.send(calls, done, asking=asking)
        return await answered

    async def aclose(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.close()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _load_unknown(
        self, calls: Sequence[ScriptCall], done: Done, asking: bool, replies: list[Any] | Exception
    ) -> None:
        """Scripts that the server does not know are sent again, behind their texts."""
        if isinstance(replies, Exception):
            done(replies)
            return
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if not unknown:
            done(replies)
            return
        scripts = (calls[n].script for n in unknown)
        texts = {script.text for script in scripts if isinstance(script, Script)}
        loads = [packed_command("SCRIPT", "LOAD", text) for text in texts]
        merged = partial(_merge, replies, unknown, done)
        self._send_calls([calls[n] for n in unknown], loads, merged, asking)

    def _send_calls(
        self, calls: Sequence[ScriptCall], first: Sequence[bytes], done: Done, asking: bool
    ) -> None:
        if not (first or asking or self._replicas):
            self._exchange([call.packed for call in calls], done)
            return
        commands = [*first]
        for call in calls:
            commands += (ASKING, call.packed) if asking else (call.packed,)
        span = slice(len(first) + asking, len(commands), 1 + asking)
        kept = [n for n, call in enumerate(calls) if self._replicas and _writes_ledger(call)]
        if kept:
            commands += self._wait_commands()
        self._exchange(commands, partial(self._unwrap, span, kept, done))

    def _unwrap(
        self, span: slice, kept: Sequence[int], done: Done, replies: list[Any] | Exception
    ) -> None:
        """Give on the replies to the calls alone: those in `span`. The calls in `kept` count only
        when the replicas have them."""
        if isinstance(replies, Exception):
            done(replies)
            return
        answers = replies[span]
        if kept and not _has_replicas(replies[-1], self._replicas):
            for n in kept:
                if not isinstance(answers[n], Exception):
                    answers[n] = ResponseError("NOREPLICAS Too few replicas have the write.")
        done(answers)

    def _wait_commands(self) -> tuple[bytes, bytes]:
        write = packed_command("EVAL", NOOP_WRITE.text, 1, keyspace.SEQUENCE)
        return write, packed_command(
            "WAIT", self._replicas, int(self._timeout_s * WAIT_TIMEOUT_SHARE * 1000)
        )

    def _exchange(self, commands: Sequence[bytes], done: Done) -> None:
        exchange = Exchange(commands, done)
        if self._link is not None and self._link.is_open:
            self._link.send(exchange)
            return
        self._unsent.append(exchange)
        if self._connecting is None:
            self._connecting = self._launch(self._connect(), "koi-store-connect")

    async def _connect(self) -> None:
        error: Exception = RedisConnectionError("this process hung up")
        link = None
        try:
            link = self._link = await self._make_link()
        except (RedisError, OSError) as trouble:
            error = trouble
        finally:
            self._connecting = None
            waiting, self._unsent = self._unsent, []
            for exchange in waiting:
                if link is not None and link.is_open:
                    link.send(exchange)
                else:
                    exchange.done(error)

    async def _make_link(self) -> Link:
        connection = await acquire(self._pool)
        try:
            return Link(connection, self._timeout_s, partial(self._hand_back, connection))
        except RedisError:
            self._hand_back(connection)
            raise

    def _hand_back(self, connection: AbstractConnection) -> None:
        self._launch(hang_up(self._pool, connection), "koi-store-hang-up")

    def _launch(self, work: Any, name: str) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _merge(
    replies: list[Any], unknown: Sequence[int], done: Done, again: list[Any] | Exception
) -> None:
    """Put the second replies where the first ones were."""
    for index, n in enumerate(unknown):
        replies[n] = again if isinstance(again, Exception) else again[index]
    done(replies)


def _writes_ledger(call: ScriptCall) -> bool:
    """Whether it may change the ledger."""
    return call.script.writes and call.keys == keyspace.LEDGER_ROUTE


def _has_replicas(count: object, replicas: int) -> bool:
    return isinstance(count, int) and count >= replicas


async def acquire(pool: ConnectionPool) -> AbstractConnection:
    try:
        connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
    except RedisConnectionError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise MaxConnectionsError("no connection became free in time") from error
        raise
    return connection


async def hang_up(pool: ConnectionPool, connection: AbstractConnection) -> None:
    try:
        with translate_resets():
            await connection.disconnect(nowait=True)
    except (RedisError, OSError):
        pass  # it is gone either way
    finally:
        await pool.release(connection)
