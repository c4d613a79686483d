"""A connection that listens to one channel.

redis-py makes it; then its transport is taken over, as a link's is: of many messages that arrive
together each costs little, and a picture's end is one.
"""

import asyncio
from collections.abc import Sequence
from functools import partial

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from app.adapters.redis.client.link import NOT_ENOUGH_DATA, open_reader, transport_of
from app.adapters.redis.client.pipeline import acquire, hang_up
from app.adapters.redis.client.scripts import packed_command

Heard = Sequence[str | None]
"""Messages; None where listening begins."""


class Listener(asyncio.Protocol):
    """`close` hands the connection back."""

    def __init__(self, pool: ConnectionPool, connection: AbstractConnection, channel: str) -> None:
        self.close = partial(hang_up, pool, connection)
        self._transport = transport_of(connection)
        self._former = self._transport.get_protocol()
        self._reader = open_reader()
        self._heard: list[str | None] = []
        self._was_answered = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._transport.set_protocol(self)
        self._transport.write(packed_command("SUBSCRIBE", channel))

    async def read(self, within_s: float) -> Heard | None:
        """What was heard since the last call, waiting for it so long; None when the server was
        silent. Raises what ended the connection."""
        if not (self._heard or self._was_answered or self._failure):
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(within_s, self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                timer.cancel()
        if self._heard or self._was_answered:
            heard, self._heard, self._was_answered = self._heard, [], False
            return heard
        if self._failure is not None:
            raise self._failure
        return None

    def ping(self) -> None:
        """The server answers: `read` returns nothing then, but does return."""
        self._transport.write(packed_command("PING"))

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not NOT_ENOUGH_DATA:
                self._take(reply)
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing is heard any more
            self._fail(InvalidResponse(f"the server sent no reply: {error!r}"))
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._former.connection_lost(exc)
        self._fail(RedisConnectionError(f"the connection was lost: {exc}"))
        self._wake()

    def _take(self, reply: object) -> None:
        match reply:
            case Exception():
                self._fail(reply)
            case ["message", _, str(message)] if isinstance(reply, hiredis.PushNotification):
                self._heard.append(message)
            case ["subscribe", *_] if isinstance(reply, hiredis.PushNotification):
                self._heard.append(None)
        self._was_answered = True

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def listen(pool: ConnectionPool, channel: str) -> Listener:
    """Raises `RedisError`, `OSError`."""
    connection = await acquire(pool)
    try:
        return Listener(pool, connection, channel)
    except BaseException:
        await hang_up(pool, connection)
        raise
