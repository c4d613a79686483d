"""Admission: pace, quotas, concurrency, and the repeats that join instead of buying again."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from store_rig import (
    Engine,
    OpenStore,
    delivered,
    ledger_on,
    order,
    principal,
    released,
    row,
    started,
    unknown,
)  # fmt: skip

from app.adapters.redis.book import utc_now
from app.adapters.redis.ledger import RedisLedger
from app.domain.errors import (
    ConcurrencyLimited,
    GatewayError,
    IdempotencyKeyReused,
    InsufficientQuota,
    PriceUnknown,
    RateLimited,
)  # fmt: skip
from app.domain.job import CacheSlot, JobState
from app.domain.ledger import Order
from app.domain.limits import Limits, Meter, ScopeKind, Window

ROOT = Path(__file__).parents[2]


async def outcomes(*calls: object) -> list[object]:
    return await asyncio.gather(*calls, return_exceptions=True)  # type: ignore[call-overload]


async def test_the_admitted_job_is_what_the_store_keeps(ledger: RedisLedger) -> None:
    wanted = order(n=5, part_sizes=(4, 1), slot=CacheSlot("fp", 3), response_format="b64_json")

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
    await ledger.admit(order(who, n=2))

    with pytest.raises(InsufficientQuota, match=words) as refused:
        await ledger.admit(order(who, n=2))

    assert refused.value.retry_after_s is None
    assert "resets at 20" in refused.value.message
    assert (await ledger.census()).held_images == 2


async def test_a_refusal_by_one_scope_takes_nothing_from_the_others(ledger: RedisLedger) -> None:
    who = principal(user=Limits(images_per_day=10, concurrency=5), house=Limits(images_per_day=1))

    with pytest.raises(InsufficientQuota, match="this gateway"):
        await ledger.admit(order(who, n=2))

    standing = await ledger.standing(who)
    assert row(standing, ScopeKind.USER, Meter.IMAGES, Window.DAY) == (0, 0)
    assert row(standing, ScopeKind.USER, Meter.CONCURRENCY, Window.NOW) == (0, 0)


async def test_of_two_exhausted_windows_the_later_reset_is_named(ledger: RedisLedger) -> None:
    who = principal(user=Limits(images_per_day=1, images_per_month=1))

    with pytest.raises(InsufficientQuota, match="month"):
        await ledger.admit(order(who, n=2))


async def test_the_standing_shows_what_is_left_after_the_reservation(ledger: RedisLedger) -> None:
    who = principal(user=Limits(images_per_day=10), team=Limits(micros_per_month=1_000_000))

    admitted = await ledger.admit(order(who, n=2))

    left = {(a.scope, a.meter): a.remaining for a in admitted.standing.allowances}
    assert left == {
        (ScopeKind.USER, Meter.IMAGES): 8,
        (ScopeKind.TEAM, Meter.MONEY): 720_000,
    }


async def test_race_1_two_reservations_and_one_last_image(ledger: RedisLedger) -> None:
    who = principal(user=Limits(images_per_day=1))

    results = await outcomes(ledger.admit(order(who)), ledger.admit(order(who)))

    assert sum(isinstance(result, InsufficientQuota) for result in results) == 1


async def test_race_2_a_lowered_limit_admits_nothing_and_claws_nothing_back(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, order(principal(user=Limits(images_per_day=5)), n=4))

    with pytest.raises(InsufficientQuota):
        await ledger.admit(order(principal(user=Limits(images_per_day=2))))

    assert (await ledger.settle(job_id, delivered(4))).job.billed == 4


CONTENDER = """
import asyncio, sys
sys.path[:0] = [{root!r}, {here!r}]
from store_rig import Limits, Store, ledger_on, order, principal
from app.adapters.redis.connection import connect
from app.domain.errors import InsufficientQuota
async def main(url):
    store = Store(connect(url, timeout_s=5), timeout_s=5)
    ledger, who = ledger_on(store), principal(key=Limits(images_per_day=10))
    async def one():
        try:
            job = (await ledger.admit(order(who, body="the same for all, wanted anew"))).job
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
    program = CONTENDER.format(root=str(ROOT), here=str(Path(__file__).parent))
    contenders = [
        subprocess.Popen([sys.executable, "-c", program, engine.url], stdout=subprocess.PIPE)
        for _ in range(4)
    ]

    admitted = [int(process.communicate(timeout=60)[0]) for process in contenders]

    assert sum(admitted) == 10
    assert (await ledger.audit()).difference == 0


async def test_a_repeated_admission_reserves_once(ledger: RedisLedger) -> None:
    """Race 13 and fault F73: the caller cannot know whether the lost reply's command ran."""
    wanted = order(n=3)
    first = await ledger.admit(wanted)

    again = await ledger.admit(wanted)

    assert again.job == first.job
    assert not again.joined
    assert (await ledger.census()).held_images == 3


async def test_a_budget_cannot_be_kept_for_an_unpriced_model(ledger: RedisLedger) -> None:
    with pytest.raises(PriceUnknown, match="user ann"):
        await ledger.admit(order(principal(user=Limits(micros_per_day=1)), unit=None))


async def test_an_unpriced_image_is_counted_and_its_price_stays_unknown(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, order(unit=None, n=2))

    await ledger.settle(job_id, delivered(2))

    [entry] = [entry async for entry in ledger.entries()]
    assert (entry.images, entry.micros) == (2, None)
    assert (await ledger.audit()).difference == 0


async def test_concurrency_is_freed_by_the_end_and_by_uncertainty(ledger: RedisLedger) -> None:
    who = principal(user=Limits(concurrency=2))
    first, second = [await started(ledger, order(who)) for _ in range(2)]
    with pytest.raises(ConcurrencyLimited, match="2 generations") as busy:
        await ledger.admit(order(who))

    await ledger.settle(first, delivered(1))
    await ledger.settle(second, unknown(), hold_ms=60_000)

    assert 1 <= (busy.value.retry_after_s or 0) <= 5
    await ledger.admit(order(who))
    await ledger.admit(order(who))
    with pytest.raises(ConcurrencyLimited):
        await ledger.admit(order(who))


async def test_the_slot_of_a_dead_process_lapses_with_its_lease(ledger: RedisLedger) -> None:
    who = principal(key=Limits(concurrency=1))
    await ledger.admit(order(who, lease_ms=-120_000))

    await ledger.admit(order(who))

    with pytest.raises(ConcurrencyLimited):
        await ledger.admit(order(who))


# Pace --------------------------------------------------------------------------------------------


async def test_the_pace_lets_a_full_burst_through_and_no_more(ledger: RedisLedger) -> None:
    who = principal(user=Limits(requests_per_minute=7))
    for _ in range(7):
        await ledger.arrive(who, order(who).repeat)

    with pytest.raises(RateLimited, match=r"user ann.*7 requests") as refused:
        await ledger.arrive(who, order(who).repeat)

    assert refused.value.retry_after_s in (8, 9)


async def test_a_refused_request_uses_up_no_pace(ledger: RedisLedger) -> None:
    who = principal(user=Limits(requests_per_minute=5), house=Limits(requests_per_minute=1))
    await ledger.arrive(who, order(who).repeat)

    results = await outcomes(*(ledger.arrive(who, order(who).repeat) for _ in range(8)))

    assert all(isinstance(result, RateLimited) for result in results)
    assert row((await ledger.standing(who)), ScopeKind.USER, Meter.REQUESTS, Window.MINUTE) == (
        1,
        0,
    )


@pytest.mark.parametrize(("limit", "passed"), [(0, 0), (1, 1), (3, 3), (60, 20)])
async def test_the_pace_of_a_burst(ledger: RedisLedger, limit: int, passed: int) -> None:
    who = principal(key=Limits(requests_per_minute=limit))

    results = await outcomes(*(ledger.arrive(who, order(who).repeat) for _ in range(20)))

    refused = [result for result in results if isinstance(result, RateLimited)]
    assert len(results) - len(refused) == passed
    assert all(1 <= (error.retry_after_s or 0) <= 60 for error in refused)


# Repeats -----------------------------------------------------------------------------------------


def again(first: Order, **changes: object) -> Order:
    """The same request, sent once more."""
    job = order().job_id
    return replace(first, job_id=job, repeat=replace(first.repeat, **changes))


async def joined(ledger: RedisLedger, repeated: Order) -> str | None:
    """The job both looks agree on: the one on arrival and the one on admission."""
    arrived = await ledger.arrive(repeated.principal, repeated.repeat)
    admitted = await ledger.admit(repeated)
    assert admitted.joined is (arrived.joins is not None)
    return admitted.job.id if admitted.joined else None


async def test_a_deliberate_second_identical_request_buys_a_second_picture(
    ledger: RedisLedger,
) -> None:
    first = order()
    await ledger.admit(first)

    assert await joined(ledger, again(first)) is None


async def test_a_marked_retry_joins_the_open_job(ledger: RedisLedger) -> None:
    first = order()
    await ledger.admit(first)

    assert await joined(ledger, again(first, marked=True)) == first.job_id


async def test_a_marked_retry_joins_a_job_that_has_just_ended(ledger: RedisLedger) -> None:
    first = order()
    await ledger.settle(await started(ledger, first), delivered(1))

    assert await joined(ledger, again(first, marked=True)) == first.job_id


async def test_another_keys_retry_joins_nothing(ledger: RedisLedger) -> None:
    first = order()
    await ledger.admit(first)
    stranger = replace(again(first, marked=True), principal=principal(names=("key_9", "eve", None)))

    assert await joined(ledger, stranger) is None


async def test_an_abandoned_job_is_handed_to_the_next_identical_request_once(
    ledger: RedisLedger,
) -> None:
    first = order()
    await ledger.admit(first)
    await ledger.abandon(first.job_id)

    repeat = again(first)
    assert (await ledger.admit(repeat)).job.id == first.job_id
    assert await joined(ledger, again(first)) is None


async def test_three_parallel_calls_that_all_lost_their_client_get_three_pictures(
    ledger: RedisLedger,
) -> None:
    """Clients turn n=3 into three identical calls, and repeat all three."""
    first = order()
    calls = [first, again(first), again(first)]
    for call in calls:
        await ledger.admit(call)
    for call in calls:
        await ledger.abandon(call.job_id)

    retries = [await ledger.admit(again(first, marked=True)) for _ in calls]

    assert {retry.job.id for retry in retries} == {call.job_id for call in calls}
    assert (await ledger.census()).held_images == 3


async def test_race_8_one_idempotency_key_twice_at_once_opens_one_job(
    ledger: RedisLedger,
) -> None:
    first = order(idempotency_key="once")

    one, other = await asyncio.gather(ledger.admit(first), ledger.admit(again(first)))

    assert one.job.id == other.job.id
    assert one.joined is not other.joined
    assert (await ledger.census()).held_images == 1


async def test_race_9_an_idempotency_key_with_another_body_is_refused(
    ledger: RedisLedger,
) -> None:
    await ledger.admit(order(idempotency_key="once"))
    other = order(idempotency_key="once")

    with pytest.raises(IdempotencyKeyReused):
        await ledger.arrive(other.principal, other.repeat)
    with pytest.raises(IdempotencyKeyReused):
        await ledger.admit(other)


async def test_race_10_a_replay_is_readable_as_soon_as_the_job_is_settled(
    ledger: RedisLedger,
) -> None:
    first = order(idempotency_key="once")
    settled = await ledger.settle(await started(ledger, first), delivered(1))

    replayed = await ledger.admit(again(first))

    assert replayed.job == settled.job
    assert replayed.joined


async def test_a_replay_outlives_a_short_task_ttl(engine: Engine, open_store: OpenStore) -> None:
    """Otherwise the key's second use within its 24 hours would pay again."""
    ledger = ledger_on(open_store(engine.url), task_ttl_s=60)
    first = order(idempotency_key="once")
    await ledger.settle(await started(ledger, first), delivered(1))

    with engine.client() as admin:
        [key] = admin.keys("koi:*job:*")
        assert admin.ttl(key) > 86_000


async def test_an_idempotency_key_binds_to_the_job_it_was_handed(ledger: RedisLedger) -> None:
    first = order()
    await ledger.admit(first)
    await ledger.abandon(first.job_id)
    keyed = again(first, idempotency_key="mine")
    await ledger.admit(keyed)

    assert await joined(ledger, again(keyed)) == first.job_id


@pytest.mark.parametrize(
    ("age_s", "end", "options", "joins"),
    [
        (59, released(), {"marked": True}, True),
        (61, released(), {"marked": True}, False),
        (119, delivered(1), {"marked": True}, True),
        (121, delivered(1), {"marked": True}, False),
        (59, released(), {"idempotency_key": "k"}, True),
        (61, released(), {"idempotency_key": "k"}, False),
        (80_000, delivered(1), {"idempotency_key": "k"}, True),
    ],
)
async def test_how_long_an_ended_job_is_handed_over(
    engine: Engine, ledger: RedisLedger, age_s: int, end: object, options: dict, joins: bool
) -> None:
    first = order(**{key: value for key, value in options.items() if key != "marked"})
    await ledger.settle(await started(ledger, first), end)  # type: ignore[arg-type]
    with engine.client() as admin:
        [key] = admin.keys("koi:*job:*")
        admin.hincrby(key, "ended", -age_s * 1000)

    assert (await joined(ledger, again(first, **options)) is not None) is joins


async def test_a_joined_request_is_not_charged_even_when_the_quota_is_used_up(
    ledger: RedisLedger,
) -> None:
    who = principal(user=Limits(images_per_day=1))
    first = order(who)
    await ledger.admit(first)

    assert (await ledger.admit(again(first, marked=True))).joined


async def test_race_18_the_stores_clock_decides_the_day(
    engine: Engine, open_store: OpenStore
) -> None:
    """A gateway whose clock is a year off writes into the same windows as the others."""
    right = ledger_on(open_store(engine.url))
    wrong = ledger_on(open_store(engine.url), clock=lambda: utc_now() + timedelta(days=365))
    who = principal(user=Limits(images_per_day=1))
    await right.admit(order(who))

    with pytest.raises(GatewayError, match="this day"):
        await wrong.admit(order(who))
