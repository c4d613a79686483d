"""The provider's rate and its slots, shared by all processes."""

import asyncio
import math
import time
from pathlib import Path

import pytest
from limiter_rig import Naps, following, governed
from store_rig import OpenStore

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter
from app.domain.errors import GatewayOverloaded, StoreUnavailable


async def test_no_limit_needs_no_store(open_store: OpenStore, tmp_path: Path) -> None:
    limiter = governed(open_store(f"unix://{tmp_path}/none"))

    limiter.check_queue(1)
    assert await limiter.acquire("job", 2, 0) == (0, 0)
    grant = await limiter.acquire_polls(5)
    assert grant.count == 5
    await limiter.refund_polls(grant, 2)
    await limiter.record_success(0.1)
    await limiter.release("job")


# The rate


async def test_no_minute_holds_more_submits_than_three_quarters(store: BatchingStore) -> None:
    naps = Naps()
    limiter = governed(store, naps, rpm=4)

    for n in range(8):
        await limiter.acquire(f"job{n}", 1, 500)

    assert [round(nap, -1) for nap in naps.taken] == [0, 0, 0, 60, 60, 60, 120, 120]


async def test_polls_have_a_quarter_of_the_minute_whatever_waits_for_it(
    store: BatchingStore,
) -> None:
    limiter = governed(store, Naps(), rpm=20)
    for n in range(30):
        await limiter.acquire(f"job{n}", 1, 500)

    assert (await limiter.acquire_polls(3)).count == 3
    assert (
        await limiter.acquire_polls(9)
    ).count == 0  # no more than a sixth of a minute's polls at once


async def test_polls_leave_a_quarter_of_the_minute_to_submits(store: BatchingStore) -> None:
    limiter = governed(store, naps := Naps(), rpm=4)

    assert (await limiter.acquire_polls(9)).count == 1
    await limiter.acquire("job", 1, 1)

    assert naps.taken == [0]


async def test_polls_that_were_not_made_are_taken_out_of_the_log(store: BatchingStore) -> None:
    limiter = governed(store, rpm=8)
    grant = await limiter.acquire_polls(1)
    assert grant.count == 1
    assert (await limiter.acquire_polls(1)).count == 0

    await limiter.refund_polls(grant, 0)
    assert (await limiter.acquire_polls(1)).count == 0
    first = governed(store, rpm=60)
    grant = await first.acquire_polls(7)
    assert grant.count == 7
    await first.refund_polls(grant, 3)

    assert (await first.acquire_polls(9)).count == 3


async def test_only_the_polls_of_that_grant_are_taken_out_of_the_log(store: BatchingStore) -> None:
    limiter = governed(store, rpm=60)
    batch = await limiter.acquire_polls(5)
    single = await limiter.acquire_polls(1)
    assert (batch.count, single.count) == (5, 1)

    await limiter.refund_polls(batch, 5)

    assert (await limiter.acquire_polls(9)).count == 7  # of eight at once, all but the single one


async def test_the_calls_of_one_job_count_each(store: BatchingStore) -> None:
    limiter = governed(store, naps := Naps(), rpm=8)

    await limiter.acquire("three", 3, 0)
    await limiter.acquire("two", 2, 0)
    await limiter.acquire("two more", 2, 100)

    assert [round(nap, -1) for nap in naps.taken] == [0, 0, 60]


async def test_no_second_holds_more_starts_than_the_burst(store: BatchingStore) -> None:
    naps, began = Naps(), time.monotonic()
    limiter = governed(store, naps, burst=4)

    for n in range(6):
        await limiter.acquire(f"job{n}", 1, 10)
    took_s = time.monotonic() - began
    spread = await limiter.acquire("many", 7, 10)

    gaps = [later - first for first, later in zip(naps.ends, naps.ends[3:6], strict=False)]
    assert gaps == pytest.approx([1.5] * 3, abs=took_s + 0.1)
    assert spread == (0, 0, 0, 1.5, 1.5, 1.5, 3)


async def test_a_permit_too_far_away_is_overload_and_costs_nothing(store: BatchingStore) -> None:
    limiter, began = governed(store, Naps(), rpm=2), time.monotonic()
    await limiter.acquire("job0", 1, 0)

    for n in range(3):
        with pytest.raises(GatewayOverloaded) as refused:
            await limiter.acquire(f"job{n + 1}", 1, 30)
        took_s = time.monotonic() - began
        assert math.ceil(61 - took_s) - 1 <= refused.value.retry_after_s <= 60

    await limiter.acquire("job9", 1, 62)


async def test_a_job_that_asks_twice_takes_one_permit(store: BatchingStore) -> None:
    limiter = governed(store, Naps(), rpm=4, concurrency=2)
    for _ in range(3):
        await limiter.acquire("job0", 1, 0)

    await limiter.acquire("job1", 1, 0)


async def test_a_waiter_that_gives_up_leaves_its_permit_to_the_next(store: BatchingStore) -> None:
    limiter = governed(store, rpm=2)
    await limiter.acquire("first", 1, 0)
    waiter = asyncio.create_task(limiter.acquire("gives up", 1, 100))
    await asyncio.sleep(0.1)

    waiter.cancel()
    await asyncio.wait([waiter])

    naps = Naps()
    await governed(store, naps, rpm=2).acquire("next", 1, 100)
    assert 45 < naps.taken[0] <= 61


# Slots


async def test_slots_are_shared_and_given_back(store: BatchingStore, open_store: OpenStore) -> None:
    one, other = [governed(store, concurrency=2) for _ in range(2)]
    await one.acquire("a", 1, 0)
    await other.acquire("b", 1, 0)
    with pytest.raises(GatewayOverloaded):
        await one.acquire("c", 1, 0.1)

    waiting = asyncio.create_task(one.acquire("c", 1, 50))
    async with following(store, one, other):
        await asyncio.sleep(0.05)
        await other.release("b")

        await asyncio.wait_for(waiting, 30)


async def test_slots_go_to_those_who_came_first_in_whatever_process(store: BatchingStore) -> None:
    processes = [governed(store, concurrency=1) for _ in range(3)]
    await processes[0].acquire("running", 1, 0)
    order: list[str] = []

    async def wait(limiter: RedisUpstreamLimiter, job_id: str) -> None:
        await limiter.acquire(job_id, 1, 300)
        order.append(job_id)
        await limiter.release(job_id)

    async with following(store, *processes):
        waiting = []
        for n in range(12):
            waiting.append(asyncio.create_task(wait(processes[n % 3], f"job{n:02}")))
            await until_queued(processes[n % 3], n + 1)
        await processes[0].release("running")
        await asyncio.wait_for(asyncio.gather(*waiting), 60)

    assert order == sorted(order)


async def until_queued(limiter: RedisUpstreamLimiter, jobs: int) -> None:
    async with asyncio.timeout(30):
        while limiter._view.queued != jobs:
            await asyncio.sleep(0.01)
            await limiter._refresh_view()


async def test_a_job_of_several_calls_takes_a_slot_each_and_is_not_overtaken(
    store: BatchingStore,
) -> None:
    limiter = governed(store, concurrency=3)
    await limiter.acquire("a", 1, 0)
    await limiter.acquire("b", 1, 0)
    big = asyncio.create_task(limiter.acquire("big", 5, 50))
    await until_queued(limiter, 1)
    small = asyncio.create_task(limiter.acquire("small", 1, 50))
    await until_queued(limiter, 2)
    async with following(store, limiter):
        await limiter.release("a")
        await asyncio.sleep(0.2)
        assert not big.done()
        assert not small.done()

        await limiter.release("b")
        await asyncio.wait_for(big, 30)
        assert not small.done()
        await limiter.release("big")
        await asyncio.wait_for(small, 30)


async def test_who_would_wait_in_vain_is_refused_at_once_with_the_time_to_come_back(
    store: BatchingStore,
) -> None:
    limiter = governed(store, concurrency=2, queue_s=12)
    for n in range(2):
        await limiter.acquire(f"job{n}", 1, 12)
    waiting = [asyncio.create_task(limiter.acquire(f"job{n}", 1, 60)) for n in (2, 3)]
    await until_queued(limiter, 2)

    with pytest.raises(GatewayOverloaded) as told:
        limiter.check_queue(1)
    began = time.monotonic()
    with pytest.raises(GatewayOverloaded) as refused:
        await limiter.acquire("job4", 1, 12)

    assert time.monotonic() - began < 10
    assert told.value.retry_after_s == refused.value.retry_after_s == 15
    for waiter in waiting:
        waiter.cancel()
    await asyncio.wait(waiting)


async def test_the_slot_of_a_dead_process_comes_free(store: BatchingStore) -> None:
    await governed(store, concurrency=1, lease_s=0).acquire("dead", 1, 0)

    await governed(store, concurrency=1).acquire("alive", 1, 0)


async def test_a_dead_process_leaves_the_queue(store: BatchingStore) -> None:
    one, other = governed(store, concurrency=1), governed(store, concurrency=1)
    await one.acquire("running", 1, 0)
    dead = asyncio.create_task(other.acquire("dead", 1, 100))
    await until_queued(one, 1)
    async with following(store, one):
        alive = asyncio.create_task(one.acquire("alive", 1, 100))
        await asyncio.sleep(0.1)
        await one.release("running")

        await asyncio.wait_for(alive, 60)
    assert not dead.done()
    dead.cancel()
    await asyncio.wait([dead])


async def test_without_its_store_nothing_is_sent(open_store: OpenStore, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        await governed(open_store(f"unix://{tmp_path}/none"), rpm=2).acquire("job", 1, 1)
