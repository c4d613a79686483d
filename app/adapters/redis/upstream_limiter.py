"""The `UpstreamLimiter` on Redis: the provider's rate limit, concurrency slots, throttling and
circuit breaker, for all processes.

The rate is a log of the last minute's requests, not a leaking bucket: a bucket lets nearly twice
the limit through in its first minute, and the provider would answer that with 429. A script makes
every decision. This process keeps a view of the traffic that is at most a second old, so that it
asks nothing while nothing is limited.
"""

import asyncio
import math
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from app.adapters.redis import clock, keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.scripts import load_scripts
from app.adapters.redis.permit_queue import Permit, PermitQueue, PermitWaiter
from app.adapters.redis.replies import check_fields, unexpected_reply
from app.adapters.redis.traffic import TrafficView, UpstreamLimits
from app.domain.errors import BillingEvidence, GatewayOverloaded, StoreUnavailable, UpstreamError
from app.domain.upstream import PollGrant, SlotHolder, UpstreamTraffic

__all__ = ["RedisUpstreamLimiter", "UpstreamLimits"]

REFRESH_INTERVAL_S = 1.0
MINUTE_S = 60.0
BURST_INTERVAL_S = 1.5
"""Between calls of one job that a per-second limit keeps apart; SECOND_MS of the scripts."""
REPLY_MARGIN_S = 2.0
"""A store that answers later than this after the wait is taken for one that does not answer."""
DEFAULT_PAUSE_S, MAX_PAUSE_S = 2, 60
REFUSAL_MESSAGES = {
    "upstream_auth": "The provider refuses the credentials of this gateway; its operator must act. "
    "Nothing was sent.",
    "upstream_billing": "The provider account of this gateway is exhausted; its operator must act. "
    "Nothing was sent.",
}


class RedisUpstreamLimiter:
    """`observe` hears about once a second how the traffic stands; a `provider` has its own keys."""

    def __init__(
        self,
        store: BatchingStore,
        limits: UpstreamLimits,
        *,
        provider: str | None = None,
        observe: Callable[[UpstreamTraffic], None] = lambda _traffic: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._limits, self._observe, self._sleep = store, limits, observe, sleep
        self._text, self._route = limits.text, keyspace.upstream_route(provider)
        self._scripts = load_scripts("upstream", provider)
        self._view = TrafficView()
        self._queue = PermitQueue(self._ask_for_permits)
        self._process_id = secrets.token_hex(4)
        self._request_times: deque[float] = deque()
        self._reported = 0
        self._accepted_at_s: float | None = None

    @property
    def has_rate_limit(self) -> bool:
        """Whether the rate is limited now, so that polls need a grant."""
        limits = self._limits
        return limits.rpm is not None or limits.burst is not None or self._view.throttled

    @property
    def _is_unlimited(self) -> bool:
        return self._limits.concurrency is None and not self.has_rate_limit

    async def run(self) -> None:
        """Read the traffic every second, and keep this process's waiters in the queue."""
        while True:
            with suppress(StoreUnavailable):
                await self._refresh_view()
                self._observe(self._view.traffic)
            self._queue.request_all_permits()
            await asyncio.sleep(REFRESH_INTERVAL_S)

    def wake(self, job_id: str) -> None:
        """A job ended: a slot may be free, and if the job waits here, it waits no longer."""
        self._queue.mark_ended(job_id)
        self._queue.request_permits()

    def check_queue(self, calls: int) -> None:
        """See the port."""
        view = self._view
        if view.refused and time.monotonic() < view.at_s + view.probe_ms / 1000:
            raise provider_refusal(view.refused)
        wait_s = self._expected_wait_s(calls)
        if wait_s > self._limits.queue_s:
            raise busy(wait_s)

    async def acquire(self, job_id: str, calls: int, wait_s: float) -> Sequence[float]:
        """See the port. First come, first served, across all processes."""
        if self._view.refused:
            await self._probe()
        if self._is_unlimited:
            self._count_requests(calls)
            return (0.0,) * calls
        waiter = self._queue.enqueue(job_id, calls, time.monotonic() + wait_s)
        try:
            async with asyncio.timeout(wait_s + REPLY_MARGIN_S):
                permit = await waiter.permit
            if permit.too_late:
                raise busy(permit.wait_s)
            await self._wait_for_start(waiter, permit.wait_s)
            if waiter.job_ended.is_set():
                await self._release_all(waiter)
                return (0.0,) * calls
        except TimeoutError:
            await self._release_all(waiter)
            raise busy(self._expected_wait_s(calls)) from None
        except asyncio.CancelledError:
            await asyncio.shield(self._release_all(waiter))
            raise
        finally:
            self._queue.remove(job_id)
        self._count_requests(calls)
        return tuple(
            i // permit.burst * BURST_INTERVAL_S if permit.burst else 0.0 for i in range(calls)
        )

    async def _wait_for_start(self, waiter: PermitWaiter, wait_s: float) -> None:
        """Wait for the start that was granted, or until the job is over."""
        if wait_s <= 0:
            await self._sleep(wait_s)
            return
        either = {asyncio.ensure_future(w) for w in (self._sleep(wait_s), waiter.job_ended.wait())}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiting in either:
                waiting.cancel()

    async def release(self, job_id: str) -> None:
        """See the port."""
        if self._limits.concurrency is not None:
            await self._release(job_id, "")
            self._queue.request_permits()

    async def release_all(self, job_id: str, calls: int) -> None:
        """See the port."""
        if not self._is_unlimited:
            await self._release(job_id, self._queue_member(job_id, calls))
            self._queue.mark_ended(job_id)
            self._queue.request_permits()

    async def list_holders(self) -> Sequence[SlotHolder]:
        """See the port. The store is not asked while this process knows of no holder."""
        view = self._view
        if self._is_unlimited or not (view.busy or view.queued or view.next_ms > 0):
            return ()
        holders = (await self._run("list_holders"))["holders"]
        return tuple(SlotHolder(holder["job"], holder["calls"]) for holder in holders)

    async def acquire_polls(self, wanted: int) -> PollGrant:
        """See the port."""
        granted, name = wanted, ""
        if self.has_rate_limit:
            name = secrets.token_hex(6)
            try:
                granted = await self._run("acquire_polls", name, wanted)
            except StoreUnavailable:
                granted = 0
        self._count_requests(granted)
        return PollGrant(granted, name)

    async def refund_polls(self, grant: PollGrant, polls: int) -> None:
        """See the port."""
        for _ in range(min(polls, len(self._request_times))):
            self._request_times.pop()
        if grant.name and polls > 0:
            with suppress(StoreUnavailable):
                await self._run("refund_polls", grant.name, grant.count, grant.count - polls)

    async def record_success(self, took_s: float) -> None:
        """See the port. The store is told only while some process was refused lately."""
        self._accepted_at_s = time.monotonic() - took_s
        if self._view.fails:
            with suppress(StoreUnavailable):
                self._update_view(await self._run("record_success", round(took_s * 1000)))

    async def record_failure(self, code: str, retry_after_s: float | None = None) -> None:
        """See the port."""
        with suppress(StoreUnavailable):
            if code == "upstream_rate_limited":
                pause_s = min(max(retry_after_s or DEFAULT_PAUSE_S, 1), MAX_PAUSE_S)
                report = (math.ceil(pause_s * 1000), self._process_id, self._recent_requests())
                self._update_view(await self._run("report_throttle", *report))
            elif code in REFUSAL_MESSAGES:
                since_s = self._accepted_at_s
                ago_ms = -1 if since_s is None else round((time.monotonic() - since_s) * 1000)
                self._update_view(await self._run("report_refusal", code, ago_ms))

    async def _probe(self) -> None:
        """Pass as the request that finds out whether the provider accepts us again, or fail as the
        last one did."""
        code = self._view.refused
        found = await self._run("probe")
        self._update_view(found["traffic"])
        if not found["allowed"]:
            raise provider_refusal(code)

    def _expected_wait_s(self, calls: int) -> float:
        """How long a job that asks now would wait, as far as this process knows."""
        view, slots = self._view, self._limits.concurrency
        wait_s = view.next_s
        if slots is not None:
            ahead = view.busy + view.queued + self._queue.unregistered_calls
            wait_s = max(wait_s, (ahead + calls - slots) * view.held_ms / 1000 / slots)
        return max(wait_s, 0.0)

    async def _ask_for_permits(self, waiters: Sequence[PermitWaiter]) -> list[Permit | None]:
        now_s = time.monotonic()
        asks = []
        for waiter in waiters:
            wait_ms = max(round((waiter.deadline_s - now_s) * 1000), 0)
            asks.append({"job": waiter.job_id, "calls": waiter.calls, "wait_ms": wait_ms})
        found = await self._run("acquire", orjson.dumps(asks))
        self._view = self._view.after_permits(**found["traffic"])
        return [_permit(answer) for answer in found["answers"]]

    async def _release_all(self, waiter: PermitWaiter) -> None:
        with suppress(StoreUnavailable):
            await self._release(waiter.job_id, self._queue_member(waiter.job_id, waiter.calls))

    async def _release(self, job_id: str, member: str) -> None:
        traffic = await self._run("release", job_id, member)
        self._view = self._view.after_permits(**traffic)

    def _queue_member(self, job_id: str, calls: int) -> str:
        """The job's member of the store's queue; empty where slots are unlimited."""
        slots = min(calls, self._limits.concurrency or 0)
        return f"{slots} {job_id}" if slots else ""

    async def _refresh_view(self) -> None:
        count = self._recent_requests()
        report = (self._process_id, count) if count or self._reported else ("", 0)
        self._update_view(await self._run("read_traffic", *report))
        self._reported = count
        if self._view.fails and self._accepted_at_s is not None:
            # A process that was refused does not know that this one was accepted.
            await self.record_success(time.monotonic() - self._accepted_at_s)

    def _update_view(self, traffic: Mapping[str, Any]) -> None:
        self._view = TrafficView(time.monotonic(), **traffic)

    def _count_requests(self, requests: int) -> None:
        self._request_times.extend([time.monotonic()] * requests)
        self._recent_requests()

    def _recent_requests(self) -> int:
        """The requests of this process in the last minute."""
        since_s = time.monotonic() - MINUTE_S
        while self._request_times and self._request_times[0] < since_s:
            self._request_times.popleft()
        return len(self._request_times)

    async def _run(self, script: str, *args: Any) -> Any:
        reply = await self._store.run(
            self._scripts[script],
            self._route,
            self._text,
            *args,
            clock.monotonic_stamp(),
        )
        return check_fields(script, reply)


def _permit(answer: Mapping[str, Any]) -> Permit | None:
    """None while the job is queued."""
    status, wait_s = answer["status"], answer["wait_ms"] / 1000
    match status:
        case "queued":
            return None
        case "granted":
            return Permit(too_late=False, wait_s=wait_s, burst=answer["burst"])
        case "late":
            return Permit(too_late=True, wait_s=wait_s)
    raise unexpected_reply("acquire", status)


def provider_refusal(code: str) -> UpstreamError:
    """The provider's own answer, given without asking it while the breaker is open."""
    return UpstreamError(code, REFUSAL_MESSAGES[code], proof=BillingEvidence.NEVER_SENT)


def busy(wait_s: float) -> GatewayOverloaded:
    """Refused at once, with the time after which there may be a permit: no job waits in vain."""
    again_s = min(max(math.ceil(wait_s), 1), MAX_PAUSE_S)
    return GatewayOverloaded("The provider is busy; try again later.", retry_after_s=again_s)
