"""How calls reach the store: together in one pipeline, or each on its own."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, NoScriptError, ResponseError

from app.adapters.redis.connection import Client
from app.adapters.redis.loader import Script

Argument = str | bytes | int


@dataclass(slots=True, eq=False)
class Call:
    """One script asked for, and where its answer goes. `wire` is the command as bytes."""

    script: Script
    operands: tuple[Argument, ...]
    wire: bytes
    answer: asyncio.Future[Any]
    since: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(cls, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> "Call":
        """Written out at once, so that a bad argument fails its own caller and no other."""
        operands = (len(keys), *keys, *args)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return cls(script, operands, wire("EVALSHA", script.sha, *operands), answer)


Exchange = Callable[[list[Call]], Awaitable[list[Any]]]
"""Sends calls and gives their replies in order; refusals are values among them.

Raises `RedisError` or `OSError` when the store fell silent.
"""


def wire(*words: Argument) -> bytes:
    """A command in RESP, the protocol's array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(parts)


def pipelined(pool: ConnectionPool, timeout_s: float) -> Exchange:
    """Everything in one write on one connection, within one timeout."""

    async def exchange(commands: list[bytes]) -> list[Any]:
        connection = await _acquire(pool)
        try:
            async with asyncio.timeout(timeout_s):
                await connection.send_packed_command(b"".join(commands))
                return [await _reply(connection) for _ in commands]
        except BaseException:
            # Replies still under way belong to nobody now: never to the next caller.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    async def together(calls: list[Call]) -> list[Any]:
        replies = await exchange([call.wire for call in calls])
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            texts = {calls[n].script.text for n in unknown}
            loads = [wire("SCRIPT", "LOAD", text) for text in texts]
            again = await exchange(loads + [calls[n].wire for n in unknown])
            for n, reply in zip(unknown, again[len(loads) :], strict=True):
                replies[n] = reply
        return replies

    return together


def each_alone(client: Client, timeout_s: float) -> Exchange:
    """One call after the other through the client, which finds a cluster's node by the key."""

    async def ask(call: Call) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await client.execute_command("EVALSHA", call.script.sha, *call.operands)
        except NoScriptError:
            async with asyncio.timeout(timeout_s):
                return await client.execute_command("EVAL", call.script.text, *call.operands)

    async def alone(calls: list[Call]) -> list[Any]:
        replies: list[Any] = []
        for call in calls:
            try:
                replies.append(await ask(call))
            except ResponseError as error:
                replies.append(error)
        return replies

    return alone


async def _acquire(pool: ConnectionPool) -> AbstractConnection:
    try:
        connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call]
    except RedisConnectionError as error:
        if isinstance(error.__cause__, TimeoutError):
            raise MaxConnectionsError("no connection became free in time") from error
        raise
    return connection


async def _reply(connection: AbstractConnection) -> Any:
    try:
        # The exchange as a whole is timed; a timer for each reply would cost more than the reply.
        return await connection.read_response(timeout=float("inf"))
    except ResponseError as error:
        return error
