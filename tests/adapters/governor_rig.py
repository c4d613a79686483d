"""Governors for the tests, their naps and their ears."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from app.adapters.redis.governor import RedisGovernor, UpstreamLimits
from app.adapters.redis.signals import RedisSignals
from app.adapters.redis.store import Store


class Naps:
    """Sleeps at once, and remembers for how long."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


def governed(store: Store, sleep: Any = asyncio.sleep, **limits: Any) -> RedisGovernor:
    return RedisGovernor(store, UpstreamLimits(**limits), sleep=sleep)


@contextlib.asynccontextmanager
async def following(store: Store, *governors: RedisGovernor) -> AsyncIterator[None]:
    """Each looks after its view and its line, and hears of places that come free."""

    async def hear(governor: RedisGovernor) -> None:
        async for _ in RedisSignals(store, heard=governor.nudge).ended():
            pass

    loops = [work(g) for g in governors for work in (RedisGovernor.run, hear)]
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
