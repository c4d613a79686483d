"""Reports read rollups, and rollups say what the entries say, whenever they are made."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations

import orjson
import pytest
from store_rig import CALENDAR, Engine, admission, delivered, ledger_on, scripts_on, started

from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.codec import flatten, write_entry
from app.adapters.redis.rollup_writer import RollupWriter
from app.adapters.redis.rollups import RedisRollups
from app.domain.attribution import OTHER, Attribution
from app.domain.ledger import Entry, EntryKind
from app.domain.queries import USAGE_DIMENSIONS, UsageBucket, UsageQuery
from app.domain.rollups import (
    ATTRIBUTIONS,
    DAY_MS,
    HOUR_MS,
    Group,
    RollupCoverage,
    RollupLevel,
    RollupSpan,
    RollupView,
    UsageSums,
)
from app.service.usage import UsageReports

START_MS = 1_790_000_000_000
"""In the middle of an hour of September 2026."""


def entries(count: int, span_ms: int, seed: int = 7) -> Iterator[Entry]:
    """Entries of every kind, from START_MS on."""
    draw = random.Random(seed)
    for number in range(count):
        at_ms = START_MS + number * span_ms // count
        day = CALENDAR.days_around(_moment(at_ms))[1]
        user = draw.choice(["ann", "bob", "cyd"])
        kind = draw.choice([EntryKind.SETTLE] * 5 + list(EntryKind))
        charged = kind in (EntryKind.SETTLE, EntryKind.ADJUST)
        priced = draw.random() > 0.1
        surplus = draw.choice([0, 0, 0, 2])
        said = Attribution(
            draw.choice([None, "proj_a"]), draw.choice([None, "ads", "print"]),
            draw.choice([None, None, "u1", "u2"]),
        )  # fmt: skip
        yield Entry(
            id=f"{at_ms}-{number}",
            kind=kind,
            at_ms=at_ms,
            job=f"task_{number}",
            key=draw.choice([f"key_{user}", ""]) if kind is EntryKind.ADJUST else f"key_{user}",
            user=user,
            team=None if user == "cyd" else "art",
            model=draw.choice(["grok-imagine", "flux"]),
            size=draw.choice(["1024x1024", "512x512"]),
            quality="standard",
            images=draw.choice([1, 2]) if charged else 0,
            micros=(70_000 if charged else 0) if priced else None,
            delivered=int(charged) - int(kind is EntryKind.DELIVERY),
            presumed=draw.choice([0, 0, 1]) if charged else 0,
            surplus=surplus if charged else 0,
            surplus_micros=surplus * 70_000 if charged and priced else 0,
            day=day.label,
            month=day.month,
            attribution=said if said.given else None,
        )


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def write(engine: Engine, written: Iterator[Entry]) -> None:
    with engine.client() as client, client.pipeline() as pipeline:
        for entry in written:
            row = flatten(write_entry(entry))
            fields = dict(zip(row[::2], row[1::2], strict=True))
            pipeline.xadd(keyspace.key("stream"), fields, id=entry.id)  # type: ignore[arg-type]
        pipeline.execute()


class NoRollups:
    async def coverage(self) -> RollupCoverage:
        return RollupCoverage(0)

    async def rows(
        self, spans: Sequence[RollupSpan], view: RollupView
    ) -> AsyncIterator[tuple[RollupSpan, Group, UsageSums]]:
        assert not spans, view
        for nothing in ():
            yield nothing


class Desk:
    """A ledger, its reports, and the same reports made from entries alone."""

    def __init__(self, store: BatchingStore) -> None:
        self.scripts = scripts_on(store)
        self.ledger = ledger_on(store, scripts=self.scripts)
        self.writer = RollupWriter(self.scripts)
        self.rollups = RedisRollups(self.scripts)
        self.reports = UsageReports(self.ledger, self.rollups)
        self.scans = UsageReports(self.ledger, NoRollups())

    async def roll_up(self, most: int = 100_000) -> int:
        made = 0
        while made < most and await self.writer.step():
            made += 1
        return made


def told(buckets: tuple[UsageBucket, ...]) -> list[object]:
    return [(b.starts_ms, b.ends_ms, sorted(b.rows, key=lambda row: str(row))) for b in buckets]


@pytest.fixture
async def desk(store: BatchingStore) -> Desk:
    desk = Desk(store)
    await desk.scripts.open()
    return desk


QUERIES = [
    *(
        UsageQuery(START_MS - 5, START_MS + 95 * DAY_MS, by)
        for by in (
            (), *((one,) for one in USAGE_DIMENSIONS), *combinations(USAGE_DIMENSIONS[:6], 2),
            ("tag", "user"), ("end_user", "day"), ("project", "tag"), USAGE_DIMENSIONS,
        )
    ),
    UsageQuery(0, START_MS + 200 * DAY_MS, ("team",), users=frozenset({"ann"})),
    UsageQuery(START_MS + 3 * DAY_MS + 77, START_MS + 70 * DAY_MS + 1234, ("key", "model")),
    UsageQuery(START_MS - START_MS % DAY_MS, START_MS + 40 * DAY_MS, ("size",), DAY_MS),
    UsageQuery(START_MS - START_MS % HOUR_MS, START_MS + 30 * HOUR_MS, (), HOUR_MS),
    UsageQuery(START_MS, START_MS + 2 * HOUR_MS, ("user",), 60_000),
    UsageQuery(0, START_MS + 95 * DAY_MS, ("tag",), tags=frozenset({"ads"})),
    UsageQuery(0, START_MS + 95 * DAY_MS, ("user",), projects=frozenset({"proj_a"}),
               end_users=frozenset({"u1"})),
    UsageQuery(0, START_MS + 95 * DAY_MS, ("model",), keys=frozenset({"key_bob"}),
               models=frozenset({"flux"})),
]  # fmt: skip


async def test_a_report_from_rollups_says_what_the_entries_say(engine: Engine, desk: Desk) -> None:
    write(engine, entries(600, 95 * DAY_MS))
    before = [told(await desk.scans.report(query)) for query in QUERIES]

    for part in (3, 50, 100_000):
        await desk.roll_up(part)
        assert [told(await desk.reports.report(query)) for query in QUERIES] == before

    coverage = await desk.rollups.coverage()
    assert coverage.months_ms > START_MS
    assert coverage.days_ms > coverage.months_ms
    assert coverage.hours_ms >= coverage.days_ms


async def test_rollups_of_an_earlier_version_lose_no_attribution(
    engine: Engine, desk: Desk
) -> None:
    write(engine, entries(900, 95 * DAY_MS))
    queries = [query for query in QUERIES if query.dimensions & set(ATTRIBUTIONS)]
    before = [told(await desk.scans.report(query)) for query in queries]
    await desk.roll_up(60)
    with engine.client() as client:
        made = client.keys("*rollup:*:attributed")
        # What gateways of the version before leave: they roll up beside this one for a while.
        client.delete(*made[::2])
    await desk.roll_up()
    with engine.client() as client:
        client.delete(*client.keys("*rollup:month:*:attributed")[:2])

    assert [told(await desk.reports.report(query)) for query in queries] == before
    audit = await desk.ledger.audit(full=True)
    assert not [found for found in audit.differences if " " in found.scope]


async def test_what_an_earlier_version_left_is_read_as_it_is(engine: Engine, desk: Desk) -> None:
    write(engine, (replace(entry, attribution=None) for entry in entries(400, 40 * DAY_MS)))
    await desk.roll_up()
    with engine.client() as client:
        client.hdel(keyspace.key("rollups"), "attributed")
        client.delete(*client.keys("*rollup:*:attributed"))
    query = UsageQuery(0, START_MS + 50 * DAY_MS, ("tag", "user"))
    before = told(await desk.scans.report(query))
    with engine.client() as client:
        client.config_resetstat()
        assert told(await desk.reports.report(query)) == before
        read = client.info("commandstats")

    assert read["cmdstat_xrange"]["calls"] < 40, "only the newest day's entries are read again"


async def test_an_hour_without_attributions_takes_a_word_more(engine: Engine, desk: Desk) -> None:
    write(engine, (replace(entry, attribution=None) for entry in entries(20, 2 * HOUR_MS)))
    await desk.roll_up()

    with engine.client() as client:
        kept = {client.get(key) for key in client.keys("*rollup:*:attributed")}
    assert kept == {"="}


async def test_however_many_words_callers_send_groups_stay_bounded(
    engine: Engine, store: BatchingStore, desk: Desk
) -> None:
    ledger = ledger_on(store, scripts=desk.scripts, attributed=5)
    for number in range(200):
        said = Attribution("p" * 128, f"tag {number}", f"user {number % 7}")
        await ledger.settle(await started(ledger, admission(attribution=said)), delivered(1))

    [bucket] = await desk.reports.report(UsageQuery(0, 2**42, ("tag", "end_user", "project")))
    rows = {(row.tag, row.end_user): row.images for row in bucket.rows}
    with engine.client() as client:
        [key] = client.keys("*attributed:*")
        kept, ttl_s = client.hlen(key), client.ttl(key)

    assert sum(rows.values()) == 200
    assert {tag for tag, _ in rows} == {OTHER, *(f"tag {number}" for number in range(5))}
    assert {user for _, user in rows} == {OTHER, *(f"user {number}" for number in range(5))}
    assert kept == 1 + 5 + 5 + 3, "the values, and how many there are of each"
    assert 0 < ttl_s < 33 * 86_400


async def test_an_hour_is_rolled_up_once_a_later_entry_exists(engine: Engine, desk: Desk) -> None:
    write(engine, entries(5, HOUR_MS // 4))
    await desk.roll_up()
    assert (await desk.rollups.coverage()).hours_ms < START_MS

    written = await desk.ledger.settle(await started(desk.ledger, admission()), delivered(1))
    assert written.first
    assert await desk.roll_up()
    assert (await desk.rollups.coverage()).hours_ms > START_MS


async def test_two_processes_roll_up_each_hour_once(
    engine: Engine, store: BatchingStore, desk: Desk
) -> None:
    write(engine, entries(300, 20 * DAY_MS))
    other = Desk(store)
    query = UsageQuery(0, START_MS + 30 * DAY_MS, ("user", "day"))
    before = told(await desk.scans.report(query))

    for _ in range(60):
        await asyncio.gather(desk.writer.step(), other.writer.step())

    assert told(await other.reports.report(query)) == before
    assert (await desk.rollups.coverage()).days_ms > START_MS + 17 * DAY_MS


async def test_many_groups_are_written_and_read_whole(engine: Engine, desk: Desk) -> None:
    many = (
        Entry(
            f"{START_MS}-{n}", EntryKind.SETTLE, START_MS, f"task_{n}", f"key_{n}", f"user-{n}",
            None, "flux", "512x512", "standard", 1, 10, 1, 0, 0, "2026-09-21", "2026-09",
        )
        for n in range(1700)
    )  # fmt: skip
    write(engine, many)
    await desk.ledger.settle(await started(desk.ledger, admission()), delivered(1))

    assert await desk.roll_up()

    [bucket] = await desk.reports.report(UsageQuery(0, START_MS + DAY_MS, ("user",)))
    assert len(bucket.rows) == 1700
    assert sum(row.images for row in bucket.rows) == 1700


async def test_what_expired_is_read_from_entries(engine: Engine, desk: Desk) -> None:
    write(engine, entries(400, 95 * DAY_MS))
    await desk.roll_up()
    query = UsageQuery(START_MS + 5, START_MS + 90 * DAY_MS, ("user",))
    before = told(await desk.scans.report(query))

    coverage = await desk.rollups.coverage()
    late = RollupCoverage(
        START_MS + 600 * DAY_MS, coverage.from_ms, coverage.hours_ms, coverage.days_ms,
        coverage.months_ms,
    )  # fmt: skip

    assert late.largest(coverage.from_ms, START_MS, (RollupLevel.HOUR,)) is None
    assert told(await desk.reports.report(query)) == before


async def test_an_audit_begins_with_rollups_and_still_notices_tampering(
    engine: Engine, store: BatchingStore, desk: Desk
) -> None:
    for _ in range(3):
        await desk.ledger.settle(await started(desk.ledger, admission(n=2)), delivered(2))
    with engine.client() as client:
        newest = client.xinfo_stream(keyspace.key("stream"))["last-generated-id"]
        later = int(newest.split("-")[0]) + 40 * DAY_MS
        client.execute_command("XSETID", keyspace.key("stream"), f"{later}-0")
    await desk.ledger.settle(await started(desk.ledger, admission()), delivered(1))
    assert await desk.roll_up() > 20

    audit = await ledger_on(store).audit(full=True)
    assert (audit.entries, audit.difference) == (4, 0)

    with engine.client() as client:
        [window] = [key for key in client.keys("*window:*") if len(key.rpartition(":")[2]) == 7]
        client.hset(window, "user:ann", "9 9 0 0")
    differences = (await ledger_on(store).audit()).differences
    assert {(d.scope, d.field, d.ledger) for d in differences} == {
        ("user:ann", "images", 7),
        ("user:ann", "micros", 7 * 140_000),
    }


async def test_a_full_audit_finds_a_rollup_that_differs_from_its_entries(
    engine: Engine, desk: Desk
) -> None:
    write(engine, entries(300, 95 * DAY_MS))
    await desk.roll_up()
    assert not [d for d in (await desk.ledger.audit(full=True)).differences if " " in d.scope]
    with engine.client() as client:
        months = [key for key in client.keys("*rollup:month:*:callers") if client.ttl(key) > 0]
        client.copy(months[1], months[0], replace=True)
        days = client.keys("*rollup:day:*:all")
        client.delete(days[-1])

    found = [d for d in (await desk.ledger.audit(full=True)).differences if " " in d.scope]

    assert {d.window.split()[0] for d in found} == {"month", "day"}


async def test_a_rebuilt_ledger_is_rolled_up_anew(engine: Engine, desk: Desk) -> None:
    write(engine, entries(300, 20 * DAY_MS))
    await desk.roll_up()
    await desk.scripts.run("quarantine")
    batch = [{"id": e.id, "fields": flatten(write_entry(e))} for e in entries(100, 5 * DAY_MS, 8)]
    await desk.scripts.run("restore", orjson.dumps({"clear": True, "entries": batch}))
    ask = {"epoch": "a" * 32, "seq": 9, "earlier": {}, "open": ["images", "0"]}
    await desk.scripts.run("finish_rebuild", orjson.dumps(ask))
    query = UsageQuery(0, START_MS + 30 * DAY_MS, ("user", "model"))
    before = told(await desk.scans.report(query))

    assert told(await desk.reports.report(query)) == before
    await desk.roll_up()

    assert told(await desk.reports.report(query)) == before
    assert not [d for d in (await desk.ledger.audit(full=True)).differences if " " in d.scope]
