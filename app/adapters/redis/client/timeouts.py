"""A timeout that tells a silent store from a process whose event loop was blocked.

While the loop is blocked, answers lie unread in the socket and the time passes all the same. When
the timer fires late, the store gets the time again, so that what has arrived is read first.
"""

import asyncio
from collections.abc import Callable

MIN_LAG_S = 0.05
"""A timer that fires so late says that the loop was blocked."""
MAX_EXTENSIONS = 5


class EventLoopLag(TimeoutError):
    """The time ran out again and again because this process did not get to read."""


class SilenceTimer:
    """Calls `expired` once nothing was heard for so many `seconds`: with `TimeoutError`, or with
    `EventLoopLag` when the loop was blocked so often that it cannot say.

    Nothing is scheduled anew while answers come: the timer looks when the last one came.
    """

    def __init__(self, seconds: float, expired: Callable[[TimeoutError], None]) -> None:
        self._seconds, self._expired = seconds, expired
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting = False
        self._since_s = 0.0
        self._extensions = MAX_EXTENSIONS

    def restart(self) -> None:
        """Something was asked while nothing was awaited, or an answer came and others follow."""
        self._waiting, self._since_s = True, self._loop.time()
        self._extensions = MAX_EXTENSIONS
        if self._timer is None:
            self._schedule(self._since_s + self._seconds)

    def pause(self) -> None:
        """Nothing is awaited any more."""
        self._waiting = False

    def cancel(self) -> None:
        self._waiting = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, due_s: float) -> None:
        self._timer = self._loop.call_at(due_s, self._fire, due_s)

    def _fire(self, due_s: float) -> None:
        self._timer = None
        now_s = self._loop.time()
        ends_s = self._since_s + self._seconds
        if not self._waiting:
            return
        if ends_s > now_s:
            self._schedule(ends_s)
            return
        lagged = now_s - due_s > MIN_LAG_S
        if lagged and self._extensions > 0:
            self._extensions -= 1
            self._since_s = now_s
            self._schedule(now_s + self._seconds)
            return
        self._waiting = False
        self._expired(EventLoopLag() if lagged else TimeoutError())
