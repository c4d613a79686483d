"""The provider's pace and places, shared by all processes."""

import asyncio
from pathlib import Path

import pytest
from store_rig import OpenStore

from app.adapters.redis.governor import RedisGovernor
from app.adapters.redis.store import Store
from app.domain.errors import LedgerUnavailable, Overloaded


class Naps:
    """Sleeps at once, and remembers for how long."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


async def test_no_limit_needs_no_store(open_store: OpenStore, tmp_path: Path) -> None:
    governor = RedisGovernor(open_store(f"unix://{tmp_path}/none"))

    await governor.acquire("job", 0)
    await governor.release("job")


async def test_no_minute_holds_more_starts_than_the_limit(store: Store) -> None:
    naps = Naps()
    governor = RedisGovernor(store, rpm=3, sleep=naps)

    for n in range(8):
        await governor.acquire(f"job{n}", 500)

    assert [round(nap, -1) for nap in naps.taken] == [0, 0, 0, 60, 60, 60, 120, 120]


async def test_a_turn_too_far_away_is_overload_and_costs_nothing(store: Store) -> None:
    governor = RedisGovernor(store, rpm=1, sleep=Naps())
    await governor.acquire("job0", 0)

    for n in range(3):
        with pytest.raises(Overloaded):
            await governor.acquire(f"job{n + 1}", 30)

    await governor.acquire("job9", 61)


async def test_the_same_job_asks_twice_and_takes_one_turn(store: Store) -> None:
    governor = RedisGovernor(store, rpm=2, concurrency=2, sleep=Naps())
    for _ in range(3):
        await governor.acquire("job0", 0)

    await governor.acquire("job1", 0)


async def test_places_are_shared_and_given_back(store: Store, open_store: OpenStore) -> None:
    one, other = [RedisGovernor(store, concurrency=2) for _ in range(2)]
    await one.acquire("a", 0)
    await other.acquire("b", 0)
    with pytest.raises(Overloaded):
        await one.acquire("c", 0.1)

    waiting = asyncio.create_task(one.acquire("c", 5))
    await asyncio.sleep(0.05)
    await other.release("b")

    await asyncio.wait_for(waiting, 1)


async def test_the_place_of_a_dead_process_comes_free(store: Store) -> None:
    await RedisGovernor(store, concurrency=1, lease_s=0).acquire("dead", 0)

    await RedisGovernor(store, concurrency=1).acquire("alive", 0)


async def test_a_waiter_that_gives_up_leaves_its_turn_to_the_next(store: Store) -> None:
    governor = RedisGovernor(store, rpm=1)
    await governor.acquire("first", 0)
    waiter = asyncio.create_task(governor.acquire("gives up", 100))
    await asyncio.sleep(0.1)

    waiter.cancel()
    await asyncio.wait([waiter])

    naps = Naps()
    await RedisGovernor(store, rpm=1, sleep=naps).acquire("next", 100)
    assert 58 < naps.taken[0] <= 60


async def test_without_its_store_nothing_is_sent(open_store: OpenStore, tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable):
        await RedisGovernor(open_store(f"unix://{tmp_path}/none"), rpm=1).acquire("job", 1)
