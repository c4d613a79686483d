"""A timeout that tells a silent store from a process whose event loop was blocked.

While the loop is blocked, answers lie unread in the socket and the time passes all the same. When
the timer fires late, the store gets the time again, so that what has arrived is read first.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

MIN_LAG_S = 0.05
"""A timer that fires so late says that the loop was blocked."""
MAX_EXTENSIONS = 5


class EventLoopLag(TimeoutError):
    """The time ran out again and again because this process did not get to read."""


def _at(
    loop: asyncio.AbstractEventLoop, due_s: float, up: Callable[[float], None]
) -> asyncio.TimerHandle:
    return loop.call_at(due_s, up, due_s)


@asynccontextmanager
async def reply_timeout(seconds: float) -> AsyncIterator[None]:
    """Raises `TimeoutError` after so many seconds without an answer, and `EventLoopLag` when the
    loop was blocked so often that it cannot say."""
    loop = asyncio.get_running_loop()
    extensions = MAX_EXTENSIONS
    lagged = False
    timer: asyncio.TimerHandle

    def up(due_s: float) -> None:
        nonlocal extensions, lagged, timer
        lagged = loop.time() - due_s > MIN_LAG_S
        if lagged and extensions > 0:
            extensions -= 1
            timer = _at(loop, loop.time() + seconds, up)
        else:
            limit.reschedule(loop.time())

    timer = _at(loop, loop.time() + seconds, up)
    try:
        async with asyncio.timeout(None) as limit:
            yield
    except TimeoutError as error:
        if lagged:
            raise EventLoopLag(*error.args) from error
        raise
    finally:
        timer.cancel()
