"""Data that vanished refills nobody's quota: spend is refused until somebody has looked (I14)."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from store_rig import (
    Engine,
    OpenStore,
    admission,
    delivered,
    ledger_on,
    new_journal,
    principal,
    scripts_on,
    started,
)  # fmt: skip

from app.adapters.journal.file import FileJournal
from app.adapters.journal.reader import JournalHistory
from app.adapters.redis.ledger import RedisLedger
from app.domain.errors import LedgerUnavailable
from app.domain.job import Job
from app.domain.journal import Position
from app.domain.other_store import JournalUnreadable
from app.domain.rebuild import RetentionTerms
from app.recovery.rebuild import rebuild_ledger

LOST = "lost its data"
TERMS = RetentionTerms(70_000, 190_000, 900_000, 86_400_000, 3_600_000)

SPENDING: dict[str, Callable[[RedisLedger, str], Awaitable[object]]] = {
    "arrive": lambda ledger, _: ledger.check_rate_limit(principal(), admission().dedup_keys),
    "admit": lambda ledger, _: ledger.admit(admission()),
    "dispatch": lambda ledger, job_id: ledger.dispatch(job_id, 1000),
    "record": lambda ledger, job_id: ledger.record_part(job_id, 0, upstream_id="up", due_ms=0),
    "settle": lambda ledger, job_id: ledger.settle(job_id, delivered(1)),
    "cancel": lambda ledger, job_id: ledger.cancel(job_id),
    "claim": lambda ledger, _: ledger.claim(1, 1000),
    "abandon": lambda ledger, job_id: ledger.abandon(job_id),
}


@pytest.mark.parametrize("verb", SPENDING)
async def test_a_flushed_store_is_noticed_by_every_verb(
    engine: Engine, ledger: RedisLedger, verb: str
) -> None:
    job_id = await started(ledger, admission())
    with engine.client() as admin:
        admin.flushall()

    with pytest.raises(LedgerUnavailable, match=LOST):
        await SPENDING[verb](ledger, job_id)


async def test_a_store_refilled_in_another_epoch_is_noticed(
    engine: Engine, open_store: OpenStore, ledger: RedisLedger
) -> None:
    await ledger.admit(admission())
    with engine.client() as admin:
        admin.flushall()
    await ledger_on(open_store(engine.url)).admit(admission())

    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger.admit(admission())


async def test_an_old_copy_of_the_same_epoch_is_noticed(
    engine: Engine, ledger: RedisLedger
) -> None:
    """A backup put back, a stale replica promoted: the epoch is right, the counters are not."""
    await ledger.admit(admission())
    backup = engine.copy()
    await started(ledger, admission())
    engine.put_back(backup)

    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger.admit(admission())


async def test_a_copy_that_does_not_know_what_was_sent_is_noticed(
    engine: Engine, ledger: RedisLedger
) -> None:
    """Its lapsed reservation would be released as never sent, and the picture never be paid for."""
    job_id = (await ledger.admit(admission(lease_ms=-1))).job.id
    backup = engine.copy()
    assert await ledger.dispatch(job_id, 60_000)
    engine.put_back(backup)

    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger.claim(1, 1000)


async def test_a_copy_that_does_not_know_the_providers_task_is_noticed(
    engine: Engine, ledger: RedisLedger
) -> None:
    """Nobody would ever ask for its picture, which is paid for."""
    job_id = await started(ledger, admission())
    backup = engine.copy()
    await ledger.record_part(job_id, 0, upstream_id="up", due_ms=0)
    engine.put_back(backup)

    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger.claim(1, 1000)


async def put_back_a_copy(engine: Engine, ours: RedisLedger, theirs: RedisLedger) -> Job:
    """The store has the copy again that was made before our job, which it has forgotten; `theirs`
    had seen nothing of it."""
    await theirs.admit(admission())
    replica = engine.copy()
    forgotten = (await ours.admit(admission())).job
    engine.put_back(replica)
    return forgotten


async def test_a_stale_copy_that_went_on_without_us_is_noticed(
    engine: Engine, open_store: OpenStore
) -> None:
    """A promoted replica lost our admission, and others spent on it: the numbers are equal again,
    the history is not."""
    ours, theirs = (ledger_on(open_store(engine.url)) for _ in range(2))
    await put_back_a_copy(engine, ours, theirs)
    await theirs.admit(admission())
    await theirs.admit(admission())

    with pytest.raises(LedgerUnavailable, match=LOST):
        await ours.admit(admission())
    with pytest.raises(LedgerUnavailable, match=LOST):
        await theirs.admit(admission())
    assert not ours.condition.intact


@pytest.mark.parametrize("went_on", [0, 2])
async def test_a_gateway_that_starts_on_a_stale_copy_stops_everybody(
    engine: Engine, open_store: OpenStore, went_on: int
) -> None:
    """It has its own journal of what the copy forgot; the others have seen nothing of that."""
    journal = new_journal()
    ours, theirs = (ledger_on(open_store(engine.url), one) for one in (journal, None))
    await put_back_a_copy(engine, ours, theirs)
    journal.close()
    for _ in range(went_on):
        await theirs.admit(admission())

    restarted = ledger_on(open_store(engine.url), FileJournal(journal.directory))
    with pytest.raises(LedgerUnavailable, match=LOST):
        await restarted.admit(admission())
    with pytest.raises(LedgerUnavailable, match=LOST):
        await theirs.admit(admission())
    with pytest.raises(LedgerUnavailable, match=LOST):
        await restarted.verify()


@pytest.mark.parametrize("stops_too", [False, True])
async def test_a_stale_copy_on_which_another_worker_of_the_journal_went_on_stops_everybody(
    engine: Engine, open_store: OpenStore, stops_too: bool
) -> None:
    """Each worker writes a file of its own: that of the one that was killed ends at a number which
    its neighbour, who goes on from there on the copy, gave to something else."""
    killed = new_journal()
    neighbour = FileJournal(killed.directory)
    ours, theirs = (ledger_on(open_store(engine.url), one) for one in (killed, neighbour))
    lost = await put_back_a_copy(engine, ours, theirs)
    killed.close()
    for _ in range(2):
        await theirs.admit(admission())
    if stops_too:
        neighbour.close()

    replaced = ledger_on(open_store(engine.url), FileJournal(killed.directory))
    with pytest.raises(LedgerUnavailable, match=LOST):
        await replaced.admit(admission())
    with pytest.raises(LedgerUnavailable, match=LOST):
        await theirs.admit(admission())

    history = JournalHistory([killed.directory])
    await rebuild_ledger(replaced._scripts, history, TERMS, history.ids)
    for one in (replaced, theirs):
        assert await one.job(lost.id) == lost
        assert (await one.admit(admission())).job.n == 1


async def test_a_start_knows_a_stale_copy_until_1024_changes_were_made_on_it(
    engine: Engine, open_store: OpenStore
) -> None:
    """The store remembers who raised its latest 1,024 numbers; the job may be gone for good reasons
    by then, so there is nothing else to ask for (decision 25)."""
    journal = new_journal()
    ours, theirs = (ledger_on(open_store(engine.url), one) for one in (journal, None))
    await put_back_a_copy(engine, ours, theirs)
    journal.close()
    await asyncio.gather(*(theirs.admit(admission()) for _ in range(1024)))

    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger_on(open_store(engine.url), FileJournal(journal.directory)).verify()


async def test_workers_of_one_journal_that_are_replaced_in_any_order_stop_nobody(
    engine: Engine, open_store: OpenStore
) -> None:
    """Also after a rebuild, whose epoch continues what the files of earlier workers end with."""
    journals = [new_journal()]
    journals += [FileJournal(journals[0].directory) for _ in range(2)]
    for turn in range(12):
        journals[turn % 3].close()
        journals[turn % 3] = FileJournal(journals[0].directory)
        workers = [ledger_on(open_store(engine.url), one) for one in journals]
        if turn == 6:
            with engine.client() as admin:
                admin.flushall()
            scripts = scripts_on(open_store(engine.url), FileJournal(journals[0].directory))
            history = JournalHistory([journals[0].directory])
            await rebuild_ledger(scripts, history, TERMS, history.ids)
        for worker in workers[: turn % 4]:
            await worker.settle(await started(worker, admission()), delivered(1))

    assert (await workers[0].admit(admission())).job.n == 1


def with_garbage(file: Path) -> None:
    file.write_bytes(b"\0" * 4096)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def with_a_directory_in_its_place(file: Path) -> None:
    file.unlink()
    file.mkdir()


SPOILED = (with_garbage, emptied, with_a_directory_in_its_place)


@pytest.mark.parametrize("spoil", SPOILED)
async def test_an_emptied_store_is_not_begun_anew_beside_a_journal_that_cannot_be_read(
    engine: Engine, open_store: OpenStore, spoil: Callable[[Path], None]
) -> None:
    journal = new_journal()
    await ledger_on(open_store(engine.url), journal).admit(admission())
    journal.close()
    for file in journal.directory.glob("*.jsonl"):
        spoil(file)
    with engine.client() as admin:
        admin.flushall()

    restarted = ledger_on(open_store(engine.url), FileJournal(journal.directory))
    for _ in range(2):
        with pytest.raises(JournalUnreadable, match=LOST):
            await restarted.admit(admission())
    with pytest.raises(JournalUnreadable):
        await restarted.verify()

    assert not restarted.condition.intact
    assert not await restarted.has_data()


@pytest.mark.parametrize("spoil", SPOILED)
async def test_a_journal_that_cannot_be_read_stops_nobody_while_the_store_is_as_it_was(
    engine: Engine, open_store: OpenStore, spoil: Callable[[Path], None]
) -> None:
    journal = new_journal()
    first = (await ledger_on(open_store(engine.url), journal).admit(admission())).job
    journal.close()
    for file in journal.directory.glob("*.jsonl"):
        spoil(file)

    restarted = ledger_on(open_store(engine.url), FileJournal(journal.directory))
    await restarted.verify()
    assert (await restarted.admit(admission())).job.n == 1

    assert await restarted.job(first.id) == first


async def test_a_journal_directory_that_cannot_be_listed_begins_no_ledger(
    engine: Engine, open_store: OpenStore
) -> None:
    journal = new_journal()
    journal.directory.write_bytes(b"a file in its place")

    with pytest.raises(JournalUnreadable, match=LOST):
        await ledger_on(open_store(engine.url), FileJournal(journal.directory)).verify()


@pytest.mark.parametrize("workers", [0, 1, 3])
async def test_a_first_start_that_died_before_its_first_line_is_begun_again(
    engine: Engine, open_store: OpenStore, workers: int
) -> None:
    """The file is there and holds nothing; the store may have forgotten the epoch as well."""
    journal = new_journal()
    journal.ensure_id()
    journal.close()
    for worker in range(workers):
        (journal.directory / f"2026-11-23-{worker:08x}.books.jsonl").touch()

    first = ledger_on(open_store(engine.url), FileJournal(journal.directory))
    await first.verify()

    assert (await first.admit(admission())).job.n == 1


async def test_once_one_process_noticed_nobody_spends(
    engine: Engine, open_store: OpenStore, ledger: RedisLedger
) -> None:
    await ledger.admit(admission())
    with engine.client() as admin:
        admin.flushall()
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger.admit(admission())

    newcomer = ledger_on(open_store(engine.url))

    with pytest.raises(LedgerUnavailable, match=LOST):
        await newcomer.admit(admission())


async def test_a_gateway_of_another_store_stops_nobody_but_itself(
    engine: Engine, open_store: OpenStore, ledger: RedisLedger
) -> None:
    """A wrong KOI_REDIS_URL or an old data directory must not halt a deployment."""
    await ledger.admit(admission())
    stranger = new_journal()
    stranger.position = Position(7, "task_0", "another epoch")

    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger_on(open_store(engine.url), stranger).admit(admission())

    assert (await ledger.admit(admission())).job.n == 1


async def test_what_another_process_did_meanwhile_is_no_data_loss(
    engine: Engine, open_store: OpenStore, ledger: RedisLedger
) -> None:
    other = ledger_on(open_store(engine.url))
    for one in (ledger, other, other, ledger):
        assert (await one.admit(admission())).job.n == 1


async def test_a_restarted_gateway_remembers_how_much_it_had_seen(
    engine: Engine, open_store: OpenStore
) -> None:
    first = new_journal()
    await ledger_on(open_store(engine.url), first).admit(admission())
    backup = engine.copy()
    await ledger_on(open_store(engine.url), first).admit(admission())
    first.close()

    engine.put_back(backup)

    restarted = FileJournal(first.directory)
    assert restarted.position is not None
    assert restarted.position.seq == 2
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger_on(open_store(engine.url), restarted).admit(admission())


async def test_a_gateway_that_starts_before_its_store_opens_the_ledger_later(
    own_engine: Engine, open_store: OpenStore
) -> None:
    own_engine.stop()
    ledger = ledger_on(open_store(own_engine.url))
    with pytest.raises(LedgerUnavailable, match="connection"):
        await ledger.admit(admission())

    own_engine.start()

    assert (await ledger.admit(admission())).job.n == 1


async def test_without_its_store_nothing_is_spent_and_nothing_is_lost_when_it_returns(
    open_store: OpenStore, own_engine: Engine
) -> None:
    """I13, on the durability the embedded store runs with."""
    with own_engine.client() as admin:
        admin.config_set("appendonly", "yes")
        admin.config_set("appendfsync", "always")
        while admin.info("persistence")["aof_rewrite_in_progress"]:
            pass
    own_engine.options = ("--appendonly", "yes", "--appendfsync", "always")
    ledger = ledger_on(open_store(own_engine.url))
    job_id = await started(ledger, admission(n=2))
    own_engine.stop()

    with pytest.raises(LedgerUnavailable):
        await ledger.admit(admission())

    own_engine.start()
    assert (await ledger.settle(job_id, delivered(2))).first
    assert (await ledger.audit()).difference == 0
