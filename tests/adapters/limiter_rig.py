"""Upstream limiters for the tests, how long they sleep and what they hear."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.signals import RedisSignals
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter, UpstreamLimits


class Naps:
    """Returns at once, and remembers how long it should have slept and until when."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.ends: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        self.ends.append(time.monotonic() + seconds)
        await asyncio.sleep(0)


def governed(
    store: BatchingStore, sleep: Any = asyncio.sleep, **limits: Any
) -> RedisUpstreamLimiter:
    return RedisUpstreamLimiter(store, UpstreamLimits(**limits), sleep=sleep)


@contextlib.asynccontextmanager
async def following(store: BatchingStore, *limiters: RedisUpstreamLimiter) -> AsyncIterator[None]:
    """Each renews its view and its queue, and hears of slots that come free."""

    async def hear(limiter: RedisUpstreamLimiter) -> None:
        async for _ in RedisSignals(store, heard=limiter.wake).ended():
            pass

    loops = [work(g) for g in limiters for work in (RedisUpstreamLimiter.run, hear)]
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
