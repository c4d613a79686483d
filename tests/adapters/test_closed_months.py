"""Closed months leave the store for files, and everybody reads both (decision 58)."""

import os
import re
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import test_rollups
from store_rig import (
    CALENDAR,
    NOTE,
    Engine,
    OpenStore,
    admission,
    delivered,
    new_journal,
    running,
    scripts_on,
    started,
)
from test_backup import back_up, other, other_engine, other_server, put_back
from test_ledger_rebuild import Host, empty
from test_ledger_rebuild import told as told_of

from app.adapters.journal.file import FileJournal
from app.adapters.journal.months import FileMonths
from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.closed_months import read_months, save_month
from app.adapters.redis.entry_reader import read_stream
from app.adapters.redis.registry import JournalRegistry
from app.adapters.redis.rollup_writer import RollupWriter
from app.adapters.redis.rollups import RedisRollups
from app.domain.check_result import CheckStatus
from app.domain.closed_months import MonthsMoved, MonthUnreadable
from app.domain.journal import Position
from app.domain.ledger import Entry, EntryKind
from app.domain.queries import UsageQuery
from app.domain.rebuild import RebuildRefused
from app.domain.rollups import RollupLevel, RollupSpan
from app.recovery.move import read_totals
from app.service.job_story import read_story
from app.service.usage import UsageReports
from app.settings import build_settings
from app.wiring.check_months import check_months
from app.wiring.closed_months import MonthMover, MonthTerms
from app.wiring.journal_replication import build_local_record
from tests.store_node import programs

__all__ = ("other", "other_engine", "other_server")

TERMS = MonthTerms(months=1, records=timedelta(0), own_store=True)
COUNT = 900
_prepared: dict[tuple[str, int], dict[bytes, bytes]] = {}
"""Copies by engine and month: at its end all become a month older."""


@pytest.fixture(scope="module")
def server() -> Iterator[Engine]:
    """One engine is enough: no script differs from one to another here."""
    with running(next(iter(programs().values()))) as engine:
        yield engine


def months_ago(number: int) -> RollupSpan:
    span = RollupSpan.around(RollupLevel.MONTH, int(time.time() * 1000))
    for _ in range(number):
        span = RollupSpan.around(RollupLevel.MONTH, span.starts_ms - 1)
    return span


def old_entries() -> Iterator[Entry]:
    """Of three months that are over. Of these the first two may leave."""
    first_ms, last_ms = months_ago(3).starts_ms, months_ago(1).ends_ms - 2 * 86_400_000
    span_ms = last_ms - first_ms
    for entry in test_rollups.entries(COUNT, span_ms):
        at_ms = entry.at_ms - test_rollups.START_MS + first_ms
        day = CALENDAR.days_around(datetime.fromtimestamp(at_ms / 1000, UTC))[1]
        count = entry.id.partition("-")[2]
        yield replace(entry, id=f"{at_ms}-{count}", at_ms=at_ms, day=day.label, month=day.month)


def mover(host: Host, **terms: Any) -> MonthMover:
    return MonthMover(host.ledger._scripts, host.journal, replace(TERMS, **terms))


async def prepare(host: Host, engine: Engine) -> None:
    """Old entries and their counters, then some of today's, all rolled up."""
    name = engine.program.name, months_ago(0).starts_ms
    if found := _prepared.get(name):
        engine.put_back(found)
        await host.ledger._scripts.open()
        await register(host)
        return
    await host.ledger._scripts.open()
    test_rollups.write(engine, old_entries())
    with engine.client() as client:
        client.set(keyspace.key("suspect"), "a test")
    await host.rebuild()
    await host.ledger.settle(await started(host.ledger, admission(n=2)), delivered(2))
    await started(host.ledger, admission())
    writer = RollupWriter(host.ledger._scripts)
    while await writer.step():
        pass
    _prepared[name] = engine.copy()
    await register(host)


async def register(host: Host) -> None:
    """As a gateway does whose journal is in use."""
    host.journal.ensure_id()
    assert host.journal.id is not None
    record = build_local_record(host.journal.id, host.journal.directory)
    await JournalRegistry(host.ledger._scripts).register(record)


async def move_all(mover: MonthMover) -> int:
    steps = 0
    while await mover.step():
        steps += 1
    return steps


async def told(host: Host) -> list[Any]:
    """What reports, lists, audits and a move say."""
    scripts = host.ledger._scripts
    reports, until_ms = UsageReports(host.ledger, RedisRollups(scripts)), months_ago(0).ends_ms
    first_ms = months_ago(3).starts_ms + 5_000_000  # no full hour
    usage = [
        test_rollups.told(await reports.report(UsageQuery(first_ms, until_ms, by)))
        for by in ((), ("user", "day"), ("model", "size"))
    ]
    newest = [entry.id async for entry in host.ledger.entries(newest_first=True)]
    some = [e async for e in host.ledger.entries(first_ms, months_ago(2).ends_ms - 7)]
    audit = await host.ledger.audit()
    assert audit.difference == 0
    whole = await told_of(host)
    assert newest == [entry.id for entry in whole["entries"]][::-1]
    return [usage, some, audit.entries, await read_totals(scripts), whole]


def in_stream(engine: Engine) -> list[str]:
    with engine.client() as client:
        found: Any = client.xrange(keyspace.key("stream"))
    return [id for id, _ in found]


async def test_everybody_reads_what_left_the_store(store: BatchingStore, engine: Engine) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    before, held = await told(host), in_stream(engine)

    await move_all(mover(host))

    left = in_stream(engine)
    assert 0 < len(left) < len(held)
    assert left == held[-len(left) :]
    assert int(left[0].partition("-")[0]) >= months_ago(1).starts_ms
    files = list(host.journal.directory.glob("*.month-*.jsonl.gz"))
    assert len(files) == 2
    assert await told(host) == before
    other_process = Host.on(store, FileJournal(host.journal.directory))
    assert await told(other_process) == before
    assert await move_all(mover(host)) == 0
    full = await host.ledger.audit(full=True)
    assert (full.difference, full.unread) == (0, ())


async def test_a_job_of_a_closed_month_is_found_and_corrected(
    store: BatchingStore, engine: Engine
) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    old = next(e for e in old_entries() if e.kind is EntryKind.SETTLE and e.images)
    await move_all(mover(host))

    story = await read_story(host.ledger, old.job, most=None)
    assert story.end == old
    back = replace(old, id="", kind=EntryKind.ADJUST, images=-old.images, micros=0, delivered=0)
    back = replace(back, presumed=0, surplus=0, surplus_micros=0, note="late")
    await host.ledger.adjust(back, NOTE)

    assert (await read_story(host.ledger, old.job, most=None)).images == 0
    assert (await host.ledger.audit()).difference == 0


async def stop_before(stage: str, host: Host) -> None:
    """Do what comes before a stage, as a process that dies there."""
    scripts = host.ledger._scripts
    one = mover(host)
    state, rolled_up = await read_months(scripts), await RedisRollups(scripts).state()
    span = one._due(state, rolled_up)
    assert span is not None
    if stage == "file is whole":
        left = host.journal.directory / "month.jsonl.gz.tmp"
        left.write_bytes(b"a part of it")
    if stage == "store is told":
        assert await one._write(span, rolled_up)
    if stage in ("first page is trimmed", "last page is trimmed"):
        assert await one.step()
    if stage == "last page is trimmed":
        assert await one.step()


@pytest.mark.parametrize(
    "stage",
    ["file is whole", "store is told", "first page is trimmed", "last page is trimmed"],
)
async def test_whoever_dies_before_a_step_loses_and_doubles_nothing(
    store: BatchingStore, engine: Engine, stage: str
) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    before = await told(host)

    await stop_before(stage, host)
    assert await told(host) == before
    rebooted = Host.on(store, FileJournal(host.journal.directory))
    await move_all(mover(rebooted))

    assert await told(rebooted) == before
    files = sorted(file.name for file in host.journal.directory.glob("*month*"))
    assert len(files) == 2, files
    assert len(in_stream(engine)) < COUNT


async def test_a_reader_is_told_when_a_month_leaves_while_it_reads(
    store: BatchingStore, engine: Engine
) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    found = host.ledger.entries()
    await anext(found)

    await move_all(mover(host))

    with pytest.raises(MonthsMoved):
        async for _ in found:
            pass


async def test_a_month_waits_until_every_journal_in_use_has_its_file(
    store: BatchingStore, engine: Engine, open_store: OpenStore
) -> None:
    one, two = Host.on(store), Host.on(open_store(engine.url))
    await prepare(one, engine)
    await register(two)
    before, held = await told(one), in_stream(engine)

    assert await move_all(mover(one)) == 0
    assert in_stream(engine) == held
    await move_all(mover(two))
    await move_all(mover(one))
    await move_all(mover(two))

    assert len(in_stream(engine)) < len(held)
    assert await told(one) == await told(two) == before
    late = Host.on(open_store(engine.url))
    with pytest.raises(MonthUnreadable) as refused:
        _ = [entry async for entry in late.ledger.entries()]
    for host in (one, two):
        assert str(host.journal.directory) in refused.value.where
    audit = await late.ledger.audit(full=True)
    assert (audit.difference, len(audit.unread)) == (0, 2)


async def test_what_is_not_due_stays(store: BatchingStore, engine: Engine) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    held = in_stream(engine)

    for terms in ({"months": 0}, {"months": 13}, {"records": timedelta(days=90)}):
        assert await move_all(mover(host, **terms)) == 0
    assert await move_all(mover(host, own_store=False)) == 0  # the journal is younger
    assert in_stream(engine) == held

    was = months_ago(4).starts_ms / 1000
    os.utime(host.journal.directory / "id", (was, was))
    assert await move_all(mover(host, own_store=False)) > 0


async def test_a_damaged_file_is_named_and_never_the_only_copy(
    store: BatchingStore, engine: Engine
) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    held = in_stream(engine)
    one = mover(host)
    scripts = host.ledger._scripts
    rolled_up = await RedisRollups(scripts).state()
    span = one._due(await read_months(scripts), rolled_up)
    assert span is not None
    month = await one._write(span, rolled_up)
    assert month is not None
    path = host.journal.directory / month.file_name

    path.write_bytes(path.read_bytes()[:-40])
    assert not await one._is_whole(month)
    assert in_stream(engine) == held
    await move_all(one)
    body = path.read_bytes()
    path.write_bytes(body[:200] + b"rot" + body[203:])

    with pytest.raises(MonthUnreadable) as refused:
        _ = [entry async for entry in host.ledger.entries()]
    assert re.search("damaged|unreadable|not hold", refused.value.where)
    with pytest.raises(MonthUnreadable):
        await host.ledger.audit(full=True)
    assert (await host.ledger.audit(full=True, files=False)).difference == 0


async def test_a_rebuild_puts_closed_months_back(
    store: BatchingStore, engine: Engine, open_store: OpenStore
) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    before, held = await told_of(host), in_stream(engine)
    await move_all(mover(host))

    empty(engine)
    with pytest.raises(Exception, match="lost"):
        await host.ledger._scripts.open()
    await host.rebuild()

    # What was written into the stream behind the journal's back is lost, but for closed months.
    moved = [id for id in held if int(id.partition("-")[0]) < months_ago(1).starts_ms]
    assert in_stream(engine)[: len(moved)] == moved
    assert len(before["entries"]) == len(held)
    writer = RollupWriter(host.ledger._scripts)
    while await writer.step():
        pass
    await register(host)
    assert await move_all(mover(host)) > 0
    assert len(list(host.journal.directory.glob("*.month-*"))) == 2
    assert (await host.ledger.audit()).difference == 0


async def test_a_rebuild_refuses_without_the_file_of_a_closed_month(
    store: BatchingStore, engine: Engine, open_store: OpenStore
) -> None:
    host, away = Host.on(store), Host.on(open_store(engine.url))
    await prepare(host, engine)
    before = await told_of(host)
    await away.ledger._scripts.open()
    await move_all(mover(host))
    with engine.client() as client:
        client.set(keyspace.key("suspect"), "a test")

    with pytest.raises(RebuildRefused, match=str(host.journal.directory)):
        await away.rebuild()
    await away.rebuild(host)

    assert len(in_stream(engine)) == len(before["entries"])
    assert (await read_months(away.ledger._scripts)).months == []


async def test_a_backup_holds_closed_months(
    store: BatchingStore, engine: Engine, other: Host, other_engine: Engine, tmp_path: Path
) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    held = in_stream(engine)
    await move_all(mover(host))
    totals = await read_totals(host.ledger._scripts)

    await back_up(host, tmp_path / "b")
    await put_back(tmp_path / "b", other)

    assert in_stream(other_engine) == held
    assert await read_totals(other.ledger._scripts) == totals


async def test_a_store_that_lets_nobody_delete_keeps_every_entry(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("user default on nopass ~* &* +@all -xdel\n")
    with running(next(iter(programs().values())), "--aclfile", str(users)) as engine:
        from app.adapters.redis.client.connection import connect

        store = BatchingStore(connect(engine.url, timeout_s=20, pool_size=4))
        try:
            host = Host.on(store)
            await prepare(host, engine)
            before, held = await told(host), in_stream(engine)

            await move_all(mover(host))

            assert in_stream(engine) == held
            assert await told(host) == before
        finally:
            await store.aclose()


async def test_a_month_whose_rollup_says_something_else_stays(
    store: BatchingStore, engine: Engine
) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    name = f"month:{months_ago(3).starts_ms}:"
    with engine.client() as client:
        for view in ("all", "callers", "pictures"):
            client.set(keyspace.key("rollup", f"{name}{view}"), "")

    assert await move_all(mover(host)) == 0
    assert len(in_stream(engine)) > COUNT


async def test_two_months_of_one_name_with_other_entries_are_told_apart(
    store: BatchingStore, engine: Engine
) -> None:
    host = Host.on(store)
    await prepare(host, engine)
    scripts = host.ledger._scripts
    await mover(host).step()
    known = (await read_months(scripts)).months[0].month
    epoch = scripts.position.epoch if scripts.position else ""

    other = replace(known, digest="0" * 64)
    assert await save_month(scripts, epoch, other, "0123456789abcdef", 900_000) is None
    assert await save_month(scripts, "elsewhere", known, "0123456789abcdef", 900_000) is None
    assert new_journal().directory != host.journal.directory
    assert [id async for id, _ in read_stream(scripts_on(store))]


async def test_doctor_says_whether_the_files_are_there(
    store: BatchingStore, engine: Engine, tmp_path: Path
) -> None:
    host = Host.on(store, FileJournal(tmp_path / "journal"))
    settings = build_settings(data_dir=tmp_path, upstream_api_key="sk-x")
    await prepare(host, engine)
    scripts = host.ledger._scripts
    assert await check_months(scripts, settings) == []

    await move_all(mover(host))
    [good] = await check_months(scripts, settings)
    file = next(host.journal.directory.glob("*.month-*"))
    file.unlink()
    [bad] = await check_months(scripts, settings)

    assert (good.status, bad.status) == (CheckStatus.OK, CheckStatus.FAIL)
    assert file.name in bad.text


def test_a_file_that_was_begun_leaves_a_full_disk(tmp_path: Path) -> None:
    files, mark = FileMonths(tmp_path), Position(1, "who", "epoch")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with files.write(mark) as writer:
            assert writer is not None
            writer.add([("1-0", ["kind", "settle"])])
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert list(tmp_path.iterdir()) == []
