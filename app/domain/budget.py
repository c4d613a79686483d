"""A budget of bytes: how much of the process's memory pictures may take at the same time."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress


class MemoryBudget:
    """First come, first served: a large wish is not overtaken by small ones for ever.

    A wish beyond the whole budget is granted alone. One event loop only.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = total
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def reserved_bytes(self) -> int:
        """Bytes granted and not yet given back."""
        return self._total - self._free

    @asynccontextmanager
    async def reserve(self, wanted: int) -> AsyncIterator[None]:
        """Wait for that many bytes, and hold them for as long as the block lasts."""
        granted = min(max(wanted, 0), self._total)
        await self._take(granted)
        try:
            yield
        finally:
            self._give(granted)

    @contextmanager
    def try_reserve(self, wanted: int) -> Iterator[bool]:
        """Whether that many bytes are free right now; then they are held while the block lasts."""
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
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((granted, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give(granted)
            else:
                # Whoever gave in the meantime has taken it out of the queue.
                with suppress(ValueError):
                    self._queue.remove((granted, turn))
                self._give(0)
            raise

    def _give(self, granted: int) -> None:
        self._free += granted
        while self._queue and (self._queue[0][1].done() or self._queue[0][0] <= self._free):
            wanted, turn = self._queue.popleft()
            if not turn.done():  # done: cancelled, and its task did not run since
                self._free -= wanted
                turn.set_result(None)
