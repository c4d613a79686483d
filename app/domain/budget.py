"""A budget of bytes: how much of the process's memory pictures may use at the same time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial


class MemoryBudget:
    """First come, first served, so that small reservations do not keep out a large one for ever.

    A reservation larger than the whole budget is granted alone. One event loop only.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def reserved_bytes(self) -> int:
        """Bytes in use."""
        return self._total - self._free

    def reserve(self, wanted: int) -> AbstractAsyncContextManager[None]:
        """Wait for this many bytes, and hold them while the block lasts."""
        granted = min(max(wanted, 0), self._total)
        return _Reservation(partial(self._take, granted), partial(self._give, granted))

    @contextmanager
    def try_reserve(self, wanted: int) -> Iterator[bool]:
        """Whether this many bytes are free now; if so, they are held while the block lasts."""
        granted = wanted if not self._queue and wanted <= self._free else 0
        self._free -= granted
        try:
            yield granted == wanted
        finally:
            self._give(granted)

    async def _take(self, granted: int) -> None:
        if not self._queue and granted <= self._free:
            self._free -= granted
            return
        waiter = asyncio.get_running_loop().create_future()
        self._queue.append((granted, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._give(granted)
            else:
                # `_give` may have removed it from the queue already.
                with suppress(ValueError):
                    self._queue.remove((granted, waiter))
                self._give(0)
            raise

    def _give(self, granted: int) -> None:
        self._free += granted
        while self._queue and (self._queue[0][1].done() or self._queue[0][0] <= self._free):
            wanted, waiter = self._queue.popleft()
            if not waiter.done():  # done: cancelled, and its task did not run since
                self._free -= wanted
                waiter.set_result(None)


class _Reservation(AbstractAsyncContextManager[None]):
    def __init__(self, take: Callable[[], Awaitable[None]], give: Callable[[], None]) -> None:
        self._take, self._give = take, give

    async def __aenter__(self) -> None:
        await self._take()

    async def __aexit__(self, *_: object) -> None:
        self._give()
