"""A ledger that was lost is put together again: from the journals and what the store kept."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from store_rig import (
    NOTE,
    Engine,
    OpenStore,
    admission,
    delivered,
    eventually,
    ledger_on,
    new_journal,
    presumed,
    principal,
    released,
    scripts_on,
    started,
    unknown,
)  # fmt: skip

from app.adapters.journal.file import DelegatedJournal, FileJournal
from app.adapters.journal.reader import JournalHistory
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.connection import connect
from app.adapters.redis.client.scripts import Argument, Script
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.registry import JournalRegistry
from app.domain.errors import BillingEvidence, InsufficientQuota, LedgerUnavailable
from app.domain.job import JobState
from app.domain.journal import ChangeKind, JournalRecord, Position, StoreChange
from app.domain.ledger import Entry, EntryKind
from app.domain.limits import Limits
from app.domain.principal import ApiKey, User
from app.domain.rebuild import RebuildRefused, RebuildReport, RetentionTerms
from app.recovery.rebuild import rebuild_ledger
from app.wiring.journal_replication import JournalReplication

LOST = "lost its data"
GOLDEN = Path(__file__).parents[1] / "golden" / "journal"
TERMS = RetentionTerms(70_000, 190_000, 900_000, 86_400_000, 3_600_000)
KEY = ApiKey("key_1", "ann", "1" * 64, "laptop", Limits(), 1)


@dataclass
class Host:
    """One machine that runs a gateway: its ledger, its keys and its journal."""

    journal: FileJournal
    ledger: RedisLedger
    keyring: RedisKeyRing

    @classmethod
    def on(cls, store: BatchingStore, journal: FileJournal | None = None) -> "Host":
        journal = journal or new_journal()
        scripts = scripts_on(store, journal)
        return cls(journal, ledger_on(store, scripts=scripts), RedisKeyRing(scripts))

    async def rebuild(self, *others: "Host") -> RebuildReport:
        history = JournalHistory([host.journal.directory for host in (self, *others)])
        return await rebuild_ledger(self.ledger._scripts, history, TERMS, history.ids)


@pytest.fixture
def host(store: BatchingStore) -> Host:
    return Host.on(store)


async def entries(ledger: RedisLedger) -> Sequence[Entry]:
    return [entry async for entry in ledger.entries()]


def empty(engine: Engine) -> None:
    with engine.client() as admin:
        admin.flushall()


async def told(host: Host) -> dict[str, Any]:
    """Everything an operator or a caller can ask of the ledger."""
    audit = await host.ledger.audit()
    stats = await host.ledger.open_job_stats()
    snapshot = await host.ledger.read_limits(principal(user=Limits(images_per_day=50)))
    return {
        "entries": await entries(host.ledger),
        "standing": [status._replace(reset_s=0) for status in snapshot.statuses],
        "open": (audit.open_jobs, stats.jobs, stats.held_images, stats.held_micros),
        "differences": audit.differences,
        "users": await host.keyring.users(),
        "keys": await host.keyring.keys(),
    }


async def busy_day(host: Host) -> dict[str, str]:
    """A job in every state, an adjustment, users and keys; ids by state."""
    ledger = host.ledger
    await host.keyring.save_user(User("ann", Limits(images_per_day=50), 1), NOTE, create=True)
    await host.keyring.save_key(KEY, NOTE)
    ids = {"R": (await ledger.admit(admission(n=2))).job.id}
    ids["D"] = await started(ledger, admission(n=3))
    ids["task"] = await started(ledger, admission())
    await ledger.record_part(ids["task"], 0, upstream_id="up_1", due_ms=60_000)
    ids["U"] = await started(ledger, admission(n=4))
    await ledger.settle(ids["U"], unknown(), hold_ms=60_000)
    ids["S"] = await started(ledger, admission(n=2, idempotency_key="once", body="the same"))
    await ledger.settle(ids["S"], delivered(2))
    ids["X"] = await started(ledger, admission())
    await ledger.settle(ids["X"], released())
    settled = (await entries(ledger))[0]
    await ledger.adjust(
        replace(settled, id="", kind=EntryKind.ADJUST, images=-1, micros=-140_000,
                delivered=0, presumed=0, surplus=0)
    )  # fmt: skip
    return ids


async def test_an_emptied_store_is_rebuilt_from_the_journal_alone(
    engine: Engine, host: Host
) -> None:
    ids = await busy_day(host)
    before = await told(host)
    jobs = {state: await host.ledger.job(id) for state, id in ids.items()}
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await host.ledger.admit(admission())

    rebuilt = await host.rebuild()

    assert (rebuilt.entries, rebuilt.open, rebuilt.lost_changes) == (3, 4, 0)
    assert await told(host) == before
    assert {state: await host.ledger.job(id) for state, id in ids.items()} == jobs
    assert await host.keyring.authenticate(KEY.digest) is not None
    assert await host.ledger.find_owner(jobs["S"].pictures[0].name) == ("ann", "user:ann")  # type: ignore[union-attr]


async def test_a_rebuilt_job_and_its_entry_are_still_of_their_provider(
    engine: Engine, host: Host
) -> None:
    ledger = host.ledger
    at_second = admission(provider="second")
    running, ended = await started(ledger, at_second), await started(ledger, admission())
    await ledger.record_part(running, 0, upstream_id="up_1", due_ms=-1)
    other = await started(ledger, admission(provider="second"))
    await ledger.settle(other, delivered(1))
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ledger.admit(admission())

    await host.rebuild()

    [claim] = await ledger.claim(10, 1000)
    assert (claim.job.id, claim.job.provider) == (running, "second")
    assert [entry.provider for entry in await entries(ledger)] == ["second"]
    third = await started(ledger, admission(provider="second"))
    assert not await ledger.record_part(third, 0, upstream_id="up_1", due_ms=60_000)
    assert await ledger.record_part(ended, 0, upstream_id="up_1", due_ms=60_000)


async def test_after_a_rebuild_everything_goes_on_where_it_stood(
    engine: Engine, host: Host
) -> None:
    ids = await busy_day(host)
    empty(engine)
    await host.rebuild()
    ledger = host.ledger

    assert await ledger.dispatch(ids["R"], 60_000)
    assert (await ledger.settle(ids["D"], delivered(3))).first
    [claim] = await ledger.claim(10, 1000)
    assert claim.job.parts[0].upstream_id == "up_1"
    assert not await ledger.record_part(ids["R"], 0, upstream_id="up_1", due_ms=1)
    assert (await ledger.settle(ids["U"], released())).first
    assert not (await ledger.settle(ids["S"], delivered(2))).first
    again = await ledger.admit(admission(n=2, idempotency_key="once", body="the same"))
    assert (again.joined, again.job.id) == (True, ids["S"])
    assert (await ledger.audit()).differences == ()


async def test_quotas_are_not_refilled_by_a_rebuild(engine: Engine, host: Host) -> None:
    who = principal(user=Limits(images_per_day=3))
    await host.ledger.settle(await started(host.ledger, admission(who, n=2)), delivered(2))
    empty(engine)
    await host.rebuild()

    await host.ledger.admit(admission(who))
    with pytest.raises(InsufficientQuota):
        await host.ledger.admit(admission(who))


async def test_an_old_copy_gets_what_it_missed(engine: Engine, host: Host) -> None:
    job_id = await started(host.ledger, admission(n=2))
    await host.keyring.save_key(KEY, NOTE)
    backup = engine.copy()
    await host.ledger.settle(job_id, delivered(2))
    await host.keyring.save_key(replace(KEY, digest="2" * 64), NOTE)
    later = await started(host.ledger, admission())
    before = await told(host)
    engine.put_back(backup)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await host.ledger.admit(admission())

    rebuilt = await host.rebuild()

    assert (rebuilt.from_journal, rebuilt.open, rebuilt.lost_changes) == (1, 1, 0)
    assert await told(host) == before
    assert (await host.ledger.job(job_id)).state is JobState.SETTLED  # type: ignore[union-attr]
    assert (await host.ledger.job(later)).state is JobState.DISPATCHED  # type: ignore[union-attr]
    fresh = Host.on(host.ledger._scripts._store)
    assert await fresh.keyring.authenticate(KEY.digest) is None
    assert await fresh.keyring.authenticate("2" * 64) is None  # its user was never enrolled


async def test_what_is_repeated_because_its_reply_was_lost_is_in_the_journal_too(
    engine: Engine, open_store: OpenStore, host: Host
) -> None:
    """The first writing did its work but told nobody: here, another machine that is gone."""
    gone = Host.on(open_store(engine.url))
    wanted = admission(n=2)
    correction: Entry | None = None
    for each in (gone, host):
        await each.ledger.admit(wanted)
        await each.ledger.dispatch(wanted.job_id, 60_000)
        await each.ledger.settle(wanted.job_id, delivered(2))
        correction = correction or replace(
            (await entries(host.ledger))[0], id="refund", kind=EntryKind.ADJUST, images=-1,
            micros=-140_000, delivered=0, presumed=0, surplus=0, calls=(), dispatched_ms=None,
            asked=None,
        )  # fmt: skip
        await each.ledger.adjust(correction)
    before = await told(host)
    empty(engine)

    rebuilt = await host.rebuild()

    assert (rebuilt.entries, rebuilt.open, rebuilt.lost_changes) == (2, 0, 0)
    assert await told(host) == before


async def test_two_histories_become_one(engine: Engine, open_store: OpenStore) -> None:
    """A stale replica went on without what another gateway had written."""
    ours, theirs = (Host.on(open_store(engine.url)) for _ in range(2))
    await theirs.ledger.settle(await started(theirs.ledger, admission()), delivered(1))
    replica = engine.copy()
    await ours.ledger.settle(await started(ours.ledger, admission(n=2)), delivered(2))
    engine.put_back(replica)
    await theirs.ledger.settle(await started(theirs.ledger, admission(n=4)), delivered(4))
    await theirs.ledger.admit(admission())
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ours.ledger.admit(admission())

    rebuilt = await ours.rebuild(theirs)

    assert sorted(entry.images for entry in await entries(ours.ledger)) == [1, 2, 4]
    assert rebuilt.lost_changes == 0
    for host in (ours, theirs):
        assert (await host.ledger.admit(admission())).job.n == 1
    assert (await ours.ledger.audit()).differences == ()


async def test_a_jobs_states_follow_each_other_whoever_wrote_them_down(
    engine: Engine, open_store: OpenStore
) -> None:
    """Read before its beginning, a presumed end must not leave the caller with a queued task."""
    ours, theirs = (Host.on(open_store(engine.url)) for _ in range(2))
    job_id = await started(theirs.ledger, admission())
    await theirs.ledger.settle(job_id, unknown())
    ended = await ours.ledger.settle(job_id, presumed(1))
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ours.ledger.admit(admission())

    await ours.rebuild(theirs)

    assert await ours.ledger.job(job_id) == ended.job


async def test_a_key_bound_anew_means_its_latest_job_whichever_journal_is_read_first(
    engine: Engine, open_store: OpenStore
) -> None:
    """I12: its first job failed and was forgotten; the second one is paid for."""
    ours, theirs = (Host.on(open_store(engine.url)) for _ in range(2))
    sent = admission(idempotency_key="once", body="the same")
    refused, bought, again = (replace(sent, job_id=admission().job_id) for _ in range(3))
    await theirs.ledger.settle(await started(theirs.ledger, refused), released())
    with engine.client() as admin:
        [key] = admin.keys("koi:*job:*")
        admin.hincrby(key, "ended", -61_000)
    await ours.ledger.settle(await started(ours.ledger, bought), delivered(1))
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ours.ledger.admit(admission())

    await ours.rebuild(theirs)

    assert (await ours.ledger.admit(again)).job.id == bought.job_id


async def test_a_lapsed_reservation_is_not_sent_after_a_rebuild(
    engine: Engine, open_store: OpenStore
) -> None:
    """Whoever had claimed it when the store was lost keeps its release in the outbox."""
    ours, theirs = (Host.on(open_store(engine.url)) for _ in range(2))
    job_id = (await ours.ledger.admit(admission(lease_ms=-1))).job.id
    await theirs.ledger.claim(1, 1000)
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await theirs.ledger.settle(job_id, released(BillingEvidence.NEVER_SENT))

    await rebuild_ledger(
        ours.ledger._scripts,
        JournalHistory([ours.journal.directory, theirs.journal.directory]),
        replace(TERMS, reserved_ms=0),
    )

    assert not await ours.ledger.dispatch(job_id, 60_000)
    assert (await theirs.ledger.settle(job_id, released(BillingEvidence.NEVER_SENT))).first


async def test_a_journal_left_out_is_missed_and_can_be_added(
    engine: Engine, open_store: OpenStore
) -> None:
    ours, theirs = (Host.on(open_store(engine.url)) for _ in range(2))
    for host in (ours, theirs, ours):
        await host.ledger.settle(await started(host.ledger, admission()), delivered(1))
    await theirs.ledger.admit(admission())
    empty(engine)

    assert (await ours.rebuild()).lost_changes == 3
    assert (await ours.ledger.admit(admission())).job.n == 1
    with pytest.raises(LedgerUnavailable, match=LOST):
        await theirs.ledger.admit(admission())

    await ours.rebuild(theirs)

    assert len(await entries(ours.ledger)) == 3
    assert (await theirs.ledger.admit(admission())).job.n == 1
    assert (await ours.ledger.audit()).differences == ()


class Busy(BatchingStore):
    """A store in which others work right before a rebuild closes it."""

    meanwhile: Callable[[], Awaitable[object]]

    async def run(self, script: Script, keys: Sequence[str], *args: Argument, **how: Any) -> Any:
        if script.name == "quarantine":
            await self.meanwhile()
        return await super().run(script, keys, *args, **how)


@pytest.mark.parametrize("rebuilt_too", [False, True])
async def test_what_others_do_until_a_rebuild_closes_the_store_is_continued(
    engine: Engine, open_store: OpenStore, rebuilt_too: bool
) -> None:
    """A stale copy of which nobody at work knows takes changes up to the closing, or is rebuilt by
    somebody else: a rebuild that reports success leaves nobody behind who has seen that."""
    ours, theirs, third = (Host.on(open_store(engine.url)) for _ in range(3))
    await theirs.ledger.admit(admission())
    replica = engine.copy()
    await ours.ledger.admit(admission())
    ours.journal.close()
    engine.put_back(replica)

    async def work() -> None:
        if rebuilt_too:
            await third.rebuild(ours, theirs)
        for _ in range(3):
            await theirs.ledger.admit(admission())

    async with aclosing(Busy(connect(engine.url, timeout_s=20), timeout_s=20)) as busy:
        busy.meanwhile = work
        operator = Host.on(busy)
        report = await operator.rebuild(ours, theirs)

        assert report.lost_changes == 0
        for host in (operator, theirs, third):
            assert (await host.ledger.admit(admission())).job.n == 1


async def test_a_ledger_lost_twice_before_anything_was_written_goes_on(
    engine: Engine, host: Host
) -> None:
    """Whoever saw an epoch wrote it down: the next one continues it too."""
    await host.ledger.admit(admission())
    for _ in range(2):
        empty(engine)
        with pytest.raises(LedgerUnavailable, match=LOST):
            await host.ledger.claim(1, 1000)
        await host.rebuild()
        assert await host.ledger.claim(1, 1000) == []

    assert (await host.ledger.admit(admission())).job.n == 1


async def test_a_store_emptied_before_its_first_entry_can_be_rebuilt(
    engine: Engine, host: Host
) -> None:
    await host.ledger.claim(1, 1000)
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await host.ledger.admit(admission())

    await host.rebuild()

    assert (await host.ledger.admit(admission())).job.n == 1


async def test_what_an_earlier_rebuild_restored_is_not_forgotten(
    engine: Engine, open_store: OpenStore
) -> None:
    ours, theirs = (Host.on(open_store(engine.url)) for _ in range(2))
    for host in (ours, theirs, ours):
        await host.ledger.admit(admission())
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await ours.ledger.admit(admission())
    await ours.rebuild(theirs)
    backup = engine.copy()
    await ours.ledger.admit(admission())
    engine.put_back(backup)

    assert (await ours.rebuild()).lost_changes == 0


async def test_a_store_that_knows_everything_is_left_alone(host: Host) -> None:
    await busy_day(host)

    with pytest.raises(RebuildRefused, match="nothing to rebuild"):
        await host.rebuild()

    assert (await host.ledger.admit(admission())).job.n == 1


async def test_another_deployments_journal_is_refused(
    engine: Engine, own_engine: Engine, open_store: OpenStore, host: Host
) -> None:
    stranger = Host.on(open_store(own_engine.url))
    await host.ledger.admit(admission())
    for _ in range(3):
        await stranger.ledger.admit(admission())

    with pytest.raises(RebuildRefused, match="different ledgers"):
        await rebuild_ledger(
            stranger.ledger._scripts, JournalHistory([host.journal.directory]), TERMS
        )

    assert (await stranger.ledger.admit(admission())).job.n == 1


async def test_a_rebuild_killed_in_the_middle_is_run_again(engine: Engine, host: Host) -> None:
    """Whenever it dies, nobody spends until it has run to its end."""
    await busy_day(host)
    before = await told(host)
    empty(engine)
    refused = 0
    for turns in (1, 2, 3, 5, 8, 13, 20, 30):
        running = asyncio.ensure_future(host.rebuild())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.wait([running])
        try:
            await host.ledger.verify()
        except LedgerUnavailable:
            refused += 1
        else:
            empty(engine)  # it had run to its end
    assert refused

    await host.rebuild()

    assert await told(host) == before


async def test_a_restarted_gateway_accepts_what_was_rebuilt_meanwhile(
    engine: Engine, open_store: OpenStore, host: Host
) -> None:
    await busy_day(host)
    host.journal.close()
    empty(engine)
    new = Host.on(open_store(engine.url), FileJournal(host.journal.directory))
    with pytest.raises(LedgerUnavailable, match=LOST):
        await new.ledger.admit(admission())

    await Host.on(open_store(engine.url), FileJournal(host.journal.directory)).rebuild()

    assert (await new.ledger.admit(admission())).job.n == 1
    assert new.ledger.condition.intact


async def test_a_window_of_very_many_lines_is_rebuilt(engine: Engine, host: Host) -> None:
    people = [principal(names=(f"key_{n}", f"user{n}", None)) for n in range(700)]
    await asyncio.gather(*(host.ledger.admit(admission(who)) for who in people))
    empty(engine)

    assert (await host.rebuild()).open == 700
    assert (await host.ledger.audit()).differences == ()


async def test_when_old_job_records_are_swept_the_accounts_are_still_whole(
    engine: Engine, host: Host
) -> None:
    """A provider may quote prompts in a job's record: it is kept no longer than the pictures."""
    await busy_day(host)
    before = await told(host)
    host.journal.sweep(books=timedelta(days=1), jobs=timedelta(days=-1))
    empty(engine)

    rebuilt = await host.rebuild()

    after = await told(host)
    assert (rebuilt.lost_changes, rebuilt.open) == (0, 0)
    assert (after["entries"], after["users"]) == (before["entries"], before["users"])
    assert after["differences"] == ()


# What is missing ----------------------------------------------------------------------------------


async def restarted(store: BatchingStore, host: Host) -> Host:
    """The same machine's next process: the same directory, files of its own."""
    host.journal.close()
    return Host.on(store, FileJournal(host.journal.directory))


async def test_a_missing_first_file_counts_from_number_one(
    engine: Engine, store: BatchingStore
) -> None:
    first = Host.on(store)
    for _ in range(4):
        await first.ledger.settle(await started(first.ledger, admission()), delivered(1))
    old = list(first.journal.directory.glob("*.jsonl"))
    host = await restarted(store, first)
    await host.ledger.admit(admission())
    for file in old:
        file.unlink()
    empty(engine)

    rebuilt = await host.rebuild()

    # Four times admission, dispatch and entry.
    assert [(gap.first, gap.last) for gap in rebuilt.gaps] == [(1, 12)]
    assert rebuilt.lost_changes == 12
    assert (rebuilt.entries, rebuilt.open) == (0, 1)


async def test_what_an_old_copy_still_holds_is_not_missed(
    engine: Engine, store: BatchingStore
) -> None:
    first = Host.on(store)
    await first.ledger.settle(await started(first.ledger, admission()), delivered(1))
    backup = engine.copy()
    old = list(first.journal.directory.glob("*.jsonl"))
    host = await restarted(store, first)
    await host.ledger.settle(await started(host.ledger, admission()), delivered(1))
    for file in old:
        file.unlink()
    engine.put_back(backup)

    rebuilt = await host.rebuild()

    assert (rebuilt.entries, rebuilt.lost_changes) == (2, 0)


async def test_a_rebuilt_epochs_numbers_begin_where_the_one_before_it_ended(
    engine: Engine, store: BatchingStore
) -> None:
    first = Host.on(store)
    await first.ledger.settle(await started(first.ledger, admission()), delivered(1))
    empty(engine)
    await first.rebuild()
    old = list(first.journal.directory.glob("*.jsonl"))
    second = await restarted(store, first)
    await second.ledger.settle(await started(second.ledger, admission()), delivered(1))
    third = await restarted(store, second)
    await third.ledger.settle(await started(third.ledger, admission()), delivered(1))
    empty(engine)
    copies = {file: file.read_bytes() for file in old}
    assert (await third.rebuild()).lost_changes == 0

    for file in copies:
        file.unlink()
    empty(engine)
    rebuilt = await third.rebuild()

    # Nobody left here knows the first epoch, only that the second one began after number 3.
    assert [(gap.epoch, gap.first, gap.last) for gap in rebuilt.gaps] == [("", 1, 3)]
    assert rebuilt.entries == 2


async def test_damaged_lines_are_counted_and_so_are_the_numbers_they_held(
    engine: Engine, host: Host
) -> None:
    for _ in range(4):
        await host.ledger.settle(await started(host.ledger, admission()), delivered(1))
    [file] = host.journal.directory.glob("*.books.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 13  # the epoch, then admission, dispatch and entry
    file.write_bytes(
        b"".join(line if at % 2 else b"\0" * 40 + b"\n" for at, line in enumerate(lines))
    )
    [jobs] = host.journal.directory.glob("*.jobs.jsonl")
    jobs.unlink()
    empty(engine)

    history = JournalHistory([host.journal.directory])
    rebuilt = await rebuild_ledger(host.ledger._scripts, history, TERMS)

    assert (history.unreadable, rebuilt.lost_changes) == (7, 5)
    assert history.unreadable_names == [f"{file}: 7 unreadable"]


async def test_a_deleted_journal_is_no_reason_to_say_that_nothing_is_missing(
    engine: Engine, open_store: OpenStore, host: Host, tmp_path: Path
) -> None:
    with pytest.raises(RebuildRefused, match="no journal was found"):
        await rebuild_ledger(host.ledger._scripts, JournalHistory([tmp_path]), TERMS)

    await host.ledger.admit(admission())
    empty(engine)
    with pytest.raises(LedgerUnavailable, match=LOST):
        await host.ledger.admit(admission())

    assert (await rebuild_ledger(host.ledger._scripts, JournalHistory([tmp_path]), TERMS)).blind


async def test_a_journal_that_wrote_and_was_not_given_is_named(
    engine: Engine, open_store: OpenStore
) -> None:
    """Its registration is in the others' journals: the store that knew it is empty."""
    ours, theirs = (Host.on(open_store(engine.url)) for _ in range(2))
    for host in (ours, theirs):
        await JournalReplication(host.journal, JournalRegistry(host.ledger._scripts)).replicate()
    await JournalReplication(ours.journal, JournalRegistry(ours.ledger._scripts)).replicate()
    await theirs.ledger.admit(admission())
    empty(engine)

    rebuilt = await ours.rebuild()

    [absent] = rebuilt.absent
    assert (absent.id, absent.path) == (theirs.journal.id, str(theirs.journal.directory))
    empty(engine)
    assert (await ours.rebuild(theirs)).absent == ()


async def test_what_an_operator_changed_elsewhere_is_in_every_gateways_journal(
    engine: Engine, open_store: OpenStore
) -> None:
    gateway = Host.on(open_store(engine.url))
    replication = JournalReplication(gateway.journal, JournalRegistry(gateway.ledger._scripts))
    await replication.replicate()
    scripts = scripts_on(open_store(engine.url), DelegatedJournal())  # type: ignore[arg-type]
    keyring = RedisKeyRing(scripts)
    await keyring.save_user(User("bob", Limits(images_per_day=7), 1), NOTE, create=True)
    assert not await JournalRegistry(scripts).copied()

    await replication.replicate()
    await replication.replicate()

    assert await JournalRegistry(scripts).copied()
    empty(engine)
    rebuilt = await gateway.rebuild()
    assert rebuilt.lost_changes == 0
    assert [user.name for user in await gateway.keyring.users()] == ["bob"]
    copies = [f for f in gateway.journal.directory.iterdir() if f.name.endswith(".changes.jsonl")]
    assert sum(len(file.read_bytes().splitlines()) for file in copies) == 2  # itself, and bob


@pytest.mark.parametrize("commit", ["2f04236", "b201a03"])
async def test_journals_of_earlier_versions_stay_readable(
    engine: Engine, host: Host, commit: str
) -> None:
    """Real journals of those commits: a user, a key, three jobs of one, two and one pictures."""
    history = JournalHistory([GOLDEN / commit])

    rebuilt = await rebuild_ledger(host.ledger._scripts, history, TERMS)

    assert (history.unreadable, rebuilt.lost_changes) == (0, 0)
    assert [entry.images for entry in await entries(host.ledger)] == [1, 2, 1]
    assert [user.name for user in await host.keyring.users()] == ["ann"]
    assert len(await host.keyring.keys()) == 1
    assert (await host.ledger.audit()).differences == ()


@pytest.mark.parametrize("commit", ["2f04236", "b201a03"])
async def test_lines_missing_from_an_earlier_versions_journal_are_missed(
    engine: Engine, host: Host, tmp_path: Path, commit: str
) -> None:
    (tmp_path / "old").mkdir()
    _, *others = sorted(
        (GOLDEN / commit).iterdir(), key=lambda file: b'"kind":"users"' not in file.read_bytes()
    )
    for file in others:
        (tmp_path / "old" / file.name).write_bytes(file.read_bytes())

    rebuilt = await rebuild_ledger(host.ledger._scripts, JournalHistory([tmp_path / "old"]), TERMS)

    assert [(gap.first, gap.last) for gap in rebuilt.gaps] == [(1, 2)]


# The journal itself ------------------------------------------------------------------------------


async def test_without_room_for_the_journal_nothing_is_spent_but_what_runs_is_settled(
    engine: Engine, open_store: OpenStore, tmp_path: Path
) -> None:
    journal = FileJournal(tmp_path / "full" / "journal")
    (tmp_path / "full").write_text("a file where the directory should be")
    host = Host.on(open_store(engine.url), journal)
    other = ledger_on(open_store(engine.url))
    job_id = await started(other, admission())

    assert (await host.ledger.settle(job_id, delivered(1))).first
    for spend in (
        lambda: host.ledger.admit(admission()),
        lambda: host.ledger.check_rate_limit(principal(), admission().dedup_keys),
        lambda: host.ledger.dispatch(job_id, 1000),
    ):
        with pytest.raises(LedgerUnavailable, match="journal") as refused:
            await spend()
        assert not refused.value.asked  # so that no outbox keeps a job that never was

    (tmp_path / "full").unlink()
    await eventually(journal.ready)
    assert (await host.ledger.admit(admission())).job.n == 1
    journal.close()
    kinds = [change.kind for step in JournalHistory([journal.directory]) for change in step.changes]
    # The epoch it found; the admission is noted in both files.
    assert Counter(kinds) == {"life": 1, "entry": 1, "job": 3}


async def test_what_the_journal_did_not_take_of_an_admission_may_stand_in_the_store(
    engine: Engine, open_store: OpenStore, tmp_path: Path
) -> None:
    journal = FileJournal(tmp_path / "full" / "journal")
    host = Host.on(open_store(engine.url), journal)
    (tmp_path / "full").write_text("a file where the directory should be")

    with pytest.raises(LedgerUnavailable, match="journal") as refused:
        await host.ledger.admit(admission())

    assert refused.value.asked


async def test_half_a_line_is_skipped_and_counted(engine: Engine, host: Host) -> None:
    await host.ledger.admit(admission())
    [file] = host.journal.directory.glob("*.jobs.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:20])

    history = JournalHistory([host.journal.directory])
    assert len(list(history)) == 3  # the epoch it found, and the admission in both
    assert history.unreadable == 1
    assert FileJournal(host.journal.directory).position == host.ledger._scripts.position


async def test_a_journal_starts_a_file_each_day_and_old_ones_are_swept(tmp_path: Path) -> None:
    today = datetime(2026, 11, 27, 23, 59, tzinfo=UTC)
    journal = FileJournal(tmp_path, clock=lambda: today.timestamp())
    step = JournalRecord(
        Position(1, "x", "e"), [StoreChange(ChangeKind.USERS, "ann", ["record", "{}"])], 1
    )
    journal.append(step)
    today += timedelta(minutes=2)
    journal.append(step)
    journal.sync()

    assert sorted(file.name[:10] for file in tmp_path.glob("*")) == ["2026-11-27", "2026-11-28"]
    kept, over = timedelta(days=1), timedelta(days=-1)
    assert journal.sweep(books=kept, jobs=over) == 0
    assert journal.sweep(books=over, jobs=kept) == 2


async def test_a_cancelled_job_needs_no_entry_to_stay_over(
    engine: Engine, host: Host, open_store: OpenStore
) -> None:
    """Neither the journal nor an old copy of the store brings it back."""
    job_id = (await host.ledger.admit(admission(n=2))).job.id
    copy = engine.copy()
    await host.ledger.cancel(job_id)
    for lose in (lambda: empty(engine), lambda: engine.put_back(copy)):
        lose()
        with pytest.raises(LedgerUnavailable, match=LOST):
            await host.ledger.admit(admission())

        rebuilt = await host.rebuild()

        job = await host.ledger.job(job_id)
        assert rebuilt.lost_changes == rebuilt.open == 0
        assert job is not None
        assert job.state is JobState.RELEASED
        assert await entries(host.ledger) == []
        assert not await host.ledger.dispatch(job_id, 1000)


STRANGERS: dict[str, Callable[[Path], object]] = {
    "a directory": lambda file: file.mkdir(),
    "a pipe": lambda file: os.mkfifo(file),
    "a link to nowhere": lambda file: file.symlink_to("nowhere"),
    "a mark whose number is a text": lambda file: file.write_text(
        '{"mark":{"seq":"7","who":"x","epoch":"e"},"changes":[],"at_ms":1}\n'
    ),
    "a line that is a number": lambda file: file.write_text("7\n"),
    "a mark that is a list": lambda file: file.write_text('{"mark":[],"changes":[],"at_ms":1}\n'),
    "fields that do not pair": lambda file: file.write_text(
        '{"mark":{"seq":7,"who":"x","epoch":"e"},"changes":'
        '[{"kind":"job","id":"task_1","fields":["state"],"seq":7}],"at_ms":1}\n'
    ),
    "an entry that says nothing": lambda file: file.write_text(
        '{"mark":{"seq":7,"who":"x","epoch":"e"},"changes":'
        '[{"kind":"entry","id":"1-0","fields":["images","1"],"seq":7}],"at_ms":1}\n'
    ),
    "a kind of change of a newer version": lambda file: file.write_text(
        '{"mark":{"seq":7,"who":"x","epoch":"e"},"changes":'
        '[{"kind":"moon","id":"1","fields":[],"seq":7}],"at_ms":1}\n'
    ),
    "nothing but zeros": lambda file: file.write_bytes(bytes(4096)),
}


@pytest.mark.parametrize("stranger", STRANGERS)
async def test_strangers_among_the_files_are_skipped_counted_and_named(
    engine: Engine, store: BatchingStore, host: Host, stranger: str
) -> None:
    await host.ledger.settle(await started(host.ledger, admission()), delivered(1))
    file = host.journal.directory / "2099-12-31-aaaaaaaa.books.jsonl"
    STRANGERS[stranger](file)

    new = await restarted(store, host)
    assert new.journal.position == host.ledger._scripts.position
    assert new.journal.sweep(books=timedelta(days=1), jobs=timedelta(days=1)) == 0
    empty(engine)
    history = JournalHistory([host.journal.directory])
    rebuilt = await rebuild_ledger(new.ledger._scripts, history, TERMS)

    assert (rebuilt.entries, rebuilt.lost_changes, history.unreadable) == (1, 0, 1)
    assert str(file) in history.unreadable_names[0]


async def test_a_journal_that_is_deleted_or_replaced_takes_nothing_until_it_is_back(
    host: Host, tmp_path: Path
) -> None:
    host.journal.ensure_id()
    await host.ledger.admit(admission())
    directory = host.journal.directory
    away = tmp_path / "away"
    directory.rename(away)

    with pytest.raises(LedgerUnavailable, match="journal cannot be written"):
        await host.ledger.admit(admission())
    directory.mkdir()
    assert not host.journal.ready()
    directory.rmdir()
    away.rename(directory)

    assert host.journal.ready()
    assert (await host.ledger.admit(admission())).job.n == 1
    [file] = directory.glob("*.books.jsonl")
    file.unlink()
    assert not host.journal.ready()


async def test_what_is_settled_while_the_journal_is_gone_is_written_into_what_is_there_at_the_end(
    engine: Engine, host: Host
) -> None:
    job_id = await started(host.ledger, admission())
    [file] = host.journal.directory.glob("*.books.jsonl")
    file.unlink()

    await host.ledger.settle(job_id, delivered(1))
    host.journal.close()

    history = JournalHistory([host.journal.directory])
    assert [c.kind for step in history for c in step.changes].count(ChangeKind.ENTRY) == 1
