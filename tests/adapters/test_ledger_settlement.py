"""From dispatch to the end: the state machine, the races around it, and the books afterwards."""

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from store_rig import (
    AMBIGUOUS,
    CALENDAR,
    Engine,
    OpenStore,
    delivered,
    ledger_on,
    order,
    pictures,
    presumed,
    principal,
    released,
    row,
    started,
    unknown,
)  # fmt: skip

from app.adapters.redis.ledger import RedisLedger
from app.domain.calendar import Calendar, Day
from app.domain.errors import FailureNote, InvalidRequest, Proof, TaskNotFound
from app.domain.job import JobState, Outcome, PartResult, TaskStatus
from app.domain.ledger import Entry, EntryKind
from app.domain.limits import Meter, ScopeKind, Window

NEVER_SENT = Outcome(
    JobState.RELEASED, proof=Proof.NEVER_SENT, failure=FailureNote("interrupted", "…")
)


async def entries_of(ledger: RedisLedger) -> list[Entry]:
    return [entry async for entry in ledger.entries()]


async def images_today(ledger: RedisLedger, scope: ScopeKind = ScopeKind.USER) -> tuple[int, int]:
    standing = await ledger.standing(principal())
    return row(standing, scope, Meter.IMAGES, Window.DAY)


# Dispatch ----------------------------------------------------------------------------------------


async def test_a_job_is_dispatched_at_most_once(ledger: RedisLedger) -> None:
    """I8: a lost reply is never taken for leave to send twice."""
    job_id = (await ledger.admit(order())).job.id

    said = await asyncio.gather(*(ledger.dispatch(job_id, 60_000) for _ in range(5)))

    assert sorted(said) == [False, False, False, False, True]


async def test_race_7_a_claimed_reservation_is_dispatched_no_more(ledger: RedisLedger) -> None:
    """The sweeper read RESERVED and is about to release: sending now would be paid and lost."""
    job_id = (await ledger.admit(order(lease_ms=-1))).job.id
    [claim] = await ledger.claim(10, 60_000)

    assert not await ledger.dispatch(job_id, 60_000)
    assert (await ledger.settle(claim.job.id, NEVER_SENT)).first


async def test_race_7_a_slow_gateway_may_still_dispatch_what_nobody_claimed(
    ledger: RedisLedger,
) -> None:
    job_id = (await ledger.admit(order(lease_ms=-1))).job.id

    assert await ledger.dispatch(job_id, 60_000)
    assert await ledger.claim(10, 60_000) == []


async def test_race_5_settling_against_the_sweep_ends_once(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order(n=2))

    first, second = await asyncio.gather(
        ledger.settle(job_id, delivered(2)), ledger.settle(job_id, presumed(2))
    )

    assert (first.first, second.first) == (True, False)
    assert second.job == first.job
    assert await images_today(ledger) == (2, 0)


async def test_cancelling_frees_what_was_never_sent(ledger: RedisLedger) -> None:
    job_id = (await ledger.admit(order(n=2))).job.id

    done, again = await ledger.cancel(job_id), await ledger.cancel(job_id)

    assert done is not None
    assert again is not None
    assert (done.first, again.first) == (True, False)
    assert done.job.failure is not None
    assert done.job.failure.code == "task_cancelled"
    assert await images_today(ledger) == (0, 0)
    assert [entry.kind for entry in await entries_of(ledger)] == [EntryKind.RELEASE]


async def test_a_dispatched_job_cannot_be_cancelled(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order())

    assert await ledger.cancel(job_id) is None
    await ledger.settle(job_id, released())
    assert await ledger.cancel(job_id) is None


# Ends --------------------------------------------------------------------------------------------


async def test_race_4_settling_twice_charges_once(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order(n=2))
    outcome = delivered(2)

    ends = await asyncio.gather(*(ledger.settle(job_id, outcome) for _ in range(8)))

    assert sum(end.first for end in ends) == 1
    assert {end.job for end in ends} == {ends[0].job}
    assert len(await entries_of(ledger)) == 1
    assert await images_today(ledger) == (2, 0)


async def test_a_settled_job_tells_everything_in_one_entry(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order(n=3))

    settled = await ledger.settle(job_id, delivered(2))

    [entry] = await entries_of(ledger)
    assert replace(entry, id="", at_ms=0, day="", month="") == Entry(
        id="", kind=EntryKind.SETTLE, at_ms=0, job=job_id, key="key_1", user="ann", team="art",
        model="grok-imagine", size="1024x1024", quality="standard", images=2, micros=280_000,
        delivered=2, presumed=0, surplus=0, day="", month="",
    )  # fmt: skip
    assert settled.job.status is TaskStatus.COMPLETED
    assert settled.job.progress == 100
    assert entry.at_ms == settled.job.ended_ms
    assert await ledger.job(job_id) == settled.job


async def test_race_16_partial_success_charges_what_was_made_and_frees_the_rest(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, order(n=4))

    await ledger.settle(job_id, delivered(3))

    assert await images_today(ledger) == (3, 0)


async def test_race_17_surplus_is_the_houses_and_the_audit_agrees(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order(n=2))

    await ledger.settle(job_id, delivered(2, surplus=3))

    assert await images_today(ledger) == (2, 0)
    assert await images_today(ledger, ScopeKind.HOUSE) == (5, 0)
    assert [(e.images, e.surplus, e.micros) for e in await entries_of(ledger)] == [(2, 3, 280_000)]
    assert (await ledger.audit()).difference == 0


@pytest.mark.parametrize(
    "outcome",
    [
        replace(delivered(1), billed=-1),
        replace(delivered(1), presumed=2),
        replace(delivered(1), surplus=-1),
        replace(released(), billed=1),
        replace(released(), failure=None),
        replace(unknown(), billed=1),
        replace(delivered(1), state=JobState.DISPATCHED),
    ],
)
async def test_unlawful_ends_are_refused(ledger: RedisLedger, outcome: Outcome) -> None:
    job_id = await started(ledger, order())

    with pytest.raises(ValueError, match="lawful"):
        await ledger.settle(job_id, outcome)

    assert (await ledger.census()).held_images == 1


async def test_nobody_is_charged_more_than_was_reserved(ledger: RedisLedger) -> None:
    """I7."""
    job_id = await started(ledger, order(n=1))

    with pytest.raises(ValueError, match="more images"):
        await ledger.settle(job_id, delivered(2))


@pytest.mark.parametrize("proof", [None, Proof.UNKNOWN])
async def test_a_dispatched_job_is_not_released_without_proof(
    ledger: RedisLedger, proof: Proof | None
) -> None:
    """I6."""
    job_id = await started(ledger, order())

    with pytest.raises(ValueError, match="proof"):
        await ledger.settle(job_id, replace(released(), proof=proof))

    assert (await ledger.census()).jobs[JobState.DISPATCHED] == 1


async def test_settling_a_job_nobody_knows(ledger: RedisLedger) -> None:
    with pytest.raises(TaskNotFound):
        await ledger.settle("task_none", delivered(1))


async def test_an_unknown_job_stays_held_and_comes_due(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order(n=2))

    ended = await ledger.settle(job_id, unknown(), hold_ms=-1)

    assert ended.job.ended
    assert ended.job.failure == AMBIGUOUS
    assert await images_today(ledger) == (0, 2)
    assert await entries_of(ledger) == []
    assert [claim.job.id for claim in await ledger.claim(1, 1000)] == [job_id]


async def test_an_unknown_job_is_presumed_billed(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order(n=2))
    await ledger.settle(job_id, unknown())

    end = await ledger.settle(job_id, presumed(2))

    assert end.first
    assert end.job.status is TaskStatus.FAILED
    assert [(e.images, e.presumed) for e in await entries_of(ledger)] == [(2, 2)]


async def test_late_pictures_turn_an_unknown_failure_into_their_answer(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, order())
    await ledger.settle(job_id, unknown())
    late = delivered(1)

    end = await ledger.settle(job_id, late)

    assert (end.job.status, end.job.failure) == (TaskStatus.COMPLETED, None)
    assert end.job.pictures == late.pictures
    assert await ledger.owner_of(late.pictures[0].name) == ("ann", "user:ann")


async def test_race_6_a_release_is_final_even_when_success_comes_later(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, order())
    await ledger.settle(job_id, released(Proof.FAILED))

    late = await ledger.settle(job_id, delivered(1))

    assert not late.first
    assert late.job.state is JobState.RELEASED
    assert await images_today(ledger) == (0, 0)


@dataclass
class _Midnight(Calendar):
    """A calendar in which the machine decides what today is called."""

    today: date

    def __post_init__(self) -> None:
        super().__init__(CALENDAR.zone)

    def around(self, now: datetime) -> tuple[Day, ...]:
        label = self.day(self.today)
        return tuple(
            replace(day, label=label.label, month=label.month) for day in super().around(now)
        )


async def test_race_3_what_was_reserved_before_midnight_settles_in_yesterday(
    open_store: OpenStore, engine: Engine
) -> None:
    """I10, over the end of a month."""
    calendar = _Midnight(date(2026, 11, 30))
    ledger = ledger_on(open_store(engine.url), calendar=calendar)
    job_id = await started(ledger, order(n=2))

    calendar.today = date(2026, 12, 1)
    assert await images_today(ledger) == (0, 0)
    await ledger.settle(job_id, delivered(2))

    assert await images_today(ledger) == (0, 0)
    assert [(e.day, e.month) for e in await entries_of(ledger)] == [("2026-11-30", "2026-11")]
    assert (await ledger.audit()).difference == 0
    calendar.today = date(2026, 11, 30)
    assert await images_today(ledger) == (2, 0)


# Polling -----------------------------------------------------------------------------------------


async def test_race_20_two_workers_after_a_restart_share_no_job(ledger: RedisLedger) -> None:
    ids = {await started(ledger, order()) for _ in range(10)}
    for job_id in ids:
        await ledger.record(job_id, 0, upstream_id=f"up-{job_id}", due_ms=-1)

    batches = await asyncio.gather(*(ledger.claim(4, 60_000) for _ in range(4)))

    claimed = [claim.job.id for batch in batches for claim in batch]
    assert sorted(claimed) == sorted(ids)


async def test_the_most_overdue_job_is_claimed_first(ledger: RedisLedger) -> None:
    for late_ms in (10, 3000, 200):
        await ledger.admit(order(lease_ms=-late_ms, body=str(late_ms)))

    claims = await ledger.claim(2, 1000)

    assert [claim.late_ms // 100 for claim in claims] == [30, 2]


async def test_race_12_a_lease_taken_over_cannot_be_given_back(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order())
    await ledger.record(job_id, 0, upstream_id="up", due_ms=-1)
    [mine] = await ledger.claim(1, -1)
    [theirs] = await ledger.claim(1, 60_000)

    assert not await ledger.advance(mine, due_ms=0, progress=99)
    assert await ledger.advance(theirs, due_ms=0, progress=10)
    assert (await ledger.job(job_id)).progress == 10  # type: ignore[union-attr]


async def test_progress_rises_and_status_goes_forward_only(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order())
    seen = []
    for status, progress in (
        (TaskStatus.QUEUED, 5), (TaskStatus.PROCESSING, 40), (TaskStatus.QUEUED, 30), (None, 50),
    ):  # fmt: skip
        await ledger.record(job_id, 0, due_ms=-1)
        [claim] = await ledger.claim(1, 60_000)
        await ledger.advance(claim, due_ms=-1, status=status, progress=progress)
        job = await ledger.job(job_id)
        assert job is not None
        seen.append((job.status.value, job.progress))

    assert seen == [("queued", 5), ("processing", 40), ("processing", 40), ("processing", 50)]


async def test_an_upstream_id_belongs_to_one_part_of_one_job(ledger: RedisLedger) -> None:
    first = await started(ledger, order(n=2, part_sizes=(1, 1)))
    second = await started(ledger, order())

    assert await ledger.record(first, 0, upstream_id="up", due_ms=5000)
    assert await ledger.record(first, 0, upstream_id="up", due_ms=5000)
    assert not await ledger.record(first, 1, upstream_id="up", due_ms=5000)
    assert not await ledger.record(second, 0, upstream_id="up", due_ms=5000)

    job = await ledger.job(second)
    assert job is not None
    assert job.parts[0].upstream_id is None


async def test_a_parts_result_stands_unless_a_later_one_brings_images(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, order())
    lost = PartResult(failure=AMBIGUOUS, proof=Proof.UNKNOWN)
    made = PartResult(images=1, pictures=pictures(1))

    for result in (lost, made, lost):
        await ledger.record(job_id, 0, result=result, due_ms=5000)

    job = await ledger.job(job_id)
    assert job is not None
    assert job.parts[0].result == made


async def test_recording_on_a_closed_book_changes_nothing(ledger: RedisLedger) -> None:
    job_id = await started(ledger, order())
    end = await ledger.settle(job_id, delivered(1))

    assert await ledger.record(job_id, 0, result=PartResult(images=1), due_ms=0)

    assert await ledger.job(job_id) == end.job
    assert await ledger.claim(10, 1000) == []


# What lasts --------------------------------------------------------------------------------------


async def test_open_jobs_never_expire_and_ended_ones_do(
    engine: Engine, ledger: RedisLedger
) -> None:
    """I9: every open job has exactly one due time, until it ends."""
    held = await started(ledger, order())
    await ledger.settle(held, unknown(), hold_ms=60_000)
    done = await started(ledger, order())
    await ledger.settle(done, delivered(1))

    with engine.client() as admin:
        [prefix] = {key.rpartition(":")[0] for key in admin.keys("koi:*job:*")}
        assert admin.ttl(f"{prefix}:{held}") == -1
        assert 86_000 < admin.ttl(f"{prefix}:{done}") <= 86_400
        [due] = admin.keys("koi:*:due")
        assert admin.zrange(due, 0, -1) == [held]


async def test_everything_but_books_and_open_jobs_has_an_end_of_life(
    engine: Engine, ledger: RedisLedger
) -> None:
    who = principal()
    await ledger.arrive(who, order(idempotency_key="k").repeat)
    done = await started(ledger, order(who, idempotency_key="k"))
    await ledger.record(done, 0, upstream_id="up", due_ms=1)
    await ledger.settle(done, delivered(1))

    with engine.client() as admin:
        lasting = {key.partition("}:")[2] for key in admin.scan_iter() if admin.ttl(key) == -1}
        assert lasting == {"epoch", "seq", "open", "stream", "windows"}


async def test_a_users_jobs_newest_first_and_nobody_elses(ledger: RedisLedger) -> None:
    mine = [await started(ledger, order()) for _ in range(3)]
    await started(ledger, order(principal(names=("key_9", "eve", None))))

    assert [job.id for job in await ledger.jobs_of("ann", 2)] in (
        [mine[2], mine[1]],
        sorted(mine)[:0:-1],  # two of them within one millisecond
    ) or len({job.created_ms for job in await ledger.jobs_of("ann", 9)}) < 3
    assert {job.user for job in await ledger.jobs_of("ann", 9)} == {"ann"}
    assert await ledger.jobs_of("nobody", 9) == []


async def test_unknown_jobs_and_pictures(ledger: RedisLedger) -> None:
    assert await ledger.job("task_none") is None
    assert await ledger.owner_of("img_none") is None
    await ledger.abandon("task_none")


async def test_the_census_counts_what_is_open(ledger: RedisLedger) -> None:
    await ledger.admit(order(n=2, lease_ms=-5000))
    await started(ledger, order(n=3, unit=10))
    await ledger.settle(await started(ledger, order()), unknown(), hold_ms=60_000)

    census = await ledger.census()

    assert census.jobs == {JobState.RESERVED: 1, JobState.DISPATCHED: 1, JobState.UNKNOWN: 1}
    assert (census.held_images, census.held_micros) == (6, 420_030)
    assert 5000 <= census.lag_ms < 6000


# The books ---------------------------------------------------------------------------------------


def correction(images: int, **changes: object) -> Entry:
    today = CALENDAR.around(datetime.now(UTC))[1]
    entry = Entry(
        id="", kind=EntryKind.ADJUST, at_ms=0, job="", key="key_1", user="ann", team="art",
        model="grok-imagine", size="", quality="", images=images, micros=images * 140_000,
        delivered=0, presumed=0, surplus=0, day=today.label, month=today.month, note="refund",
    )  # fmt: skip
    return replace(entry, **changes)  # type: ignore[arg-type]


async def test_a_correction_is_a_new_entry_and_moves_the_counters(ledger: RedisLedger) -> None:
    await ledger.settle(await started(ledger, order(n=3)), delivered(3))

    entered = await ledger.adjust(correction(-2))

    assert (await entries_of(ledger))[-1] == entered
    assert await images_today(ledger) == (1, 0)
    assert (await ledger.audit()).difference == 0


async def test_a_correction_asked_for_twice_under_one_id_is_made_once(
    ledger: RedisLedger,
) -> None:
    one, two = [await ledger.adjust(correction(2, id="ticket-7")) for _ in range(2)]

    assert one == two
    assert await images_today(ledger) == (2, 0)


async def test_a_correction_never_leaves_a_counter_below_zero(ledger: RedisLedger) -> None:
    """I2."""
    with pytest.raises(InvalidRequest, match="below zero"):
        await ledger.adjust(correction(-1))

    assert await entries_of(ledger) == []


async def test_a_correction_of_a_window_long_gone_is_entered_all_the_same(
    ledger: RedisLedger,
) -> None:
    await ledger.adjust(correction(-4, day="2020-01-31", month="2020-01"))

    assert len(await entries_of(ledger)) == 1
    assert (await ledger.audit()).difference == 0


async def test_entries_come_in_pages_and_by_time(ledger: RedisLedger) -> None:
    await asyncio.gather(*(ledger.adjust(correction(1)) for _ in range(1203)))
    everything = await entries_of(ledger)
    middle = everything[600].at_ms

    early = [e async for e in ledger.entries(until_ms=middle)]
    late = [e async for e in ledger.entries(since_ms=middle)]

    assert len({e.id for e in everything}) == 1203
    assert early + late == everything
    assert all(e.at_ms < middle for e in early)


async def test_the_audit_notices_every_kind_of_tampering(
    engine: Engine, ledger: RedisLedger
) -> None:
    job_id = await started(ledger, order(n=2))
    await ledger.settle(await started(ledger, order()), delivered(1))
    today = correction(0).day

    with engine.client() as admin:
        [window] = admin.keys(f"koi:*window:{today}")
        admin.hset(window, "user:ann", "1 140000 5 280000")
        admin.hincrby(admin.keys("koi:*:open")[0], "D", 1)
        found = {
            (d.scope, d.window, d.field, d.counter, d.ledger)
            for d in (await ledger.audit()).differences
        }
        assert found == {
            ("user:ann", today, "held_images", 5, 2),
            ("house", "open", "D", 2, 1),
        }
        admin.delete(window)

    assert (await ledger.audit()).difference > 1_000
    assert (await ledger.job(job_id)) is not None


async def test_the_audit_is_right_while_the_books_are_being_written(
    ledger: RedisLedger,
) -> None:
    over = time.monotonic() + 0.5

    async def trade() -> int:
        done = 0
        while time.monotonic() < over:
            await ledger.settle(await started(ledger, order(n=2)), delivered(1))
            done += 1
        return done

    async def auditing() -> list[int]:
        seen = []
        while time.monotonic() < over:
            seen.append((await ledger.audit()).difference)
        return seen

    audited, *traded = await asyncio.gather(auditing(), *(trade() for _ in range(8)))

    assert set(audited) == {0}
    assert sum(traded) > len(audited)


async def test_amounts_stay_whole_up_to_two_to_the_53(ledger: RedisLedger) -> None:
    unit = 999_999_999_999_999
    job_id = await started(ledger, order(n=3, unit=unit))
    await ledger.settle(job_id, delivered(3))

    assert [entry.micros for entry in await entries_of(ledger)] == [3 * unit]
    standing = await ledger.standing(principal())
    assert row(standing, ScopeKind.USER, Meter.MONEY, Window.MONTH) == (3 * unit, 0)
    assert (await ledger.audit()).difference == 0


async def test_windows_end_when_the_calendar_says(ledger: RedisLedger) -> None:
    standing = await ledger.standing(principal())

    [day] = {a.reset_s for a in standing.allowances if a.window is Window.DAY}
    midnight = datetime.now(CALENDAR.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    left = midnight + timedelta(days=1) - datetime.now(CALENDAR.zone)
    assert abs(day - left.total_seconds()) < 3
