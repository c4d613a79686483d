"""The provider's 429s, and its refusals of our key and balance: one process is told, all act."""

import asyncio
import math
import time
from typing import Any

import pytest
from limiter_rig import Naps, following, governed
from store_rig import Engine, eventually

from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter
from app.domain.errors import BillingEvidence, UpstreamError

# 429s


async def test_after_a_429_everybody_pauses_and_goes_on_slower(store: BatchingStore) -> None:
    told, other = governed(store), governed(store, naps := Naps())
    await asyncio.gather(*(told.acquire(f"job{n}", 1, 0) for n in range(480)))
    failed_at = time.monotonic()
    await told.record_failure("upstream_rate_limited", 30)
    async with following(store, other):
        await eventually(lambda: other.has_rate_limit, 20)

        for n in range(61):
            await other.acquire(f"later{n}", 1, 300)
        assert (await other.acquire_polls(1)).count == 0
    took_s = time.monotonic() - failed_at

    # Half of 480 a minute: forty in ten seconds, of which ten are kept for polls.
    first, second, third = naps.ends[::30]
    assert 15 < first - failed_at <= 30.1 + took_s
    assert (second - first, third - second) == pytest.approx((10, 10), abs=took_s + 0.1)


async def test_echoes_of_a_429_do_not_lower_the_rate_again(store: BatchingStore) -> None:
    limiter = governed(store, rpm=60)
    for _ in range(5):
        await limiter.record_failure("upstream_rate_limited", 1000)

    assert limiter._view.share == 500
    assert 40_000 < limiter._view.pause_ms <= 60_000


async def test_the_rate_recovers_step_by_step(store: BatchingStore) -> None:
    limiter = governed(store, rpm=10, step_s=0.4)

    await limiter.record_failure("upstream_rate_limited", 1)

    seen, asked_at = [], time.monotonic()
    async with asyncio.timeout(60), following(store, limiter):
        while limiter._view.throttled:
            share, before = limiter._view.share, asked_at
            asked_at = time.monotonic()
            await limiter._refresh_view()
            seen.append(share)
            # A busy machine may look too late for some steps, but none comes before its time.
            steps = math.ceil((time.monotonic() - before) / 0.4)
            assert limiter._view.share - share <= 100 * steps
            await asyncio.sleep(0.02)
    assert seen == sorted(seen)
    assert set(seen) <= {500, 600, 700, 800, 900}


# Key and balance


def refused() -> Any:
    return pytest.raises(UpstreamError, match="Nothing was sent")


async def test_three_refusals_of_the_key_keep_everybody_from_asking(store: BatchingStore) -> None:
    one, other = governed(store), governed(store)
    for _ in range(2):
        await one.record_failure("upstream_auth")
    one.check_queue(1)
    await one.acquire("job", 1, 0)

    await one.record_failure("upstream_auth")

    async with following(store, other):
        await eventually(lambda: other._view.refused == "upstream_auth", 30)
    for limiter in (one, other):
        with refused() as raised:
            limiter.check_queue(1)
        assert raised.value.reason == "upstream_auth"
        assert raised.value.proof is BillingEvidence.NEVER_SENT
        with refused():
            await limiter.acquire("job", 1, 0)


async def test_a_success_between_refusals_is_no_row(store: BatchingStore) -> None:
    one, other = governed(store), governed(store)
    for _ in range(4):
        await one.record_failure("upstream_billing")
        await one.record_failure("upstream_billing")
        await asyncio.sleep(0.01)
        await one.record_success(0)
    await one.record_failure("upstream_billing")
    await one.record_failure("upstream_billing")
    await asyncio.sleep(0.01)
    await other.record_success(0)  # it does not know yet that anybody was refused
    await other._refresh_view()
    await one.record_failure("upstream_billing")

    one.check_queue(1)


async def test_one_probe_passes_and_its_success_closes_the_breaker(
    store: BatchingStore, engine: Engine
) -> None:
    limiters = [governed(store, probe_s=20) for _ in range(3)]

    async def later(s: int) -> None:
        """The last refusal is so much older."""
        with engine.client() as admin:
            for at in ("next", "failed"):
                admin.hincrby(keyspace.key("health"), at, -1000 * s)
        for limiter in limiters:
            await limiter._refresh_view()

    for _ in range(3):
        await limiters[0].record_failure("upstream_auth")
    await later(20)

    async def passes(limiter: RedisUpstreamLimiter) -> bool:
        limiter.check_queue(1)
        try:
            await limiter.acquire("job", 1, 0)
        except UpstreamError:
            return False
        return True

    assert sum([await passes(limiter) for limiter in limiters]) == 1
    await limiters[1].record_failure("upstream_auth")  # the probe: the next one may come in 40 s
    await limiters[1]._refresh_view()
    assert 20_000 < limiters[1]._view.probe_ms <= 40_000
    await later(40)
    assert await passes(limiters[1])
    await limiters[1].record_success(60)  # a success older than the last refusal proves nothing
    assert limiters[1]._view.refused
    await limiters[1].record_success(0)

    async with following(store, *limiters):
        await eventually(lambda: not any(g._view.refused for g in limiters), 30)
    for limiter in limiters:
        assert await passes(limiter)
