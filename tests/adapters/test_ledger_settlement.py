"""From dispatch to the end: the state machine and the races around it."""

import asyncio
from dataclasses import dataclass, replace
from datetime import date, datetime

import pytest
from store_rig import (
    AMBIGUOUS,
    CALENDAR,
    Engine,
    OpenStore,
    admission,
    delivered,
    ledger_on,
    pictures,
    presumed,
    principal,
    released,
    started,
    unknown,
    used_and_held,
)  # fmt: skip

from app.adapters.redis import keyspace
from app.adapters.redis.ledger import RedisLedger
from app.domain.calendar import Calendar, CalendarDay
from app.domain.errors import BillingEvidence, FailureNote, TaskNotFound
from app.domain.job import JobState, Outcome, PartResult, TaskStatus
from app.domain.ledger import Entry, EntryKind
from app.domain.limits import LimitKind, LimitWindow, ScopeKind

NEVER_SENT = Outcome(
    JobState.RELEASED, proof=BillingEvidence.NEVER_SENT, failure=FailureNote("interrupted", "…")
)


async def entries_of(ledger: RedisLedger) -> list[Entry]:
    return [entry async for entry in ledger.entries()]


async def images_today(ledger: RedisLedger, scope: ScopeKind = ScopeKind.USER) -> tuple[int, int]:
    snapshot = await ledger.read_limits(principal())
    return used_and_held(snapshot, scope, LimitKind.IMAGES, LimitWindow.DAY)


# Dispatch ----------------------------------------------------------------------------------------


async def test_a_job_is_dispatched_at_most_once(ledger: RedisLedger) -> None:
    """I8: a lost reply is never taken for leave to send twice."""
    job_id = (await ledger.admit(admission())).job.id

    said = await asyncio.gather(*(ledger.dispatch(job_id, 60_000) for _ in range(5)))

    assert sorted(said) == [False, False, False, False, True]


async def test_a_claimed_reservation_is_dispatched_no_more(ledger: RedisLedger) -> None:
    """The sweeper read RESERVED and is about to release: sending now would be paid and lost."""
    job_id = (await ledger.admit(admission(lease_ms=-1))).job.id
    [claim] = await ledger.claim(10, 60_000)

    assert not await ledger.dispatch(job_id, 60_000)
    assert (await ledger.settle(claim.job.id, NEVER_SENT)).first


async def test_a_slow_gateway_may_still_dispatch_what_nobody_claimed(
    ledger: RedisLedger,
) -> None:
    job_id = (await ledger.admit(admission(lease_ms=-1))).job.id

    assert await ledger.dispatch(job_id, 60_000)
    assert await ledger.claim(10, 60_000) == []


async def test_settling_against_the_sweep_ends_once(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission(n=2))

    first, second = await asyncio.gather(
        ledger.settle(job_id, delivered(2)), ledger.settle(job_id, presumed(2))
    )

    assert (first.first, second.first) == (True, False)
    assert second.job == first.job
    assert await images_today(ledger) == (2, 0)


async def test_cancelling_frees_what_was_never_sent(ledger: RedisLedger) -> None:
    job_id = (await ledger.admit(admission(n=2))).job.id

    done, again = await ledger.cancel(job_id), await ledger.cancel(job_id)

    assert done is not None
    assert again is not None
    assert (done.first, again.first) == (True, False)
    assert done.job.failure is not None
    assert done.job.failure.code == "task_cancelled"
    assert await images_today(ledger) == (0, 0)
    assert await entries_of(ledger) == []  # nothing was used: nothing to keep for ever
    assert (await ledger.audit()).difference == 0


async def test_a_dispatched_job_cannot_be_cancelled(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission())

    assert await ledger.cancel(job_id) is None
    await ledger.settle(job_id, released())
    assert await ledger.cancel(job_id) is None


# Ends --------------------------------------------------------------------------------------------


async def test_settling_twice_charges_once(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission(n=2))
    outcome = delivered(2)

    ends = await asyncio.gather(*(ledger.settle(job_id, outcome) for _ in range(8)))

    assert sum(end.first for end in ends) == 1
    assert {end.job for end in ends} == {ends[0].job}
    assert len(await entries_of(ledger)) == 1
    assert await images_today(ledger) == (2, 0)


async def test_a_settled_job_tells_everything_in_one_entry(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission(n=3))

    settled = await ledger.settle(job_id, replace(delivered(2), calls=("task_1", "req_1")))

    [entry] = await entries_of(ledger)
    assert replace(entry, id="", at_ms=0, day="", month="") == Entry(
        id="", kind=EntryKind.SETTLE, at_ms=0, job=job_id, key="key_1", user="ann", team="art",
        model="grok-imagine", size="1024x1024", quality="standard", images=2, micros=280_000,
        delivered=2, presumed=0, surplus=0, day="", month="", calls=("task_1", "req_1"),
        dispatched_ms=settled.job.dispatched_ms, asked=3,
    )  # fmt: skip
    assert settled.job.calls == ("task_1", "req_1")
    assert settled.job.status is TaskStatus.COMPLETED
    assert settled.job.progress == 100
    assert 0 <= entry.at_ms - (settled.job.ended_ms or 0) < 5000
    assert await ledger.job(job_id) == settled.job


async def test_partial_success_charges_what_was_made_and_frees_the_rest(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, admission(n=4))

    await ledger.settle(job_id, delivered(3))

    assert await images_today(ledger) == (3, 0)


async def test_surplus_is_the_houses_and_the_audit_agrees(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission(n=2))

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
    job_id = await started(ledger, admission())

    with pytest.raises(ValueError, match="lawful"):
        await ledger.settle(job_id, outcome)

    assert (await ledger.open_job_stats()).held_images == 1


async def test_nobody_is_charged_more_than_was_reserved(ledger: RedisLedger) -> None:
    """I7."""
    job_id = await started(ledger, admission(n=1))

    with pytest.raises(ValueError, match="more images"):
        await ledger.settle(job_id, delivered(2))


@pytest.mark.parametrize("proof", [None, BillingEvidence.UNKNOWN])
async def test_a_dispatched_job_is_not_released_without_proof(
    ledger: RedisLedger, proof: BillingEvidence | None
) -> None:
    """I6."""
    job_id = await started(ledger, admission())

    with pytest.raises(ValueError, match="proof"):
        await ledger.settle(job_id, replace(released(), proof=proof))

    assert (await ledger.open_job_stats()).jobs[JobState.DISPATCHED] == 1


async def test_settling_a_job_nobody_knows(ledger: RedisLedger) -> None:
    with pytest.raises(TaskNotFound):
        await ledger.settle("task_none", delivered(1))


async def test_an_unknown_job_stays_held_and_comes_due(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission(n=2))

    ended = await ledger.settle(job_id, unknown(), hold_ms=-1)

    assert ended.job.ended
    assert ended.job.failure == AMBIGUOUS
    assert await images_today(ledger) == (0, 2)
    assert await entries_of(ledger) == []
    assert [claim.job.id for claim in await ledger.claim(1, 1000)] == [job_id]


async def test_an_unknown_job_is_presumed_billed(ledger: RedisLedger) -> None:
    job_id = await started(ledger, admission(n=2))
    await ledger.settle(job_id, unknown())

    end = await ledger.settle(job_id, presumed(2))

    assert end.first
    assert end.job.status is TaskStatus.FAILED
    assert [(e.images, e.presumed) for e in await entries_of(ledger)] == [(2, 2)]


async def test_late_pictures_turn_an_unknown_failure_into_their_answer(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, admission())
    await ledger.settle(job_id, unknown())
    late = delivered(1)

    end = await ledger.settle(job_id, late)

    assert (end.job.status, end.job.failure) == (TaskStatus.COMPLETED, None)
    assert end.job.pictures == late.pictures
    assert await ledger.find_owner(late.pictures[0].name) == ("ann", "user:ann")


async def test_a_release_is_final_even_when_success_comes_later(
    ledger: RedisLedger,
) -> None:
    job_id = await started(ledger, admission())
    await ledger.settle(job_id, released(BillingEvidence.FAILED))

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

    def days_around(self, now: datetime) -> tuple[CalendarDay, ...]:
        label = self.day(self.today)
        return tuple(
            replace(day, label=label.label, month=label.month) for day in super().days_around(now)
        )


async def test_what_was_reserved_before_midnight_settles_in_yesterday(
    open_store: OpenStore, engine: Engine
) -> None:
    """I10, over the end of a month."""
    calendar = _Midnight(date(2026, 11, 30))
    ledger = ledger_on(open_store(engine.url), calendar=calendar)
    job_id = await started(ledger, admission(n=2))

    calendar.today = date(2026, 12, 1)
    assert await images_today(ledger) == (0, 0)
    await ledger.settle(job_id, delivered(2))

    assert await images_today(ledger) == (0, 0)
    assert [(e.day, e.month) for e in await entries_of(ledger)] == [("2026-11-30", "2026-11")]
    assert (await ledger.audit()).difference == 0
    calendar.today = date(2026, 11, 30)
    assert await images_today(ledger) == (2, 0)


# What is left of an ended job ---------------------------------------------------------------------


async def test_an_ended_job_keeps_what_can_be_asked_for_and_little_more(
    engine: Engine, ledger: RedisLedger
) -> None:
    job_id = await started(ledger, admission(request_id="req_1"))
    done = PartResult(images=1, pictures=pictures(1))
    await ledger.record_part(job_id, 0, upstream_id="up_1", request_id="req_2", due_ms=60_000)
    await ledger.record_part(job_id, 0, result=done, due_ms=60_000)
    outcome = replace(delivered(1), calls=("up_1", "req_2"))
    settled = await ledger.settle(job_id, outcome)

    job = await ledger.job(job_id)

    assert job is not None
    assert job == settled.job
    assert (job.pictures, job.calls, job.request_id) == (
        outcome.pictures,
        outcome.calls,
        "req_1",
    )
    assert [(part.upstream_id, part.request_id) for part in job.parts] == [("up_1", "req_2")]
    with engine.client() as client:
        record = client.hgetall(keyspace.key("job", job_id))
    assert not [name for name in record if name.startswith(("result:", "told:", "claims"))]
    assert sum(len(name) + len(text) for name, text in record.items()) < 700
    assert (await ledger.settle(job_id, delivered(1))).first is False
