"""Stopping without losing anything: refuse new work, finish what runs, then close."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any

OnFailure = Callable[[str, BaseException], None]
"""Told the name of work that broke and why: a bug, since work explains its own failures."""


HAND_OVER_S = 5.0
"""How soon after the drain began tasks at the provider are left to the next process."""


JOB = "job "


def job_name(job_id: str) -> str:
    """What a job's own work is called here."""
    return JOB + job_id


class Drain:
    """Owns this process's running work. Work survives the request that started it."""

    def __init__(self, on_failure: OnFailure) -> None:
        self.leaving = False
        self.draining = False
        self.begun = asyncio.Event()
        self._over_s = math.inf
        self._on_failure = on_failure
        self._running: dict[asyncio.Task[None], str] = {}

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def jobs(self) -> set[str]:
        """The names of the jobs that run here."""
        return {name for name in self._running.values() if name.startswith(JOB)}

    def launch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work to its end, whatever becomes of the caller."""
        task = asyncio.create_task(work, name=name)
        self._running[task] = name
        task.add_done_callback(self._ended)

    def broke(self, name: str, error: BaseException) -> None:
        """Tell of work that explained its failure all the same."""
        self._on_failure(name, error)

    def runs(self, name: str) -> bool:
        return name in self._running.values()

    def leave(self) -> None:
        """Not ready for new work any more, so that balancers look away; what comes is taken."""
        self.leaving = True

    def begin(self) -> None:
        """Take no new work."""
        if not self.draining:
            self._over_s = time.monotonic() + HAND_OVER_S
        self.leaving = self.draining = True
        self.begun.set()

    @property
    def handing_over(self) -> bool:
        """From here on, what runs at the provider is left to the next process."""
        return time.monotonic() > self._over_s

    async def settled(self, timeout_s: float) -> bool:
        """Wait until nothing runs here; false when time ran out first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._running and loop.time() < deadline:
            # What runs may launch more, so ask again.
            await asyncio.wait(set(self._running), timeout=deadline - loop.time())
        return not self._running

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._running.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(name, error)
