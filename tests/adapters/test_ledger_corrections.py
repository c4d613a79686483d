"""The ledger's entries, corrections to them, and the audit of everything derived."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from store_rig import (
    CALENDAR,
    Engine,
    admission,
    delivered,
    ledger_on,
    principal,
    started,
    unknown,
    used_and_held,
)  # fmt: skip

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.connection import connect
from app.adapters.redis.client.pipeline import Argument
from app.adapters.redis.client.scripts import Script
from app.adapters.redis.ledger import RedisLedger
from app.domain.errors import InvalidRequest, LedgerUnavailable
from app.domain.ledger import Entry, EntryKind
from app.domain.limits import LimitKind, LimitWindow, ScopeKind


async def entries_of(ledger: RedisLedger) -> list[Entry]:
    return [entry async for entry in ledger.entries()]


async def images_today(ledger: RedisLedger, scope: ScopeKind = ScopeKind.USER) -> tuple[int, int]:
    snapshot = await ledger.read_limits(principal())
    return used_and_held(snapshot, scope, LimitKind.IMAGES, LimitWindow.DAY)


def correction(images: int, **changes: object) -> Entry:
    today = CALENDAR.days_around(datetime.now(UTC))[1]
    entry = Entry(
        id="", kind=EntryKind.ADJUST, at_ms=0, job="", key="key_1", user="ann", team="art",
        model="grok-imagine", size="", quality="", images=images, micros=images * 140_000,
        delivered=0, presumed=0, surplus=0, day=today.label, month=today.month, note="refund",
    )  # fmt: skip
    return replace(entry, **changes)  # type: ignore[arg-type]


async def test_a_correction_is_a_new_entry_and_moves_the_counters(ledger: RedisLedger) -> None:
    await ledger.settle(await started(ledger, admission(n=3)), delivered(3))

    named = correction(-2, calls=("task_1", "req_1"), dispatched_ms=1, asked=3)
    entered = await ledger.adjust(named)

    assert (
        (await entries_of(ledger))[-1]
        == entered
        == replace(named, id=entered.id, at_ms=entered.at_ms)
    )
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
    job_id = await started(ledger, admission(n=2))
    await ledger.settle(await started(ledger, admission()), delivered(1))
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


async def test_the_audit_is_right_while_the_ledger_is_being_written(
    ledger: RedisLedger,
) -> None:
    over = asyncio.Event()

    async def trade() -> int:
        done = 0
        while not over.is_set():
            await ledger.settle(await started(ledger, admission(n=2)), delivered(1))
            done += 1
        return done

    async def auditing() -> list[int]:
        seen = [(await ledger.audit()).difference for _ in range(20)]
        over.set()
        return seen

    audited, *traded = await asyncio.gather(auditing(), *(trade() for _ in range(8)))

    assert set(audited) == {0}
    assert sum(traded) > len(audited)


async def test_the_audit_of_many_open_jobs_sees_one_moment(ledger: RedisLedger) -> None:
    """It is read in pages, while jobs of any page are dispatched, doubted and settled."""
    people = [principal(names=(f"key{n}", f"user{n}", "art")) for n in range(200)]
    opened = [await ledger.admit(admission(who, n=2)) for who in people for _ in range(3)]
    ids = iter([one.job.id for one in opened])
    over = asyncio.Event()

    async def trade() -> None:
        for job_id in ids:
            if over.is_set():
                return
            await ledger.dispatch(job_id, 60_000)
            await ledger.settle(job_id, unknown(), hold_ms=60_000)
            await ledger.settle(job_id, delivered(2))

    trading = [asyncio.create_task(trade()) for _ in range(4)]
    audits = [await ledger.audit() for _ in range(5)]
    over.set()
    await asyncio.gather(*trading)

    assert {audit.difference for audit in audits} == {0}
    assert audits[-1].open_jobs < audits[0].open_jobs
    assert (await ledger.audit()).difference == 0


class Stumbling(BatchingStore):
    """A store that falls silent once, on the second page of the ledger."""

    pages = 0

    async def run(self, script: Script, keys: Sequence[str], *args: Argument, **how: Any) -> Any:
        self.pages += script.name == "entries"
        if script.name == "entries" and self.pages == 2:
            raise LedgerUnavailable
        return await super().run(script, keys, *args, **how)


async def test_an_audit_that_was_interrupted_counts_nothing_twice(engine: Engine) -> None:
    store = Stumbling(connect(engine.url, timeout_s=5), timeout_s=5)
    ledger = ledger_on(store)
    await asyncio.gather(*(ledger.adjust(correction(1)) for _ in range(700)))
    with pytest.raises(LedgerUnavailable):
        await ledger.audit()

    again = await ledger.audit()

    assert (again.entries, again.difference) == (700, 0)
    await store.aclose()


async def test_amounts_stay_whole_up_to_two_to_the_53(ledger: RedisLedger) -> None:
    unit = 999_999_999_999_999
    job_id = await started(ledger, admission(n=3, unit=unit))
    await ledger.settle(job_id, delivered(3))

    assert [entry.micros for entry in await entries_of(ledger)] == [3 * unit]
    snapshot = await ledger.read_limits(principal())
    assert used_and_held(snapshot, ScopeKind.USER, LimitKind.MONEY, LimitWindow.MONTH) == (
        3 * unit,
        0,
    )
    assert (await ledger.audit()).difference == 0


async def test_windows_end_when_the_calendar_says(ledger: RedisLedger) -> None:
    asked = datetime.now(CALENDAR.zone)
    snapshot = await ledger.read_limits(principal())
    heard = datetime.now(CALENDAR.zone)

    [day] = {a.reset_s for a in snapshot.statuses if a.window is LimitWindow.DAY}
    ends = asked.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    assert (ends - heard).total_seconds() <= day <= (ends - asked).total_seconds() + 1
