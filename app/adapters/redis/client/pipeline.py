"""Sends calls to one server together, in one pipeline on one connection."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import (
    MasterDownError,
    MaxConnectionsError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
)

from app.adapters.redis import keyspace
from app.adapters.redis.client.errors import translate_resets
from app.adapters.redis.client.scripts import Argument, Command, Script, build_script
from app.adapters.redis.client.timeouts import reply_timeout

DEMOTED_ERRORS = (ReadOnlyError, MasterDownError)
"""Answers of a server that stopped being the primary: a new connection may find the new one."""
NOOP_WRITE = build_script(
    "confirm",
    "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) or '0')",
    [],
)
"""A write that changes nothing. WAIT confirms only the writes of its own connection: without this,
a repeated call that found its work done already would be confirmed although no replica has it."""
WAIT_TIMEOUT_SHARE = 0.7
"""Of the store's timeout, so that too few replicas differ from a store that does not answer."""


@dataclass(slots=True, eq=False)
class ScriptCall:
    """One script or command to run, and where its answer goes. `packed` is the command as bytes."""

    script: Script | Command
    keys: Sequence[str]
    packed: bytes
    reply: asyncio.Future[Any]
    queued_at_s: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls, script: Script | Command, keys: Sequence[str], args: Sequence[Argument]
    ) -> "ScriptCall":
        """Packed at once, so that a bad argument fails its own caller and no other."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return cls(script, keys, packed_command(*script.words(keys, args)), reply)


SendBatch = Callable[[list[ScriptCall]], Awaitable[list[Any]]]
"""Sends calls and gives their replies in order; failures are values among them.

Raises `RedisError` or `OSError` when the store as a whole does not answer.
"""


def packed_command(*words: Argument) -> bytes:
    """A command in RESP, the protocol's array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class NodePipeline:
    """One server. So many `replicas` must have what the ledger wrote before it counts."""

    pool: ConnectionPool
    timeout_s: float
    replicas: int = 0

    async def __call__(self, calls: list[ScriptCall], *, asking: bool = False) -> list[Any]:
        """`asking`: each call is for a slot that is being moved to this server (`ASK`)."""
        replies = await self._send_calls(calls, (), asking=asking)
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            scripts = (calls[n].script for n in unknown)
            texts = {script.text for script in scripts if isinstance(script, Script)}
            loads = [packed_command("SCRIPT", "LOAD", text) for text in texts]
            again = await self._send_calls([calls[n] for n in unknown], loads, asking=asking)
            for n, reply in zip(unknown, again, strict=True):
                replies[n] = reply
        return replies

    async def _send_calls(
        self, calls: list[ScriptCall], first: Sequence[bytes], *, asking: bool
    ) -> list[Any]:
        kept = [n for n, call in enumerate(calls) if self.replicas and _writes_ledger(call)]
        commands = [*first]
        for call in calls:
            commands += [packed_command("ASKING"), call.packed] if asking else [call.packed]
        sent = len(commands)
        if kept:
            commands += [*self._wait_commands()]
        replies = await self.send(commands)
        answers = replies[len(first) : sent]
        if asking:
            answers = answers[1::2]
        if kept and not _has_replicas(replies[-1], self.replicas):
            for n in kept:
                if not isinstance(answers[n], Exception):
                    answers[n] = ResponseError("NOREPLICAS Too few replicas have the write.")
        return answers

    def _wait_commands(self) -> tuple[bytes, bytes]:
        write = packed_command("EVAL", NOOP_WRITE.text, 1, keyspace.SEQUENCE)
        return write, packed_command(
            "WAIT", self.replicas, int(self.timeout_s * WAIT_TIMEOUT_SHARE * 1000)
        )

    async def send(self, commands: Sequence[bytes]) -> list[Any]:
        """Everything in one write on one connection, within one timeout."""
        with translate_resets():
            return await self._send(commands)

    async def _send(self, commands: Sequence[bytes]) -> list[Any]:
        connection = await _acquire(self.pool)
        try:
            async with reply_timeout(self.timeout_s):
                await connection.send_packed_command(b"".join(commands))
                replies = [await _read_reply(connection) for _ in commands]
            if any(isinstance(reply, DEMOTED_ERRORS) for reply in replies):
                await connection.disconnect()
        except BaseException:
            # Replies still under way must never reach the next caller.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self.pool.release(connection)
        return replies


def _writes_ledger(call: ScriptCall) -> bool:
    """Whether it may change the ledger."""
    return call.script.writes and call.keys == keyspace.LEDGER_ROUTE


def _has_replicas(count: object, replicas: int) -> bool:
    return isinstance(count, int) and count >= replicas


async def _acquire(pool: ConnectionPool) -> AbstractConnection:
    try:
        connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
    except RedisConnectionError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise MaxConnectionsError("no connection became free in time") from error
        raise
    return connection


async def _read_reply(connection: AbstractConnection) -> Any:
    try:
        # The pipeline as a whole is timed: a timer for each reply would cost more than the reply.
        return await connection.read_response(timeout=float("inf"))
    except ResponseError as error:
        return error
