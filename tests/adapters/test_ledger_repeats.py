"""Repeats join the job they repeat instead of buying again."""

import asyncio
from dataclasses import replace

import pytest
from store_rig import (
    Engine,
    OpenStore,
    admission,
    delivered,
    ledger_on,
    principal,
    released,
    started,
)  # fmt: skip

from app.adapters.redis.ledger import RedisLedger
from app.domain.errors import (
    IdempotencyKeyReused,
)  # fmt: skip
from app.domain.ledger import AdmissionRequest, AnswerReceipt, CallerPresence, PossibleDuplicate
from app.domain.limits import Limits


def again(first: AdmissionRequest, **changes: object) -> AdmissionRequest:
    """The same request, sent once more."""
    job = admission().job_id
    return replace(
        first, job_id=job, dedup_keys=replace(first.dedup_keys, **{"caller_id": job, **changes})
    )


async def joined(ledger: RedisLedger, repeated: AdmissionRequest) -> str | None:
    """The job both checks agree on: the one on arrival and the one on admission."""
    arrived = await ledger.check_rate_limit(repeated.principal, repeated.dedup_keys)
    admitted = await ledger.admit(repeated)
    assert admitted.joined is (arrived.duplicate_of is not None)
    return admitted.job.id if admitted.joined else None


async def test_a_deliberate_second_identical_request_buys_a_second_picture(
    ledger: RedisLedger,
) -> None:
    first = admission()
    await ledger.admit(first)

    assert await joined(ledger, again(first)) is None


async def test_a_retry_of_an_sdk_joins_the_open_job(ledger: RedisLedger) -> None:
    first = admission()
    await ledger.admit(first)

    assert await joined(ledger, again(first, is_sdk_retry=True)) == first.job_id


async def test_a_retry_of_an_sdk_joins_a_job_that_has_just_ended(ledger: RedisLedger) -> None:
    first = admission()
    await ledger.settle(await started(ledger, first), delivered(1))

    assert await joined(ledger, again(first, is_sdk_retry=True)) == first.job_id


async def test_another_keys_retry_joins_nothing(ledger: RedisLedger) -> None:
    first = admission()
    await ledger.admit(first)
    stranger = replace(
        again(first, is_sdk_retry=True), principal=principal(names=("key_9", "eve", None))
    )

    assert await joined(ledger, stranger) is None


async def test_an_abandoned_job_is_handed_to_the_next_identical_request_once(
    ledger: RedisLedger,
) -> None:
    first = admission()
    await ledger.admit(first)
    await ledger.abandon(first.job_id)

    repeat = again(first)
    assert (await ledger.admit(repeat)).job.id == first.job_id
    assert await joined(ledger, again(first)) is None


async def test_three_parallel_calls_that_all_lost_their_client_get_three_pictures(
    ledger: RedisLedger,
) -> None:
    """Clients turn n=3 into three identical calls, and repeat all three."""
    first = admission()
    calls = [first, again(first), again(first)]
    for call in calls:
        await ledger.admit(call)
    for call in calls:
        await ledger.abandon(call.job_id)

    retries = [await ledger.admit(again(first, is_sdk_retry=True)) for _ in calls]

    assert {retry.job.id for retry in retries} == {call.job_id for call in calls}
    assert (await ledger.open_job_stats()).held_images == 3


async def test_one_idempotency_key_twice_at_once_opens_one_job(
    ledger: RedisLedger,
) -> None:
    first = admission(idempotency_key="once")

    one, other = await asyncio.gather(ledger.admit(first), ledger.admit(again(first)))

    assert one.job.id == other.job.id
    assert one.joined is not other.joined
    assert (await ledger.open_job_stats()).held_images == 1


async def test_an_idempotency_key_with_another_body_is_refused(
    ledger: RedisLedger,
) -> None:
    await ledger.admit(admission(idempotency_key="once"))
    other = admission(idempotency_key="once")

    with pytest.raises(IdempotencyKeyReused):
        await ledger.check_rate_limit(other.principal, other.dedup_keys)
    with pytest.raises(IdempotencyKeyReused):
        await ledger.admit(other)


async def test_a_replay_is_readable_as_soon_as_the_job_is_settled(
    ledger: RedisLedger,
) -> None:
    first = admission(idempotency_key="once")
    settled = await ledger.settle(await started(ledger, first), delivered(1))

    replayed = await ledger.admit(again(first))

    assert replayed.job == settled.job
    assert replayed.joined


async def test_a_replay_outlives_a_short_task_ttl(engine: Engine, open_store: OpenStore) -> None:
    """Otherwise the key's second use within its 24 hours would pay again."""
    ledger = ledger_on(open_store(engine.url), task_ttl_s=60)
    first = admission(idempotency_key="once")
    await ledger.settle(await started(ledger, first), delivered(1))

    with engine.client() as admin:
        [key] = admin.keys("koi:*job:*")
        assert admin.ttl(key) > 86_000


async def test_an_idempotency_key_binds_to_the_job_it_was_handed(ledger: RedisLedger) -> None:
    first = admission()
    await ledger.admit(first)
    await ledger.abandon(first.job_id)
    keyed = again(first, idempotency_key="mine")
    await ledger.admit(keyed)

    assert await joined(ledger, again(keyed)) == first.job_id


@pytest.mark.parametrize(
    ("age_s", "end", "options", "joins"),
    [
        (59, released(), {"is_sdk_retry": True}, True),
        (61, released(), {"is_sdk_retry": True}, False),
        (119, delivered(1), {"is_sdk_retry": True}, True),
        (121, delivered(1), {"is_sdk_retry": True}, False),
        (59, released(), {"idempotency_key": "k"}, True),
        (61, released(), {"idempotency_key": "k"}, False),
        (80_000, delivered(1), {"idempotency_key": "k"}, True),
    ],
)
async def test_how_long_an_ended_job_is_handed_over(
    engine: Engine, ledger: RedisLedger, age_s: int, end: object, options: dict, joins: bool
) -> None:
    first = admission(**{key: value for key, value in options.items() if key != "is_sdk_retry"})
    await ledger.settle(await started(ledger, first), end)  # type: ignore[arg-type]
    with engine.client() as admin:
        [key] = admin.keys("koi:*job:*")
        admin.hincrby(key, "ended", -age_s * 1000)

    assert (await joined(ledger, again(first, **options)) is not None) is joins


async def test_a_joined_request_is_not_charged_even_when_the_quota_is_used_up(
    ledger: RedisLedger,
) -> None:
    who = principal(user=Limits(images_per_day=1))
    first = admission(who)
    await ledger.admit(first)

    assert (await ledger.admit(again(first, is_sdk_retry=True))).joined


# Who is still there ------------------------------------------------------------------------------


async def contested(ledger: RedisLedger, repeated: AdmissionRequest) -> tuple[str, ...]:
    with pytest.raises(PossibleDuplicate) as arrived:
        await ledger.check_rate_limit(repeated.principal, repeated.dedup_keys)
    with pytest.raises(PossibleDuplicate) as admitted:
        await ledger.admit(repeated)
    assert arrived.value.calls == admitted.value.calls
    return admitted.value.calls


@pytest.mark.parametrize(
    ("word", "joins"),
    [
        (CallerPresence.CONNECTED, False),
        (CallerPresence.DISCONNECTED, True),
        (CallerPresence.UNRESPONSIVE, True),
    ],
)
async def test_who_may_repeat_an_open_job_is_told_whom_to_ask_and_joins_unless_its_caller_is_there(
    ledger: RedisLedger, word: CallerPresence, joins: bool
) -> None:
    first = admission()
    await ledger.admit(first)

    assert await contested(ledger, again(first, callers={})) == (first.job_id,)
    judged = again(first, callers={first.job_id: word})
    assert (await ledger.admit(judged)).joined is joins


async def test_of_two_who_know_that_a_caller_left_one_takes_its_place_and_the_other_must_ask_again(
    ledger: RedisLedger,
) -> None:
    first = admission()
    await ledger.admit(first)
    left = {first.job_id: CallerPresence.DISCONNECTED}
    heir, late = (
        again(first, caller_id="heir", callers=left),
        again(first, caller_id="late", callers=left),
    )

    assert (await ledger.admit(heir)).joined
    assert await contested(ledger, late) == ("heir",)


async def test_only_the_departure_of_the_caller_who_holds_the_job_abandons_it(
    ledger: RedisLedger,
) -> None:
    first = admission(idempotency_key="once")
    await ledger.admit(first)
    joined_call = again(first, caller_id="guest")
    assert (await ledger.admit(joined_call)).joined

    await ledger.abandon(first.job_id, "guest")
    asked = again(first, callers={}, idempotency_key=None)
    assert await contested(ledger, asked) == (first.job_id,)
    await ledger.abandon(first.job_id, first.job_id)
    assert (await ledger.admit(asked)).joined


async def test_a_retry_of_an_sdk_does_not_join_what_its_caller_received(
    ledger: RedisLedger,
) -> None:
    first, second = admission(), admission()
    second = replace(second, dedup_keys=replace(first.dedup_keys, caller_id=second.job_id))
    for each in (first, second):
        await ledger.settle(await started(ledger, each), delivered(1))
    await ledger.save_receipts([AnswerReceipt(second.job_id, second.job_id)])

    retry = again(first, is_sdk_retry=True, callers={first.job_id: CallerPresence.CONNECTED})
    assert (await ledger.admit(retry)).job.id == first.job_id

    await ledger.save_receipts([AnswerReceipt(first.job_id, retry.job_id)])
    assert not (await ledger.admit(again(first, is_sdk_retry=True, callers={}))).joined


async def test_a_receipt_for_a_job_nobody_knows_makes_none(
    engine: Engine, ledger: RedisLedger
) -> None:
    await ledger.admit(admission())
    await ledger.save_receipts([AnswerReceipt("task_gone", "task_gone")])

    with engine.client() as admin:
        assert len(admin.keys("koi:*job:*")) == 1
