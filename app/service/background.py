"""Stopping without losing anything: refuse new work, finish what runs, then close.

What one process carries, so that it can refuse more before it breaks down.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

OnFailure = Callable[[str, BaseException], None]
"""Told the name of work that broke and why: a bug, since work explains its own failures."""


HAND_OVER_S = 5.0
"""How soon after the drain began tasks at the provider are left to the next process."""


JOB_PREFIX = "job "


def job_task_name(job_id: str) -> str:
    """What a job's own work is called here."""
    return JOB_PREFIX + job_id


class BackgroundTasks:
    """Owns this process's running work. Work survives the request that started it."""

    def __init__(self, on_failure: OnFailure) -> None:
        self.is_unready = False
        self.is_draining = False
        self.drain_started = asyncio.Event()
        self._over_s = math.inf
        self._on_failure = on_failure
        self._running: dict[asyncio.Task[None], str] = {}
        self._jobs: Counter[str] = Counter()
        self._awaited: set[str] = set()

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def unawaited_jobs(self) -> int:
        """Jobs that run here and that no caller waits for."""
        return len(self._jobs) - len(self._awaited)

    def mark_awaited(self, name: str) -> None:
        """Some caller waits for this job, wherever it runs; `mark_unawaited` says that nobody
        does."""
        if name in self._jobs:
            self._awaited.add(name)

    def mark_unawaited(self, name: str) -> None:
        self._awaited.discard(name)

    def launch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work to its end, whatever becomes of the caller."""
        task = asyncio.create_task(work, name=name)
        self._running[task] = name
        if name.startswith(JOB_PREFIX):
            self._jobs[name] += 1
        task.add_done_callback(self._ended)

    def report_failure(self, name: str, error: BaseException) -> None:
        """Tell of work that explained its failure all the same."""
        self._on_failure(name, error)

    def is_running(self, name: str) -> bool:
        return name in self._running.values()

    def mark_unready(self) -> None:
        """Not ready for new work any more, so that balancers look away; what comes is taken."""
        self.is_unready = True

    def start_draining(self) -> None:
        """Take no new work."""
        if not self.is_draining:
            self._over_s = time.monotonic() + HAND_OVER_S
        self.is_unready = self.is_draining = True
        self.drain_started.set()

    @property
    def is_handing_over(self) -> bool:
        """From here on, what runs at the provider is left to the next process."""
        return time.monotonic() > self._over_s

    async def wait_until_idle(self, timeout_s: float) -> bool:
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
                self._awaited.discard(name)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(name, error)


class LoadLimiter:
    """Requests being admitted, callers waiting for a job wherever it runs, and jobs running here
    that nobody waits for. `limit` is how many may be carried at once."""

    def __init__(self, background: BackgroundTasks, limit: int) -> None:
        self._background, self._limit = background, limit
        self._callers = 0
        self._waiting: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        return self._callers + self._background.unawaited_jobs >= self._limit

    @contextmanager
    def admitting(self) -> Iterator[None]:
        self._callers += 1
        try:
            yield
        finally:
            self._callers -= 1

    @contextmanager
    def waiting(self, job_id: str) -> Iterator[None]:
        self._waiting[job_id] += 1
        self._background.mark_awaited(job_task_name(job_id))
        try:
            with self.admitting():
                yield
        finally:
            self._waiting[job_id] -= 1
            if not self._waiting[job_id]:
                del self._waiting[job_id]
                self._background.mark_unawaited(job_task_name(job_id))
