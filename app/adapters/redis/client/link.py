"""One connection to one server, which many calls share without waiting for each other's replies.

redis-py makes the connection: URL, TLS, password, Sentinel and RESP3 are its work. Then the link
takes over its transport: what is asked together leaves in one write, replies are parsed in bulk as
they arrive, and each goes to the oldest command without one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import hiredis
import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from app.adapters.redis.client.errors import DEMOTED_ERRORS, read_error, read_reset
from app.adapters.redis.client.timeouts import SilenceTimer

log = structlog.get_logger("koi.store")
NOT_ENOUGH_DATA = object()

Done = Callable[[list[Any] | Exception], None]
"""Called once: with the replies in order, errors among them, or with what became of the link."""


@dataclass(slots=True, eq=False)
class Exchange:
    """Commands that leave in one write, and the replies to them so far."""

    commands: Sequence[bytes]
    done: Done
    replies: list[Any] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return len(self.replies) == len(self.commands)

    def finish(self, outcome: list[Any] | Exception) -> Exception | None:
        """Call `done`; what it raised, which must keep nobody else from their replies."""
        try:
            self.done(outcome)
        except Exception as error:
            log.exception("store_reply_not_handled")
            return error
        return None


class Link(asyncio.Protocol):
    """A connection of redis-py from now on, until it is lost, silent for `timeout_s` seconds, or
    its server stops being the primary. `lost` is called then: the connection may be handed back."""

    def __init__(
        self, connection: AbstractConnection, timeout_s: float, lost: Callable[[], None]
    ) -> None:
        self._transport = transport_of(connection)
        # redis-py learns through its own protocol when the connection is closed.
        self._former = self._transport.get_protocol()
        self._lost, self._timer = lost, SilenceTimer(timeout_s, self._fail)
        self._under_way: deque[Exchange] = deque()
        self._reader = open_reader()
        self.is_open = True
        self._ended = False
        self._transport.set_protocol(self)
        if self._transport.is_closing():
            self.close()

    @property
    def is_idle(self) -> bool:
        return not self._under_way

    def send(self, exchange: Exchange) -> None:
        if not self._under_way:
            self._timer.restart()
        self._under_way.append(exchange)
        try:
            self._transport.write(b"".join(exchange.commands))
        except RuntimeError as error:
            self._fail(read_reset(error))
        except OSError as error:
            self._fail(error)

    def data_received(self, data: bytes) -> None:
        finished: list[Exchange] = []
        trouble: Exception | None = None
        try:
            self._parse(data, finished)
        except Exception as error:  # noqa: BLE001 - whatever it was, replies are out of step now
            trouble = InvalidResponse(f"the server sent no reply: {error!r}")
        if self._under_way:
            self._timer.restart()
        else:
            self._timer.pause()
        for exchange in finished:
            trouble = exchange.finish(exchange.replies) or trouble
        if trouble is not None:
            self._fail(trouble)
        elif not self.is_open and self.is_idle:
            self.close()

    def _parse(self, data: bytes, finished: list[Exchange]) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not NOT_ENOUGH_DATA:
            if isinstance(reply, hiredis.PushNotification):
                continue
            if isinstance(reply, DEMOTED_ERRORS):
                # A new connection may find the new primary. What was sent is still answered here.
                self.is_open = False
            exchange = self._under_way[0]
            exchange.replies.append(reply)
            if exchange.is_complete:
                finished.append(self._under_way.popleft())

    def connection_lost(self, exc: Exception | None) -> None:
        self._former.connection_lost(exc)
        self._fail(RedisConnectionError(f"the connection was lost: {exc}"))

    def close(self) -> None:
        self._fail(RedisConnectionError("this process hung up"))

    def _fail(self, error: Exception) -> None:
        """Replies under way must never reach the next caller, so the connection ends here."""
        if self._ended:
            return
        self._ended, self.is_open = True, False
        self._timer.cancel()
        self._transport.abort()
        self._lost()
        while self._under_way:
            self._under_way.popleft().finish(error)


def open_reader() -> hiredis.Reader:
    """Reads replies; `NOT_ENOUGH_DATA` when none is whole."""
    return hiredis.Reader(
        encoding="utf-8",
        replyError=read_error,
        protocolError=InvalidResponse,
        notEnoughData=NOT_ENOUGH_DATA,
    )


def transport_of(connection: AbstractConnection) -> asyncio.Transport:
    """redis-py has no public name for it, so this is the one place that knows its private one."""
    writer = connection._writer
    if writer is None:
        raise RedisConnectionError("the connection was lost as soon as it was made")
    return cast("asyncio.Transport", writer.transport)  # uvloop's is one in all but name
