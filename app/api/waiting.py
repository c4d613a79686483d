"""Waiting on behalf of a client that may hang up at any moment."""

import asyncio
import select
from collections.abc import Coroutine
from enum import Enum
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")


class Peer(Enum):
    """The other end of a connection. SILENT: it sends nothing any more, and whether it still reads
    is not known yet."""

    HERE = "here"
    SILENT = "silent"
    GONE = "gone"


def peer_of(connection: asyncio.Transport) -> Peer:
    """By what the socket says now: the loop may not have come round to reading that it hung up."""
    if connection.is_closing():
        return Peer.GONE
    look = select.poll()
    look.register(connection.get_extra_info("socket").fileno(), select.POLLRDHUP)
    for _, events in look.poll(0):
        return Peer.GONE if events & (select.POLLHUP | select.POLLERR) else Peer.SILENT
    return Peer.HERE


class Waiting(Generic[T]):
    """Work done while the client's presence is watched; leaving the block drops the work.

    The work must be a mere wait: dropping it changes nothing but who hears of its end. The
    request's body must have been read.
    """

    def __init__(self, receive: Receive, work: Coroutine[Any, Any, T]) -> None:
        self._receive = receive
        self._work = work

    async def __aenter__(self) -> Self:
        self._working = asyncio.ensure_future(self._work)
        self._leaving = asyncio.ensure_future(self._gone())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leaving.cancel()
        self._working.cancel()
        if self._working.done() and not self._working.cancelled():
            self._working.exception()

    async def ready(self, within_s: float | None = None) -> bool:
        """True once the work is done, false when time is up; raises `ClientDisconnect`."""
        await asyncio.wait(
            {self._working, self._leaving},
            timeout=within_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self._working.done():
            return True
        if self._leaving.done():
            raise ClientDisconnect
        return False

    def check(self) -> None:
        """Raise `ClientDisconnect` if the client left; right after sending, before any await,
        because a complete response looks like a departure too."""
        if self._leaving.done():
            raise ClientDisconnect

    def result(self) -> T:
        """What the work gave, or raised."""
        return self._working.result()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
