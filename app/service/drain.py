"""Stopping without losing anything: refuse new work, finish what runs, then close."""

import asyncio
from collections.abc import Coroutine
from typing import Any


class Drain:
    """Owns this process's running work. Work survives the request that started it."""

    def __init__(self) -> None:
        self.draining = False
        self.begun = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def launch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work to its end, whatever becomes of the caller."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def begin(self) -> None:
        self.draining = True
        self.begun.set()

    async def settled(self, timeout_s: float) -> bool:
        """Wait until nothing runs here; false when time ran out first."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=timeout_s)
        return not self._running
