"""Waiting for a client that may hang up at any moment."""

import asyncio
import select
from collections.abc import Callable, Coroutine
from enum import Enum
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

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


class Peer(Protocol):
    """The client of a connection. `has_sent_all` is true when no part of a request is still to
    come. `on_disconnect` is called once no answer can reach the client any more; one request at a
    time may set it."""

    has_sent_all: bool
    on_disconnect: Callable[[], None] | None

    def get_state(self) -> PeerState: ...


class DisconnectWatch:
    """A block that ends with `ClientDisconnect` when the client hangs up.

    What the block awaits is cancelled then, so nothing may be lost by that. The request's body must
    have been read. Without a peer, under a server that is not Koi's own, `receive` tells the same.
    """

    def __init__(self, peer: Peer | None, receive: Receive) -> None:
        self._peer, self._receive = peer, receive
        self._disconnected = False
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task, self._cancels = task, task.cancelling()
        if self._peer is None:
            self._reader = asyncio.create_task(self._wait_for_disconnect())
        elif self._peer.get_state() is PeerState.DISCONNECTED:
            raise ClientDisconnect
        else:
            self._peer.on_disconnect = self._disconnect
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._peer is not None:
            self._peer.on_disconnect = None
        if self._reader is not None:
            self._reader.cancel()
        if (
            self._disconnected
            and self._task.uncancel() <= self._cancels
            and kind is asyncio.CancelledError
        ):
            raise ClientDisconnect from error

    def _disconnect(self) -> None:
        if not self._disconnected:
            self._disconnected = True
            self._task.cancel()

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._disconnect()


class SilentWork(Generic[T]):
    """Work that is awaited step by step, so that something can be sent in between. Leaving the
    block cancels it."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = asyncio.ensure_future(work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._task.cancel()
        if self._task.done() and not self._task.cancelled():
            self._task.exception()

    async def wait(self, within_s: float | None) -> bool:
        """Whether it has ended within this time; None waits for as long as it takes."""
        done, _ = await asyncio.wait({self._task}, timeout=within_s)
        return bool(done)

    def result(self) -> T:
        """What the work returned; raises what it raised."""
        return self._task.result()
