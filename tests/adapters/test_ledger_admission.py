"""Admission: rate limits, quotas and concurrency, all or nothing, by the store's clock."""

import asyncio
import math
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from store_rig import (
    CALENDAR,
    Engine,
    OpenStore,
    admission,
    delivered,
    ledger_on,
    principal,
    started,
    unknown,
    used_and_held,
)  # fmt: skip

from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.ledger_scripts import utc_now
from app.domain.errors import (
    ConcurrencyLimited,
    GatewayError,
    InsufficientQuota,
    PriceUnknown,
    RateLimited,
)  # fmt: skip
from app.domain.job import CacheVariant, JobState
from app.domain.limits import LimitKind, Limits, LimitWindow, ScopeKind

ROOT = Path(__file__).parents[2]


async def outcomes(*calls: object) -> list[object]:
    return await asyncio.gather(*calls, return_exceptions=True)  # type: ignore[call-overload]


async def test_the_admitted_job_is_what_the_store_keeps(ledger: RedisLedger) -> None:
    wanted = admission(
        n=5, part_sizes=(4, 1), cache_variant=CacheVariant("fp", 3), response_format="b64_json"
    )

    admitted = await ledger.admit(wanted)

    assert await ledger.job(wanted.job_id) == admitted.job
    assert [part.n for part in admitted.job.parts] == [4, 1]
    assert admitted.job.state is JobState.RESERVED


@pytest.mark.parametrize("scope", ["key", "user", "team", "house"])
@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(images_per_day=3), "Image quota.*this day.*limit 3, used 0, held 2, asked 2"),
        (Limits(images_per_month=3), "Image quota.*this month.*limit 3"),
        (Limits(micros_per_day=400_000), "Budget.*day.*limit 0.40, used 0.00, held 0.28"),
        (Limits(micros_per_month=400_000), "Budget.*month.*limit 0.40"),
    ],
)
async def test_every_scope_and_window_binds(
    ledger: RedisLedger, scope: str, limits: Limits, words: str
) -> None:
    who = principal(**{scope: limits})
    await ledger.admit(admission(who, n=2))

    if scope == "house":
        words = words.partition("limit")[0] + "less is left"  # its numbers are the operator's
    with pytest.raises(InsufficientQuota, match=words) as refused:
        await ledger.admit(admission(who, n=2))

    assert refused.value.retry_after_s is None
    assert "resets at 20" in refused.value.message
    assert (await ledger.open_job_stats()).held_images == 2


async def test_a_refusal_by_one_scope_takes_nothing_from_the_others(ledger: RedisLedger) -> None:
    who = principal(user=Limits(images_per_day=10, concurrency=5), house=Limits(images_per_day=1))

    with pytest.raises(InsufficientQuota, match="this gateway"):
        await ledger.admit(admission(who, n=2))

    snapshot = await ledger.read_limits(who)
    assert used_and_held(snapshot, ScopeKind.USER, LimitKind.IMAGES, LimitWindow.DAY) == (0, 0)
    assert used_and_held(snapshot, ScopeKind.USER, LimitKind.CONCURRENCY, LimitWindow.NOW) == (0, 0)


async def test_of_two_exhausted_windows_the_later_reset_is_named(ledger: RedisLedger) -> None:
    who = principal(user=Limits(images_per_day=1, images_per_month=1))
    today = CALENDAR.days_around(utc_now())[1]
    # On the last day of a month both are reset at once.
    later = "month" if today.month_ends_ms > today.ends_ms else "day"

    with pytest.raises(InsufficientQuota, match=later):
        await ledger.admit(admission(who, n=2))


async def test_the_standing_shows_what_is_left_after_the_reservation(ledger: RedisLedger) -> None:
    who = principal(user=Limits(images_per_day=10), team=Limits(micros_per_month=1_000_000))

    admitted = await ledger.admit(admission(who, n=2))

    left = {(a.scope, a.kind): a.remaining for a in admitted.limit_snapshot.statuses}
    assert left == {
        (ScopeKind.USER, LimitKind.IMAGES): 8,
        (ScopeKind.TEAM, LimitKind.MONEY): 720_000,
    }


async def test_two_reservations_and_one_last_image(ledger: RedisLedger) -> None:
    who = principal(user=Limits(images_per_day=1))

    results = await outcomes(ledger.admit(admission(who)), ledger.admit(admission(who)))

    assert sum(isinstance(result, InsufficientQuota) for result in results) == 1


async def test_a_lowered_limit_admits_nothing_and_claws_nothing_back(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, admission(principal(user=Limits(images_per_day=5)), n=4))

    with pytest.raises(InsufficientQuota):
        await ledger.admit(admission(principal(user=Limits(images_per_day=2))))

    assert (await ledger.settle(job_id, delivered(4))).job.billed == 4


CONTENDER = """
import asyncio, sys
sys.path[:0] = [{root!r}, {here!r}]
from zoneinfo import ZoneInfo
from store_rig import BatchingStore, Calendar, Limits, ledger_on, admission, principal
from app.adapters.redis.client.connection import connect
from app.domain.errors import InsufficientQuota
async def main(url):
    store = BatchingStore(connect(url, timeout_s=5), timeout_s=5)
    ledger = ledger_on(store, calendar=Calendar(ZoneInfo({zone!r})))
    who = principal(key=Limits(images_per_day=10))
    async def one():
        try:
            job = (await ledger.admit(admission(who, body="the same for all, wanted anew"))).job
        except InsufficientQuota:
            return 0
        await ledger.dispatch(job.id, 60_000)
        return 1
    print(sum(await asyncio.gather(*(one() for _ in range(64)))))
    await store.aclose()
asyncio.run(main(sys.argv[1]))
"""


async def test_four_processes_of_64_tasks_share_ten_images_exactly(
    engine: Engine, ledger: RedisLedger
) -> None:
    here, zone = str(Path(__file__).parent), CALENDAR.zone.key
    program = CONTENDER.format(root=str(ROOT), here=here, zone=zone)
    contenders = [
        subprocess.Popen([sys.executable, "-c", program, engine.url], stdout=subprocess.PIPE)
        for _ in range(4)
    ]

    admitted = [int(process.communicate(timeout=60)[0]) for process in contenders]

    assert sum(admitted) == 10
    assert (await ledger.audit()).difference == 0


async def test_a_repeated_admission_reserves_once(ledger: RedisLedger) -> None:
    """The caller cannot know whether the command ran when its reply is lost."""
    wanted = admission(n=3)
    first = await ledger.admit(wanted)

    again = await ledger.admit(wanted)

    assert again.job == first.job
    assert not again.joined
    assert (await ledger.open_job_stats()).held_images == 3


async def test_a_budget_cannot_be_kept_for_an_unpriced_model(ledger: RedisLedger) -> None:
    with pytest.raises(PriceUnknown, match="user ann"):
        await ledger.admit(admission(principal(user=Limits(micros_per_day=1)), unit=None))


async def test_an_unpriced_image_is_counted_and_its_price_stays_unknown(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, admission(unit=None, n=2))

    await ledger.settle(job_id, delivered(2))

    [entry] = [entry async for entry in ledger.entries()]
    assert (entry.images, entry.micros) == (2, None)
    assert (await ledger.audit()).difference == 0


async def test_concurrency_is_freed_by_the_end_and_by_uncertainty(ledger: RedisLedger) -> None:
    who = principal(user=Limits(concurrency=2))
    began = time.monotonic()
    first, second = [await started(ledger, admission(who)) for _ in range(2)]
    with pytest.raises(ConcurrencyLimited, match="2 generations") as busy:
        await ledger.admit(admission(who))
    took_s = time.monotonic() - began

    await ledger.settle(first, delivered(1))
    await ledger.settle(second, unknown(), hold_ms=60_000)

    assert busy.value.scope == "user:ann"
    # Nothing is known yet of how long jobs take.
    assert math.floor(15 - took_s) <= (busy.value.retry_after_s or 0) <= 15
    await ledger.admit(admission(who))
    await ledger.admit(admission(who))
    with pytest.raises(ConcurrencyLimited):
        await ledger.admit(admission(who))


async def test_the_slot_of_a_dead_process_lapses_with_its_lease(ledger: RedisLedger) -> None:
    who = principal(key=Limits(concurrency=1))
    await ledger.admit(admission(who, lease_ms=-120_000))

    await ledger.admit(admission(who))

    with pytest.raises(ConcurrencyLimited):
        await ledger.admit(admission(who))


# Pace --------------------------------------------------------------------------------------------


async def test_the_rate_limit_lets_a_full_burst_through_and_no_more(ledger: RedisLedger) -> None:
    who = principal(user=Limits(requests_per_minute=7))
    began = time.monotonic()
    for _ in range(7):
        await ledger.check_rate_limit(who, admission(who).dedup_keys)

    with pytest.raises(RateLimited, match=r"user ann.*7 requests") as refused:
        await ledger.check_rate_limit(who, admission(who).dedup_keys)

    assert 60 / 7 - (time.monotonic() - began) <= refused.value.retry_after_s <= 9


async def test_a_refused_request_does_not_count_against_the_rate_limit(ledger: RedisLedger) -> None:
    who = principal(user=Limits(requests_per_minute=5), house=Limits(requests_per_minute=1))
    await ledger.check_rate_limit(who, admission(who).dedup_keys)

    results = await outcomes(
        *(ledger.check_rate_limit(who, admission(who).dedup_keys) for _ in range(8))
    )

    assert all(isinstance(result, RateLimited) for result in results)
    assert used_and_held(
        (await ledger.read_limits(who)), ScopeKind.USER, LimitKind.REQUESTS, LimitWindow.MINUTE
    ) == (
        1,
        0,
    )


async def test_a_refusal_names_the_time_that_generations_took_lately(ledger: RedisLedger) -> None:
    who = principal(user=Limits(concurrency=1))
    began = time.monotonic()
    await ledger.settle(await started(ledger, admission(who)), delivered(1))
    took_s = time.monotonic() - began
    await started(ledger, admission(who))

    with pytest.raises(ConcurrencyLimited) as busy:
        await ledger.admit(admission(who))

    assert 1 <= (busy.value.retry_after_s or 0) <= math.ceil(took_s)


@pytest.mark.parametrize(("limit", "passed"), [(0, 0), (1, 1), (3, 3), (60, 20)])
async def test_the_rate_limit_of_a_burst(ledger: RedisLedger, limit: int, passed: int) -> None:
    who = principal(key=Limits(requests_per_minute=limit))

    results = await outcomes(
        *(ledger.check_rate_limit(who, admission(who).dedup_keys) for _ in range(20))
    )

    refused = [result for result in results if isinstance(result, RateLimited)]
    assert len(results) - len(refused) == passed
    waits = {error.retry_after_s for error in refused}
    assert waits == {None} if limit == 0 else all(1 <= (wait or 0) <= 60 for wait in waits)


async def test_the_stores_clock_decides_the_day(engine: Engine, open_store: OpenStore) -> None:
    """A gateway whose clock is a year off writes into the same windows as the others."""
    right = ledger_on(open_store(engine.url))
    wrong = ledger_on(open_store(engine.url), clock=lambda: utc_now() + timedelta(days=365))
    who = principal(user=Limits(images_per_day=1))
    await right.admit(admission(who))

    with pytest.raises(GatewayError, match="this day"):
        await wrong.admit(admission(who))
