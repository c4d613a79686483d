"""The timers of a connection: for its requests, and for a client that reads nothing."""

import asyncio
from collections.abc import Callable

from app.domain.references import upload_due_s

WRITE_STALL_TIMEOUT_S = 60.0


class ConnectionDeadline:
    """A deadline that moves with every request and hardly ever passes.

    Moving it on or dropping it touches no timer of the event loop: the one that is set looks at
    its end whether there still is a deadline, and waits again for what is left.
    """

    __slots__ = ("_act", "_at_s", "_loop", "_timer", "_timer_at_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._act: Callable[[], object] | None = None
        self._at_s = self._timer_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, act: Callable[[], object]) -> None:
        """Call `act` after so many seconds, in place of what was to be called before."""
        self._act, self._at_s = act, self._loop.time() + seconds
        if self._timer is None or self._at_s < self._timer_at_s:
            self._set_timer(seconds)

    def extend(self, body_bytes: int, timeout_s: float) -> None:
        """A body that comes at a good pace may take its time, as the route that reads it allows."""
        due_s = upload_due_s(self._at_s, body_bytes, self._loop.time(), timeout_s)
        self._at_s = max(self._at_s, due_s)

    def clear(self) -> None:
        self._act = None

    def close(self) -> None:
        self._act = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at_s = self._loop.time() + seconds
        self._timer = self._loop.call_later(seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        if (act := self._act) is None:
            return
        left_s = self._at_s - self._loop.time()
        if left_s > 0:
            self._set_timer(left_s)
        else:
            self._act = None
            act()


class WriteStallWatch:
    """While a client has more to read than is kept for it: it must take some of that in time."""

    __slots__ = ("_loop", "_timer", "_transport", "_unwritten_bytes")

    def __init__(self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._unwritten_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._unwritten_bytes = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(WRITE_STALL_TIMEOUT_S, self._check)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        if self._transport.get_write_buffer_size() >= self._unwritten_bytes:
            self._transport.abort()
        else:
            self.start()
