"""Waiting for a job to end, whichever process ends it."""

import asyncio
import math
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from app.domain.errors import LedgerUnavailable
from app.domain.job import Job
from app.domain.ports import Ledger, SignalBus
from app.service.background import HAND_OVER_S, BackgroundTasks, job_task_name

T = TypeVar("T")

MAX_UNCHECKED_S = 30.0
"""How long a waiter relies on signals alone, which may be lost."""
RETRY_S = 1.0
"""The pause after a signal whose job could not be read, or that came before anybody waited."""
MAX_REMEMBERED = 4096
RECALL_S = 60.0
"""How long a task that cannot change any more is answered from memory."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job that ended; `upstream_s` is the time the provider took, 0 when not known. `known_s` is
    since when this process knows it (monotonic seconds)."""

    job: Job
    upstream_s: float
    known_s: float = field(default_factory=time.monotonic)


class WakeReason(Enum):
    """Why a waiter wakes up, other than the job's end."""

    RECHECK = "read the job"
    DISMISSED = "this process drains"


class JobWaiters:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiters: dict[str, set[asyncio.Future[EndedJob | WakeReason]]] = {}
        self._recent: OrderedDict[str, EndedJob] = OrderedDict()
        self._heard: OrderedDict[str, None] = OrderedDict()
        """Jobs whose end was signalled while nobody here waited: a caller may have read the job
        just before that."""
        self._troubled: OrderedDict[str, float] = OrderedDict()
        """Job -> since when (the loop's time) its images cannot be downloaded."""
        self._ending: Counter[str] = Counter()
        """Jobs that are settled here right now: their end will be told without a signal."""
        self._any_end: asyncio.Future[None] | None = None

    async def wait_for_any_end(self, timeout_s: float) -> None:
        """Wait for a signal that any job ended, here or elsewhere, or until time is up."""
        if self._any_end is None:
            self._any_end = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._any_end}, timeout=timeout_s)

    def begin_ending(self, job_id: str) -> None:
        """This process settles the job now, and calls `notify` before `end_ending`."""
        self._ending[job_id] += 1

    def end_ending(self, job_id: str) -> None:
        self._ending[job_id] -= 1
        if not self._ending[job_id]:
            del self._ending[job_id]

    def notify(self, job: Job, upstream_s: float | None = None) -> None:
        """Wake everyone here who waits for this job: because it ended, or because its images cannot
        be downloaded, which shortens the wait."""
        if not job.ended:
            if _troubled(job) and job.id not in self._troubled:
                _remember(self._troubled, job.id, asyncio.get_running_loop().time())
                for waiter in self._waiters.pop(job.id, ()):
                    _tell(waiter, WakeReason.RECHECK)
            return
        ended = EndedJob(job, _recorded_s(job) if upstream_s is None else upstream_s)
        _remember(self._recent, job.id, ended)
        for waiter in self._waiters.pop(job.id, ()):
            _tell(waiter, ended)

    def forget(self, job_id: str) -> None:
        """Its record was changed after its end."""
        self._recent.pop(job_id, None)

    def recall(self, job_id: str) -> Job | None:
        """A job that ended a moment ago with all its pictures: nothing of it changes any more."""
        ended = self._recent.get(job_id)
        if ended is None or not ended.job.is_complete:
            return None
        return ended.job if time.monotonic() - ended.known_s < RECALL_S else None

    async def wait_for_news(
        self, job_id: str, timeout_s: float, collecting_s: float = math.inf
    ) -> "EndedJob | WakeReason":
        """The job once it has ended. RECHECK when it has not after `timeout_s`, or `collecting_s`
        after its first failed download (a later caller waits a moment all the same); DISMISSED
        when the drain dismissed the caller."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + timeout_s
        patience_s = RETRY_S if job_id in self._heard else MAX_UNCHECKED_S
        while (ended := self._recent.get(job_id)) is None:
            if (since := self._troubled.get(job_id)) is not None:
                deadline = min(deadline, max(since + collecting_s, began + RETRY_S))
            left = deadline - loop.time()
            if left <= 0:
                return WakeReason.RECHECK
            news = await self._hear(job_id, min(left, patience_s))
            if news is not WakeReason.RECHECK:
                return news
            patience_s = MAX_UNCHECKED_S if await self._reread(job_id) else RETRY_S
        return ended

    async def wait_for_signal(self, job_id: str, timeout_s: float) -> EndedJob | None:
        """The job if its end is signalled within `timeout_s`: for one who reads it by itself."""
        news = self._recent.get(job_id) or await self._hear(job_id, timeout_s)
        return news if isinstance(news, EndedJob) else None

    async def _hear(self, job_id: str, timeout_s: float) -> "EndedJob | WakeReason":
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[EndedJob | WakeReason] = loop.create_future()
        self._waiters.setdefault(job_id, set()).add(waiter)
        timer = loop.call_later(timeout_s, _tell, waiter, WakeReason.RECHECK)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._forget(job_id, waiter)

    async def follow_signals(self, signals: SignalBus) -> None:
        """Wake the waiters of jobs whose end other processes signal."""
        async for job_id in signals.ended():
            self._some_end()
            for ended in [job_id] if job_id is not None else list(self._waiters):
                if ended in self._ending:
                    continue
                if ended not in self._waiters:
                    _remember(self._heard, ended, None)
                elif not await self._reread(ended):
                    for waiter in self._waiters.pop(ended, ()):
                        _tell(waiter, WakeReason.RECHECK)

    async def dismiss_on_drain(self, background: BackgroundTasks) -> None:
        """Once the drain has begun, dismiss callers whose job runs at the provider: their repeat
        reaches another process, which can serve them. Jobs that run here are waited for."""
        await background.drain_started.wait()
        await asyncio.sleep(HAND_OVER_S)
        for job_id in [i for i in self._waiters if not background.is_running(job_task_name(i))]:
            for waiter in self._waiters.pop(job_id):
                _tell(waiter, WakeReason.DISMISSED)

    def _some_end(self) -> None:
        if self._any_end is not None:
            self._any_end.set_result(None)
            self._any_end = None

    async def _reread(self, job_id: str) -> bool:
        """Read the job and notify its waiters; false when the ledger is unavailable."""
        try:
            job = await self._ledger.job(job_id)
        except LedgerUnavailable:
            return False
        if job is not None:
            self.notify(job)
        return True

    def _forget(self, job_id: str, waiter: asyncio.Future[EndedJob | WakeReason]) -> None:
        waiters = self._waiters.get(job_id)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[job_id]


def _troubled(job: Job) -> bool:
    return job.collecting is not None and job.collecting.last_error is not None


def _remember(memory: OrderedDict[str, T], job_id: str, news: T) -> None:
    memory[job_id] = news
    if len(memory) > MAX_REMEMBERED:
        memory.popitem(last=False)


def _tell(waiter: "asyncio.Future[EndedJob | WakeReason]", news: EndedJob | WakeReason) -> None:
    if not waiter.done():
        waiter.set_result(news)


def _recorded_s(job: Job) -> float:
    if job.dispatched_ms is None or job.ended_ms is None:
        return 0.0
    return max(job.ended_ms - job.dispatched_ms, 0) / 1000
