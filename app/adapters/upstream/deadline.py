"""When an exchange has taken too long, judged by a process that may itself have stood still.

A process that was stopped or starved hears of its deadline and of what lies in its sockets in the
same moment. What has arrived is read first: it may be a paid picture.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.adapters.upstream.transport import Sending

LATE_S = 0.25
"""A timer that fires this much after its time says that the process stood still."""
GRACE_S = 2.0
MOST_GRACES = 3
"""A machine that is always late must not wait for ever."""


@asynccontextmanager
async def deadline(sending: Sending, within_s: float, connect_s: float) -> AsyncIterator[None]:
    """Raises `TimeoutError` once the whole has taken `within_s`, or waiting for a connection or
    making one `connect_s` each."""
    async with asyncio.timeout(None) as limit:
        judge = _Judge(limit, sending, within_s, connect_s)
        try:
            yield
        finally:
            judge.close()


class _Judge:
    def __init__(
        self, limit: asyncio.Timeout, sending: Sending, within_s: float, connect_s: float
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit, self._sending, self._connect_s = limit, sending, connect_s
        self._end = self._loop.time() + within_s
        self._graces = MOST_GRACES
        self._plan(self._loop.time() + min(connect_s, within_s))

    def close(self) -> None:
        self._timer.cancel()

    def _plan(self, when: float) -> None:
        self._planned = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        due = self._end
        if not self._sending.sent:
            due = min(due, self._sending.since + self._connect_s)
        if now < due:
            self._plan(due)
        elif now - self._planned > LATE_S and self._graces:
            self._graces -= 1
            self._plan(now + GRACE_S)
        else:
            self._limit.reschedule(now)
