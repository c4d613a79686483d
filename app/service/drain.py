"""Stopping without losing anything: refuse new work, finish what runs, then close."""

import asyncio
import math
import time
from collections import Counter
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
        self._jobs: Counter[str] = Counter()
        self._attended: set[str] = set()

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def unattended(self) -> int:
        """Jobs that run here and that no caller waits for."""
        return len(self._jobs) - len(self._attended)

    def attend(self, name: str) -> None:
        """Some caller waits for this job, wherever it runs; `leave_alone` says that nobody does."""
        if name in self._jobs:
            self._attended.add(name)

    def leave_alone(self, name: str) -> None:
        self._attended.discard(name)

    def launch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work to its end, whatever becomes of the caller."""
        task = asyncio.create_task(work, name=name)
        self._running[task] = name
        if name.startswith(JOB):
            self._jobs[name] += 1
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
        if name in self._jobs:
            # More than one work may run for a job: who waits for it waits for the last of them.
            self._jobs[name] -= 1
            if not self._jobs[name]:
                del self._jobs[name]
                self._attended.discard(name)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(name, error)
