"""Due jobs, who looks after them, and how long anything is kept."""

import asyncio
from dataclasses import replace

from store_rig import (
    AMBIGUOUS,
    Engine,
    admission,
    delivered,
    ledger_on,
    pictures,
    principal,
    started,
    unknown,
)  # fmt: skip

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.ledger import RedisLedger
from app.domain.errors import BillingEvidence
from app.domain.job import JobState, PartResult, TaskStatus


async def test_two_workers_after_a_restart_share_no_job(ledger: RedisLedger) -> None:
    ids = {await started(ledger, admission()) for _ in range(10)}
    for job_id in ids:
        await ledger.record_part(job_id, 0, upstream_id=f"up-{job_id}", due_ms=-1)

    batches = await asyncio.gather(*(ledger.claim(4, 60_000) for _ in range(4)))

    claimed = [claim.job.id for batch in batches for claim in batch]
    assert sorted(claimed) == sorted(ids)


async def test_the_most_overdue_job_is_claimed_first(ledger: RedisLedger) -> None:
    for late_s in (10, 3000, 200):
        await ledger.admit(admission(lease_ms=-late_s * 1000, body=str(late_s)))

    claims = await ledger.claim(2, 1000)

    assert [claim.late_ms // 100_000 for claim in claims] == [30, 2]


async def test_jobs_without_room_for_their_polls_hold_up_nobody(ledger: RedisLedger) -> None:
    for name, ids in {"two": ["up-1", "up-2"], "one": ["up-3"]}.items():
        wanted = admission(n=len(ids), part_sizes=(1,) * len(ids), body=name)
        job_id = await started(ledger, wanted)
        for part, upstream_id in enumerate(ids):
            await ledger.record_part(job_id, part, upstream_id=upstream_id, due_ms=-2000 * len(ids))
    lapsed = await ledger.admit(admission(lease_ms=-10))

    none, left = await ledger.claim_with_polls(10, 60_000, {None: 0})
    first, after = await ledger.claim_with_polls(10, 60_000, {None: 1})
    second, _ = await ledger.claim_with_polls(10, 60_000, {None: 9})

    assert [claim.job.id for claim in none] == [lapsed.job.id]
    assert left == {None: 3}
    assert [[len(claim.job.parts) for claim in claims] for claims in (first, second)] == [[2], [1]]
    assert after == {None: 1}


async def test_polls_of_one_provider_have_their_own_room(ledger: RedisLedger) -> None:
    for name in (None, "second", "third"):
        job_id = await started(ledger, admission(body=f"{name}", provider=name))
        await ledger.record_part(job_id, 0, upstream_id="the same id", due_ms=-2000)

    claims, left = await ledger.claim_with_polls(10, 60_000, {None: 0, "second": 0})
    more, after = await ledger.claim_with_polls(10, 60_000, {None: 0, "second": 1})

    assert [claim.job.provider for claim in claims] == ["third"]
    assert left == {None: 1, "second": 1}
    assert [claim.job.provider for claim in more] == ["second"]
    assert after == {None: 1}


async def test_two_providers_may_use_one_id_for_tasks_of_their_own(ledger: RedisLedger) -> None:
    one, other, third = [
        await started(ledger, admission(body=body, provider=provider))
        for body, provider in (("a", None), ("b", "second"), ("c", "second"))
    ]

    assert await ledger.record_part(one, 0, upstream_id="task_1", due_ms=9)
    assert await ledger.record_part(other, 0, upstream_id="task_1", due_ms=9)
    assert not await ledger.record_part(third, 0, upstream_id="task_1", due_ms=9)


async def test_a_lease_taken_over_cannot_be_given_back(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission())
    await ledger.record_part(job_id, 0, upstream_id="up", due_ms=-1)
    [mine] = await ledger.claim(1, -1)
    [theirs] = await ledger.claim(1, 60_000)

    assert not await ledger.reschedule(mine, due_ms=0, progress=99)
    assert await ledger.reschedule(theirs, due_ms=0, progress=10)
    assert (await ledger.job(job_id)).progress == 10  # type: ignore[union-attr]


async def test_what_others_changed_between_two_polls_is_seen_by_the_second(
    ledger: RedisLedger, store: BatchingStore
) -> None:
    other = ledger_on(store)
    job_id = await started(ledger, admission(n=2, part_sizes=(1, 1)))
    await ledger.record_part(job_id, 0, upstream_id="up-1", due_ms=-1)
    seen = []
    for progress in (None, 20, 70, None):
        [claim] = await ledger.claim(1, 60_000)
        seen.append((claim.job.progress, claim.job.parts[1].upstream_id, claim.job.status.value))
        assert claim.job == await ledger.job(job_id)
        if progress == 70:
            await other.record_part(job_id, 1, upstream_id="up-2", due_ms=-1)
        await ledger.reschedule(claim, due_ms=-1)
        [theirs] = await other.claim(1, 60_000)
        await other.reschedule(
            theirs, due_ms=-1, progress=progress, status=TaskStatus.PROCESSING if progress else None
        )

    assert seen == [
        (0, None, "queued"), (0, None, "queued"),
        (20, None, "processing"), (70, "up-2", "processing"),
    ]  # fmt: skip


async def test_a_job_that_only_polls_changed_is_not_read_again(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission())
    await ledger.record_part(job_id, 0, upstream_id="up", due_ms=-1)
    jobs = []
    for upstream_id in ("up", "up", "up", "other"):
        [claim] = await ledger.claim(1, 60_000)
        jobs.append(claim.job)
        await ledger.reschedule(claim, due_ms=-1, progress=50, status=TaskStatus.PROCESSING)
        await ledger.record_part(job_id, 0, upstream_id=upstream_id, due_ms=-1)
    [claim] = await ledger.claim(1, 60_000)
    jobs.append(claim.job)

    assert [(job.progress, job.status.value) for job in jobs[:2]] == [
        (0, "queued"),
        (50, "processing"),
    ]
    assert [job.parts is jobs[0].parts for job in jobs] == [True, True, True, True, False]
    assert jobs[3] is jobs[1]


async def test_a_batch_of_polls_sets_its_due_times_in_one_write(
    engine: Engine, ledger: RedisLedger
) -> None:
    for _ in range(20):
        job_id = await started(ledger, admission())
        await ledger.record_part(job_id, 0, upstream_id=job_id, due_ms=-1)
    writes = []
    with engine.client() as admin:
        for _ in range(3):
            before = admin.info("commandstats")["cmdstat_zadd"]["calls"]
            claims = await ledger.claim(50, 5000)
            await asyncio.gather(*(ledger.reschedule(claim, due_ms=-1) for claim in claims))
            assert len(claims) == 20
            writes.append(admin.info("commandstats")["cmdstat_zadd"]["calls"] - before)

    assert writes[1:] == [2, 2]


async def test_a_jobs_slots_outlast_each_due_time_by_one_minute_to_two(
    engine: Engine, ledger: RedisLedger
) -> None:
    job_id = await started(ledger, admission())
    await ledger.record_part(job_id, 0, upstream_id="up", due_ms=-1)
    with engine.client() as admin:
        [due] = admin.keys("koi:*:due")
        slots = admin.keys("koi:*slots:*")
        for lease_ms in (5_000, 50_000, 5_000, 900_000, 5_000):
            [claim] = await ledger.claim(1, lease_ms)
            leased = admin.zscore(due, job_id)
            ends = {admin.zscore(key, job_id) for key in slots}
            await ledger.reschedule(claim, due_ms=-1)
            again = {admin.zscore(key, job_id) for key in slots}

            assert len(slots) == 4
            assert [60_000 < end - leased <= 120_000 for end in ends] == [True]
            assert [60_000 < end - admin.zscore(due, job_id) <= 120_000 for end in again] == [True]


async def test_progress_rises_and_status_goes_forward_only(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission())
    seen = []
    for status, progress in (
        (TaskStatus.QUEUED, 5), (TaskStatus.PROCESSING, 40), (TaskStatus.QUEUED, 30), (None, 50),
    ):  # fmt: skip
        await ledger.record_part(job_id, 0, due_ms=-1)
        [claim] = await ledger.claim(1, 60_000)
        await ledger.reschedule(claim, due_ms=-1, status=status, progress=progress)
        job = await ledger.job(job_id)
        assert job is not None
        seen.append((job.status.value, job.progress))

    assert seen == [("queued", 5), ("processing", 40), ("processing", 40), ("processing", 50)]


async def test_an_upstream_id_belongs_to_one_part_of_one_job(ledger: RedisLedger) -> None:
    first = await started(ledger, admission(n=2, part_sizes=(1, 1)))
    second = await started(ledger, admission())

    assert await ledger.record_part(first, 0, upstream_id="up", due_ms=5000)
    assert await ledger.record_part(first, 0, upstream_id="up", due_ms=5000)
    assert not await ledger.record_part(first, 1, upstream_id="up", due_ms=5000)
    assert not await ledger.record_part(second, 0, upstream_id="up", due_ms=5000)

    job = await ledger.job(second)
    assert job is not None
    assert job.parts[0].upstream_id is None


async def test_a_parts_result_stands_unless_a_later_one_brings_images(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, admission())
    lost = PartResult(failure=AMBIGUOUS, proof=BillingEvidence.UNKNOWN)
    made = PartResult(images=1, pictures=pictures(1))

    for result in (lost, made, lost):
        await ledger.record_part(job_id, 0, result=result, due_ms=5000)

    job = await ledger.job(job_id)
    assert job is not None
    assert job.parts[0].result == made


async def test_recording_on_a_settled_job_changes_nothing(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission())
    end = await ledger.settle(job_id, delivered(1))

    assert await ledger.record_part(job_id, 0, result=PartResult(images=1), due_ms=0)

    assert await ledger.job(job_id) == end.job
    assert await ledger.claim(10, 1000) == []


# What lasts --------------------------------------------------------------------------------------


async def test_open_jobs_never_expire_and_ended_ones_do(
    engine: Engine, ledger: RedisLedger
) -> None:
    """I9: every open job has exactly one due time, until it ends."""
    held = await started(ledger, admission())
    await ledger.settle(held, unknown(), hold_ms=60_000)
    done = await started(ledger, admission())
    await ledger.settle(done, delivered(1))

    with engine.client() as admin:
        [prefix] = {key.rpartition(":")[0] for key in admin.keys("koi:*job:*")}
        assert admin.ttl(f"{prefix}:{held}") == -1
        assert 86_000 < admin.ttl(f"{prefix}:{done}") <= 86_400
        [due] = admin.keys("koi:*:due")
        assert admin.zrange(due, 0, -1) == [held]


async def test_everything_but_the_ledger_and_open_jobs_expires(
    engine: Engine, ledger: RedisLedger
) -> None:
    who = principal()
    await ledger.check_rate_limit(who, admission(idempotency_key="k").dedup_keys)
    done = await started(ledger, admission(who, idempotency_key="k"))
    await ledger.record_part(done, 0, upstream_id="up", due_ms=1)
    await ledger.settle(done, delivered(1))

    with engine.client() as admin:
        lasting = {key.partition("}:")[2] for key in admin.scan_iter() if admin.ttl(key) == -1}
        assert lasting == {
            *("epoch", "seq", "trail", "clock", "open", "stream", "windows", "data_version"),
        }


async def test_a_users_jobs_newest_first_and_nobody_elses(ledger: RedisLedger) -> None:
    mine = [await started(ledger, admission()) for _ in range(3)]
    await started(ledger, admission(principal(names=("key_9", "eve", None))))

    assert [job.id for job in await ledger.list_jobs("ann", 2)] in (
        [mine[2], mine[1]],
        sorted(mine)[:0:-1],  # two of them within one millisecond
    ) or len({job.created_ms for job in await ledger.list_jobs("ann", 9)}) < 3
    assert {job.user for job in await ledger.list_jobs("ann", 9)} == {"ann"}
    assert await ledger.list_jobs("nobody", 9) == []


async def test_unknown_jobs_and_pictures(ledger: RedisLedger) -> None:
    assert await ledger.job("task_none") is None
    assert await ledger.find_owner("img_none") is None
    await ledger.abandon("task_none")


async def test_the_statistics_count_the_open_jobs(ledger: RedisLedger) -> None:
    await ledger.admit(admission(n=2, lease_ms=-5000))
    await started(ledger, admission(n=3, unit=10))
    await ledger.settle(await started(ledger, admission()), unknown(), hold_ms=60_000)

    stats = await ledger.open_job_stats()

    assert stats.jobs == {JobState.RESERVED: 1, JobState.DISPATCHED: 1, JobState.UNKNOWN: 1}
    assert (stats.held_images, stats.held_micros) == (6, 420_030)
    assert 5000 <= stats.lag_ms < 60_000


# What the bill calls it ---------------------------------------------------------------------------


async def test_the_providers_names_are_kept_with_the_job_and_in_its_entry(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, admission())
    await ledger.record_part(job_id, 0, upstream_id="task_1", request_id="req_1", due_ms=0)

    open_job = await ledger.job(job_id)
    await ledger.settle(job_id, replace(unknown(), calls=open_job.calls), hold_ms=0)  # type: ignore[union-attr]
    held = await ledger.job(job_id)
    await ledger.settle(job_id, replace(delivered(1), calls=held.calls))  # type: ignore[union-attr]

    assert [job and job.calls for job in (open_job, held)] == [("task_1", "req_1")] * 2
    [entry] = [entry async for entry in ledger.entries()]
    assert entry.calls == ("task_1", "req_1")


async def test_a_claim_says_the_job_s_age_by_the_stores_clock(ledger: RedisLedger) -> None:
    """The clock of this machine decides nothing."""
    await ledger.admit(admission(lease_ms=-1))
    await started(ledger, admission())

    [claim] = await ledger.claim(10, 1000)

    assert 0 <= claim.age_ms < 10_000
