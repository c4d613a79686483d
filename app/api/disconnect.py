"""Waiting for a client that may hang up at any moment."""

import asyncio
import select
from collections.abc import Coroutine
from enum import Enum
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

T = TypeVar("T")


class PeerState(Enum):
    """The other end of a connection. HALF_CLOSED: it sends nothing any more, and whether it still
    reads is not known yet."""

    CONNECTED = "here"
    HALF_CLOSED = "silent"
    DISCONNECTED = "gone"


def probe_peer(connection: asyncio.Transport) -> PeerState:
    """What the socket says now. The event loop may not have read yet that the peer hung up."""
    if connection.is_closing():
        return PeerState.DISCONNECTED
    poller = select.poll()
    poller.register(connection.get_extra_info("socket").fileno(), select.POLLRDHUP)
    for _, events in poller.poll(0):
        return (
            PeerState.DISCONNECTED
            if events & (select.POLLHUP | select.POLLERR)
            else PeerState.HALF_CLOSED
        )
    return PeerState.CONNECTED


class DisconnectWatch(Generic[T]):
    """Runs a wait and watches whether the client is still there; leaving the block cancels both.

    The work must only wait for something, so that nothing is lost when it is cancelled. The
    request's body must have been read.
    """

    def __init__(self, receive: Receive, work: Coroutine[Any, Any, T]) -> None:
        self._receive = receive
        self._work = work

    async def __aenter__(self) -> Self:
        self._work_task = asyncio.ensure_future(self._work)
        self._disconnect_task = asyncio.ensure_future(self._wait_for_disconnect())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._disconnect_task.cancel()
        self._work_task.cancel()
        if self._work_task.done() and not self._work_task.cancelled():
            self._work_task.exception()

    async def wait(self, within_s: float | None = None) -> bool:
        """True once the work is done, false when time is up; raises `ClientDisconnect`."""
        await asyncio.wait(
            {self._work_task, self._disconnect_task},
            timeout=within_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self._work_task.done():
            return True
        if self._disconnect_task.done():
            raise ClientDisconnect
        return False

    def raise_if_disconnected(self) -> None:
        """Raise `ClientDisconnect` if the client left. Call it right after sending and before any
        await: the server reports a complete response as a disconnect too."""
        if self._disconnect_task.done():
            raise ClientDisconnect

    def result(self) -> T:
        """What the work returned; raises what it raised."""
        return self._work_task.result()

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
