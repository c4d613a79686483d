"""Pending images in the store: each ends once, the task with them, and a rebuild finds them."""

import asyncio
from dataclasses import replace
from typing import Any

from store_rig import Engine, admission, started, unknown
from test_ledger_rebuild import Host, empty, host  # noqa: F401  a fixture

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.ledger import RedisLedger
from app.domain.images import Picture
from app.domain.job import (
    Job,
    JobState,
    Outcome,
    PartResult,
    PendingImage,
    PollAnomalyKind,
    TaskStatus,
    picture_stem,
)
from app.domain.ledger import CollectionReport, CollectionTimings, Entry, EntryKind


async def entries_of(ledger: RedisLedger) -> list[Entry]:
    return [entry async for entry in ledger.entries()]


PACE = CollectionTimings(first_ms=60_000, max_ms=1_800_000, lease_ms=1_000)


def link(index: int, part: int = 0) -> PendingImage:
    return PendingImage(part, index, f"https://cdn.test/{part}-{index}", 'a "koi" é', 5)


def picture(job_id: str, index: int, part: int = 0) -> Picture:
    return Picture(f"{picture_stem(job_id, part, index)}.png", "image/png", 4, 4, "é")


async def settled(ledger: RedisLedger, there: int = 0, missing: int = 1, **options: Any) -> Job:
    n = there + missing
    job_id = await started(ledger, admission(n=n, part_sizes=(n,), **options))
    here = tuple(picture(job_id, i) for i in range(there))
    links = tuple(link(i) for i in range(there, n))
    outcome = Outcome(JobState.SETTLED, here, billed=n, pending=links)
    return (await ledger.settle(job_id, outcome, collect_ms=-1)).job


async def test_what_was_made_is_settled_and_goes_on_collecting(ledger: RedisLedger) -> None:
    job = await settled(ledger, there=1, missing=1)

    read = await ledger.job(job.id)
    audit, stats = await ledger.audit(), await ledger.open_job_stats()

    assert read == job
    assert (job.state, job.status, job.ended) == (JobState.SETTLED, TaskStatus.COLLECTING, False)
    assert job.pending == (link(1),)
    assert (audit.open_jobs, audit.difference, stats.collecting) == (0, 0, 1)
    assert [(e.images, e.delivered) for e in await entries_of(ledger)] == [(2, 2)]


async def test_a_try_is_counted_before_it_is_made_and_pauses_grow(
    ledger: RedisLedger, engine: Engine
) -> None:
    job = await settled(ledger)

    [first] = await ledger.claim_collections(10, PACE)
    nobody = await ledger.claim_collections(10, PACE)
    await ledger.record_collection(job.id, CollectionReport(due_ms=-1))
    [second] = await ledger.claim_collections(10, PACE)

    assert (first.tries, second.tries, nobody) == (1, 2, [])
    assert first.job.pending == job.pending
    with engine.client() as admin:
        due = float(admin.zscore("koi:1:{ledger}:collect", job.id))  # type: ignore[arg-type]
    assert due >= second.now_ms + 120_000


async def test_two_reports_of_one_picture_are_one_picture(ledger: RedisLedger) -> None:
    job = await settled(ledger, there=1, missing=2)
    late = picture(job.id, 1)

    some = await ledger.record_collection(
        job.id, CollectionReport(((link(1), late),), tried=(link(2),), due_ms=9)
    )
    again = await ledger.record_collection(
        job.id, CollectionReport(((link(1), late),), tried=(link(2),), due_ms=9)
    )
    last = await ledger.record_collection(
        job.id, CollectionReport(((link(2), picture(job.id, 2)),))
    )

    assert (some.pictures, some.ended, again.pictures, again.ended) == (1, True, 0, False)
    assert (some.job.status, some.job.pending) == (TaskStatus.COMPLETED, (link(2),))
    assert [p.name for p in last.job.pictures] == [picture(job.id, i).name for i in range(3)]
    assert (last.ended, last.job.is_complete, last.job.pending) == (False, True, ())
    assert await ledger.find_owner(late.name) == ("ann", "user:ann")
    assert await ledger.claim_collections(10, PACE) == []
    assert len(await entries_of(ledger)) == 1


async def test_what_is_given_up_is_taken_off_once_and_may_still_come(ledger: RedisLedger) -> None:
    job = await settled(ledger)

    lost = await ledger.record_collection(job.id, CollectionReport(lost=(link(0),), error="404"))
    await ledger.record_collection(job.id, CollectionReport(lost=(link(0),)))
    entered = [(e.kind, e.images, e.delivered) for e in await entries_of(ledger)]
    found = await ledger.record_collection(
        job.id, CollectionReport(((link(0), picture(job.id, 0)),))
    )

    assert (lost.lost, lost.ended, lost.job.status) == (1, True, TaskStatus.FAILED)
    assert lost.job.failure is not None
    assert lost.job.failure.code == "image_unavailable"
    assert entered == [(EntryKind.SETTLE, 1, 1), (EntryKind.DELIVERY, 0, -1)]
    assert (found.job.status, found.job.failure) == (TaskStatus.COMPLETED, None)
    assert sum(e.delivered for e in await entries_of(ledger)) == 1
    assert (await ledger.audit()).difference == 0


async def test_a_fresh_link_takes_the_place_of_the_old_one(ledger: RedisLedger) -> None:
    job = await settled(ledger)
    fresh = replace(link(0), url="https://cdn.test/fresh", expires_ms=None)

    done = await ledger.record_collection(
        job.id, CollectionReport(links=(fresh,), error="it said 403")
    )

    assert done.job.pending == (fresh,)
    assert done.job.collecting is not None
    assert done.job.collecting.last_error == "it said 403"


async def test_a_picture_may_come_before_its_job_is_settled(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission(n=2, part_sizes=(1, 1)))
    waiting = PartResult(1, pending=(link(0),))
    await ledger.record_part(job_id, 0, result=waiting, due_ms=9)

    early = await ledger.record_collection(
        job_id, CollectionReport(((link(0), picture(job_id, 0)),))
    )
    outcome = Outcome(JobState.SETTLED, (picture(job_id, 0, 1),), billed=2, pending=(link(0),))
    done = (await ledger.settle(job_id, outcome)).job

    assert (early.pictures, early.ended) == (1, False)
    assert (done.status, done.is_complete, done.pending) == (TaskStatus.COMPLETED, True, ())
    assert [p.name for p in done.pictures] == [picture(job_id, 0, p).name for p in (0, 1)]
    assert [(e.images, e.delivered) for e in await entries_of(ledger)] == [(2, 2)]


async def test_late_proof_with_a_link_turns_a_failure_into_collecting(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission())
    await ledger.settle(job_id, unknown(), hold_ms=60_000)

    outcome = Outcome(JobState.SETTLED, billed=1, pending=(link(0),))
    job = (await ledger.settle(job_id, outcome)).job

    assert (job.status, job.failure, job.ended_ms) == (TaskStatus.COLLECTING, None, None)


async def test_a_record_lives_until_its_images_are_collected(
    ledger: RedisLedger, engine: Engine
) -> None:
    job = await settled(ledger)
    key = f"koi:1:{{ledger}}:job:{job.id}"

    with engine.client() as admin:
        before = admin.pttl(key)
        await ledger.record_collection(job.id, CollectionReport(((link(0), picture(job.id, 0)),)))
        after = admin.pttl(key)

    assert before == -1
    assert after > 0  # type: ignore[operator]


async def test_what_polls_say_against_a_task_is_counted_in_its_job(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission())
    await ledger.record_part(job_id, 0, upstream_id="up", due_ms=-1)

    async def looked(doubt: PollAnomalyKind | None) -> tuple[PollAnomalyKind, int] | None:
        [claim] = await ledger.claim(1, 1000)
        await ledger.reschedule(claim, due_ms=-1, anomalies={0: doubt})
        job = await ledger.job(job_id)
        assert job is not None
        counted = job.parts[0].anomaly
        return None if counted is None else (counted.kind, counted.polls)

    missing, empty = PollAnomalyKind.MISSING, PollAnomalyKind.EMPTY
    told = [await looked(doubt) for doubt in (missing, missing, None, missing, empty)]

    assert told == [(missing, 1), (missing, 2), None, (missing, 1), (empty, 1)]


async def test_an_ambiguous_job_is_due_soon_only_while_its_task_can_be_asked(
    ledger: RedisLedger,
) -> None:
    asked = await started(ledger, admission(body="a"))
    await ledger.record_part(asked, 0, upstream_id="up", due_ms=9)
    silent = await started(ledger, admission(body="b"))
    for job_id in (asked, silent):
        await ledger.settle(job_id, unknown(), hold_ms=60_000, recheck_ms=1)
    await asyncio.sleep(0.01)

    assert [claim.job.id for claim in await ledger.claim(9, 1000)] == [asked]


async def test_a_rebuild_brings_back_what_was_collected_and_what_was_not(
    engine: Engine,
    host: Host,  # noqa: F811
) -> None:
    ledger = host.ledger
    both, one = await settled(ledger, there=1, missing=2), await settled(ledger)
    lost = await settled(ledger)
    await ledger.record_collection(
        both.id,
        CollectionReport(((link(1), picture(both.id, 1)),), error="it said 503", tried=(link(2),)),
    )
    await ledger.record_collection(lost.id, CollectionReport(lost=(link(0),)))
    before = [await ledger.job(job.id) for job in (both, one, lost)]
    entered = await entries_of(ledger)
    empty(engine)

    rebuilt = await host.rebuild()
    after = [await ledger.job(job.id) for job in (both, one, lost)]
    claims = await ledger.claim_collections(10, PACE)

    assert after == before
    assert rebuilt.lost_changes == 0
    assert await entries_of(ledger) == entered
    assert {claim.job.id for claim in claims} == {both.id, one.id}
    assert await ledger.find_owner(picture(both.id, 1).name) == ("ann", "user:ann")
    assert (await ledger.audit()).difference == 0


async def test_two_journals_read_in_any_order_tell_the_same(
    engine: Engine,
    host: Host,  # noqa: F811
    store: BatchingStore,
) -> None:
    other = Host.on(store)
    job = await settled(host.ledger, missing=2)
    await other.ledger.record_collection(job.id, CollectionReport(((link(0), picture(job.id, 0)),)))
    await host.ledger.record_collection(
        job.id, CollectionReport(links=(link(1),), error="it said 503")
    )
    done = await other.ledger.record_collection(
        job.id, CollectionReport(((link(1), picture(job.id, 1)),))
    )
    empty(engine)

    await other.rebuild(host)

    read = await host.ledger.job(job.id)
    assert read is not None
    assert (read.status, read.pictures, read.pending) == (
        TaskStatus.COMPLETED, done.job.pictures, (),
    )  # fmt: skip
    assert await host.ledger.claim_collections(10, PACE) == []
