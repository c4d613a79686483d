"""The work that runs in this process: what must end before it stops, and how much it can carry.

A stop loses nothing: new work is refused, running work is finished, then the process closes.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

OnFailure = Callable[[str, BaseException], None]
"""Gets the name of work that raised, and the error. Work handles the failures it expects, so this
is a bug."""
HAND_OVER_S = 5.0
"""How long after the drain began tasks at the provider are left to the next process."""
JOB_PREFIX = "job "


def job_task_name(job_id: str) -> str:
    """The name of the work that a job's own process does for it."""
    return JOB_PREFIX + job_id


class BackgroundTasks:
    """Owns the running work of this process, which outlives the request that started it."""

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
        """A caller waits for the job of this name, if it runs here."""
        if name in self._jobs:
            self._awaited.add(name)

    def mark_unawaited(self, name: str) -> None:
        self._awaited.discard(name)

    def launch(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run work to its end, also when the caller leaves."""
        task = asyncio.create_task(work, name=name)
        self._running[task] = name
        if name.startswith(JOB_PREFIX):
            self._jobs[name] += 1
        task.add_done_callback(self._ended)

    def report_failure(self, name: str, error: BaseException) -> None:
        """Report a bug that the work itself could handle."""
        self._on_failure(name, error)

    def is_running(self, name: str) -> bool:
        if name.startswith(JOB_PREFIX):
            return name in self._jobs
        return name in self._running.values()

    def mark_unready(self) -> None:
        """Report not ready, so that load balancers send nothing new; what comes is still taken."""
        self.is_unready = True

    def start_draining(self) -> None:
        """Take no new work."""
        if not self.is_draining:
            self._over_s = time.monotonic() + HAND_OVER_S
        self.is_unready = self.is_draining = True
        self.drain_started.set()

    @property
    def is_handing_over(self) -> bool:
        """Whether tasks that run at the provider are now left to the next process."""
        return time.monotonic() > self._over_s

    async def wait_until_idle(self, timeout_s: float) -> bool:
        """Wait until nothing runs here; false when time ran out first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._running and loop.time() < deadline:
            # Running work may launch more work, so look again.
            await asyncio.wait(set(self._running), timeout=deadline - loop.time())
        return not self._running

    def _ended(self, task: asyncio.Task[None]) -> None:
        name = self._running.pop(task)
        if name in self._jobs:
            # Several pieces of work may run for one job: a caller waits for the last of them.
            self._jobs[name] -= 1
            if not self._jobs[name]:
                del self._jobs[name]
                self._awaited.discard(name)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(name, error)


class LoadLimiter:
    """Counts what this process carries: requests being admitted, callers that wait for a job
    (wherever it runs), and jobs that run here and nobody waits for. More than `limit` is
    refused, before the process breaks down."""

    def __init__(self, background: BackgroundTasks, limit: int) -> None:
        self._background, self._limit = background, limit
        self._callers = 0
        self._waiting: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        return self._callers + self._background.unawaited_jobs >= self._limit

    def admitting(self) -> AbstractContextManager[None]:
        return _Carried(self)

    def waiting(self, job_id: str) -> AbstractContextManager[None]:
        return _Carried(self, job_id)

    def add(self, job_id: str | None) -> None:
        """One more caller, who may wait for a job."""
        self._callers += 1
        if job_id is not None:
            self._waiting[job_id] += 1
            self._background.mark_awaited(job_task_name(job_id))

    def remove(self, job_id: str | None) -> None:
        self._callers -= 1
        if job_id is not None:
            self._waiting[job_id] -= 1
            if not self._waiting[job_id]:
                del self._waiting[job_id]
                self._background.mark_unawaited(job_task_name(job_id))


class _Carried(AbstractContextManager[None]):
    """A caller for the duration of a block."""

    __slots__ = ("_job_id", "_limiter")

    def __init__(self, limiter: LoadLimiter, job_id: str | None = None) -> None:
        self._limiter, self._job_id = limiter, job_id

    def __enter__(self) -> None:
        self._limiter.add(self._job_id)

    def __exit__(self, *_: object) -> None:
        self._limiter.remove(self._job_id)
