"""Waiting a short time for a concurrency slot, instead of refusing at once (decision 22).

A picture takes ten seconds and more, while SDKs give up after two short pauses. A refusal because
all slots are taken would fail calls that only had to wait a moment.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from app.domain.errors import ConcurrencyLimited
from app.domain.ledger import AdmissionRequest, AdmissionResult
from app.service.dedup import Deduplicator
from app.service.wait import JobWaiters

MAX_WAITING = 32
"""How many requests of one scope wait in one process; more are refused at once."""
RETRY_INTERVAL_S = 1.0
"""The longest pause between two tries: signals of ended jobs may be lost."""


@dataclass(slots=True)
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


class ConcurrencyQueue:
    """Requests that wait for a concurrency slot: one queue for each scope whose slots are taken,
    first come, first served within this process."""

    def __init__(self, deduplicator: Deduplicator, waiters: JobWaiters) -> None:
        self._deduplicator, self._waiters = deduplicator, waiters
        self._queues: dict[str, _Queue] = {}

    async def admit(self, admission: AdmissionRequest, wait_s: float) -> AdmissionResult:
        """Admission that waits up to `wait_s` for a slot, if one can be expected by then.

        Raises what `Deduplicator.admit` raises; the request's rate limit is counted once.
        """
        deadline_s = asyncio.get_running_loop().time() + wait_s
        ahead = None if _is_repeat(admission) else self._busy_scope(admission)
        refusal: ConcurrencyLimited | None = None
        if ahead is None:
            try:
                return await self._deduplicator.admit(admission)
            except ConcurrencyLimited as error:
                if error.retry_after_s is None or error.retry_after_s > max(wait_s, 1):
                    raise
                refusal, ahead = error, error.scope
            admission = replace(admission, rate_limit_checked=True)
        async with self._queued(ahead, deadline_s) as reached:
            if reached:
                return await self._wait(admission, deadline_s)
        if refusal is not None:
            raise refusal
        return await self._deduplicator.admit(admission)

    def _busy_scope(self, admission: AdmissionRequest) -> str | None:
        """A scope for whose slots other requests wait already, and are served first."""
        return next((s.id for s in admission.principal.scopes if s.id in self._queues), None)

    @asynccontextmanager
    async def _queued(self, scope: str, deadline_s: float) -> AsyncIterator[bool]:
        """Wait in the queue of a scope; false when its head was not reached in time."""
        queue = self._queues.setdefault(scope, _Queue())
        queue.waiting += 1
        reached = False
        try:
            if queue.waiting <= MAX_WAITING:
                reached = await _acquired(queue.lock, deadline_s)
            yield reached
        finally:
            if reached:
                queue.lock.release()
            queue.waiting -= 1
            if not queue.waiting:
                self._queues.pop(scope, None)

    async def _wait(self, admission: AdmissionRequest, deadline_s: float) -> AdmissionResult:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await self._deduplicator.admit(admission)
            except ConcurrencyLimited as refusal:
                left_s = deadline_s - loop.time()
                if left_s <= 0 or refusal.retry_after_s is None:
                    raise
            admission = replace(admission, rate_limit_checked=True)
            await self._waiters.wait_for_any_end(min(left_s, RETRY_INTERVAL_S))


def _is_repeat(admission: AdmissionRequest) -> bool:
    """Whether the request may join a running job, which takes no slot."""
    return admission.dedup_keys.is_sdk_retry or admission.dedup_keys.idempotency_key is not None


async def _acquired(lock: asyncio.Lock, deadline_s: float) -> bool:
    try:
        async with asyncio.timeout_at(deadline_s):
            await lock.acquire()
    except TimeoutError:
        return False
    return True
