"""A backup is the ledger of one moment, though it changes meanwhile; a restore goes on from it."""

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
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
    new_journal,
    principal,
    running,
    started,
)
from test_deliveries import claimed, hook
from test_ledger_rebuild import KEY, TERMS, Host, busy_day, entries, told

from app.adapters.journal.file import FileJournal
from app.adapters.journal.reader import JournalHistory
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.connection import connect
from app.adapters.redis.codec import unflatten
from app.adapters.redis.deliveries import RedisDeliveryQueue
from app.adapters.redis.keyspace import DATA_VERSION, KEYS
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.errors import LedgerDataLost, LedgerUnavailable
from app.domain.images import digest
from app.domain.journal import ChangeKind
from app.domain.ledger import DedupKeys
from app.domain.other_store import LedgerMoved
from app.domain.rebuild import RebuildRefused
from app.domain.webhooks import DeliveryReport, DeliveryState
from app.recovery import move
from app.recovery.backup import FAMILIES, LedgerCopy
from app.recovery.backup_file import (
    FORMAT,
    BackupDamaged,
    BackupEnd,
    BackupHeader,
    BackupReader,
    BackupWriter,
    RowKind,
)
from app.recovery.refill import open_epoch_after
from app.recovery.restore import RestoreRefused, check_backup, restore_ledger
from tests.ports import free_port
from tests.store_node import programs

OTHER_PLACE = "redis://store.test:6379/0"


@pytest.fixture(scope="module")
def other_server() -> Iterator[Engine]:
    with running(next(iter(programs().values()))) as engine:
        yield engine


@pytest.fixture
def other_engine(other_server: Engine) -> Engine:
    with other_server.client() as client:
        client.flushall()
    return other_server


@pytest.fixture
def host(store: BatchingStore) -> Host:
    return Host.on(store)


@pytest.fixture
def other(other_engine: Engine, open_store: OpenStore) -> Host:
    return Host.on(open_store(other_engine.url, timeout_s=20))


def scripts_of(host: Host) -> LedgerScripts:
    return host.ledger._scripts


async def back_up(
    host: Host, path: Path, report: Callable[[], None] = lambda: None, **options: Any
) -> BackupEnd:
    found = await scripts_of(host).run("read_epoch")
    header = BackupHeader(FORMAT, DATA_VERSION, "1", 1, found["epoch"], found["seq"], None, False)
    with path.open("wb") as out:
        writer = BackupWriter(out, header)
        end = await LedgerCopy(scripts_of(host), writer, report, **options).run()
        end = replace(end, counts=dict(writer.counts))
        writer.finish(end)
    return end


async def nothing(_row: Any) -> None:
    pass


async def put_back(path: Path, host: Host, take: Any = nothing) -> None:
    reader = BackupReader(path)
    found = check_backup(reader, lambda _row: None)
    await restore_ledger(scripts_of(host), reader, found.end, TERMS, NOTE, take)


async def records_of(host: Host) -> dict[str, Any]:
    families = ("users", "teams", "keys", "stops")
    return {family: sorted(await scripts_of(host).records(family)) for family in families}


async def test_a_restored_ledger_says_what_the_old_one_said(
    host: Host, other: Host, tmp_path: Path
) -> None:
    ids = await busy_day(host)
    before, records = await told(host), await records_of(host)
    jobs = {state: await host.ledger.job(id) for state, id in ids.items()}

    await back_up(host, tmp_path / "b")
    await put_back(tmp_path / "b", other)

    assert await told(other) == before
    assert await records_of(other) == records
    assert (await other.ledger.audit(full=True)).difference == 0
    assert {state: await other.ledger.job(id) for state, id in ids.items()} == jobs
    repeat = DedupKeys(digest("the same"), "once", False, False, "call")
    joined = await other.ledger.check_rate_limit(principal(), repeat)
    assert joined.duplicate_of == ids["S"]
    await other.ledger.settle(ids["D"], delivered(3))
    assert (await other.ledger.audit(full=True)).difference == 0


async def test_a_backup_of_a_restored_ledger_holds_the_same(
    host: Host, other: Host, tmp_path: Path
) -> None:
    await busy_day(host)
    first = await back_up(host, tmp_path / "1")
    await put_back(tmp_path / "1", other)

    second = await back_up(other, tmp_path / "2")

    kinds = (RowKind.ENTRY, RowKind.RECORD)
    assert [second.counts[kind] for kind in kinds] == [first.counts[kind] for kind in kinds]
    assert second.earlier == {first.epoch: first.seq}
    assert second.epoch != first.epoch


async def test_a_backup_is_restored_into_a_cluster(
    host: Host, open_store: OpenStore, tmp_path: Path
) -> None:
    await busy_day(host)
    before, port = await told(host), free_port()
    await back_up(host, tmp_path / "b")
    options = (
        "--port", str(port), "--bind", "127.0.0.1",
        "--cluster-enabled", "yes", "--cluster-port", str(free_port()),
    )  # fmt: skip
    with running(next(iter(programs().values())), *options) as engine, engine.client() as admin:
        admin.execute_command("CLUSTER ADDSLOTSRANGE 0 16383")
        await eventually(lambda: admin.execute_command("CLUSTER INFO")["cluster_state"] == "ok", 10)
        cluster = Host.on(open_store(f"redis+cluster://127.0.0.1:{port}"))

        await put_back(tmp_path / "b", cluster)

        assert await told(cluster) == before
        assert (await cluster.ledger.audit(full=True)).difference == 0


async def spend(host: Host, stop: asyncio.Event) -> None:
    """Jobs that come and go, for as long as it is not told to stop."""
    while not stop.is_set():
        ids = [await started(host.ledger, admission(n=2)) for _ in range(3)]
        await host.ledger.record_part(ids[0], 0, upstream_id=f"up {ids[0]}", due_ms=60_000)
        await asyncio.gather(*(host.ledger.settle(id, delivered(2)) for id in ids[:2]))


def journal_at(journal: FileJournal, seq: int) -> tuple[set[str], dict[str, str]]:
    """The entries and the state of each job that the changes up to a number made."""
    found, states = set(), dict[str, tuple[int, str]]()
    for record in JournalHistory([journal.directory]):
        for change in record.changes:
            if not 0 < change.seq <= seq:
                continue
            if change.kind is ChangeKind.ENTRY:
                found.add(change.id)
                job = unflatten(change.fields)["job"]
                states[job] = max(states.get(job, (0, "")), (change.seq, "ended"))
            elif change.kind is ChangeKind.JOB and "state" in (row := unflatten(change.fields)):
                states[change.id] = max(states.get(change.id, (0, "")), (change.seq, row["state"]))
    return found, {id: state for id, (_, state) in states.items()}


def file_says(path: Path) -> tuple[list[str], dict[str, str]]:
    ids, states = [], {}
    for row in BackupReader(path):
        if row[0] == RowKind.ENTRY:
            ids.append(row[1])
        elif row[0] == RowKind.JOB:
            job = unflatten(row[1])
            states[job["id"]] = job["state"] if job["state"] in "RDU" else "ended"
    return ids, states


async def backed_up_while_spending(host: Host, path: Path, *report: Callable[[], None]) -> int:
    stop = asyncio.Event()
    spenders = [asyncio.create_task(spend(host, stop)) for _ in range(4)]
    await asyncio.sleep(0.3)
    end = await back_up(host, path, *report)
    stop.set()
    await asyncio.gather(*spenders)
    host.journal.sync()
    return end.seq


async def test_a_backup_under_traffic_is_the_ledger_of_one_moment(
    host: Host, other: Host, tmp_path: Path
) -> None:
    seq = await backed_up_while_spending(host, tmp_path / "b")

    expected_entries, expected_states = journal_at(host.journal, seq)
    ids, states = file_says(tmp_path / "b")
    assert len(ids) == len(set(ids)) > 0
    assert set(ids) == expected_entries
    assert states == expected_states
    await put_back(tmp_path / "b", other)
    assert (await other.ledger.audit(full=True)).difference == 0


async def test_a_copy_that_was_held_up_for_more_changes_than_are_remembered_is_of_one_moment_too(
    engine: Engine, host: Host, tmp_path: Path
) -> None:
    for _ in range(3):
        await host.ledger.settle(await started(host.ledger, admission()), delivered(1))
    elsewhere = new_journal()

    async def change_much() -> None:
        store = BatchingStore(connect(engine.url, timeout_s=20), timeout_s=20)
        away = Host.on(store, elsewhere)
        for _ in range(4):
            ids = await asyncio.gather(*(started(away.ledger, admission()) for _ in range(100)))
            await asyncio.gather(*(away.ledger.settle(id, delivered(1)) for id in ids))
        await store.aclose()

    held_up = []

    def hold_up_once() -> None:
        if not held_up:
            held_up.append(True)
            thread = threading.Thread(target=lambda: asyncio.run(change_much()))
            thread.start()
            thread.join()

    end = await back_up(host, tmp_path / "b", hold_up_once)

    ids, states = file_says(tmp_path / "b")
    assert len(ids) == len(set(ids)) == 403
    assert set(states.values()) == {"ended"}
    assert end.seq >= 1200


async def test_a_key_bound_to_an_earlier_job_while_a_backup_runs_is_in_it(
    host: Host, other: Host, tmp_path: Path
) -> None:
    id = await started(host.ledger, admission(body="the same"))
    await host.ledger.settle(id, delivered(1))
    before = (await scripts_of(host).run("read_epoch"))["seq"]
    late = DedupKeys(digest("the same"), "late", False, False, "call")

    await host.ledger.bind_idempotency_key(principal(), late, id)
    after = (await scripts_of(host).run("read_epoch"))["seq"]
    await back_up(host, tmp_path / "b")
    await put_back(tmp_path / "b", other)

    assert after == before + 1
    assert (await other.ledger.check_rate_limit(principal(), late)).duplicate_of == id


async def test_a_webhook_that_waits_is_told_by_the_restored_store(
    host: Host, other: Host, tmp_path: Path
) -> None:
    ids = [await started(host.ledger, admission(webhook=hook())) for _ in range(2)]
    await host.ledger.settle(ids[0], delivered(1))

    await back_up(host, tmp_path / "b")
    await put_back(tmp_path / "b", other)
    queue = RedisDeliveryQueue(scripts_of(other))
    [first] = await claimed(queue)
    await queue.report(DeliveryReport(first, DeliveryState.DELIVERED))
    await other.ledger.settle(ids[1], delivered(1))
    [second] = await claimed(queue)

    assert [first.job_id, second.job_id] == ids
    assert await claimed(queue) == []


async def test_a_backup_has_every_delivery_though_receivers_change_places(
    engine: Engine, host: Host, tmp_path: Path
) -> None:
    """They are listed by when they are due, and gateways deliver while a backup is written."""
    ids = []
    for number in range(12):
        order = admission(webhook=hook(f"https://r{number}.test/"))
        ids.append(await started(host.ledger, order))
        await host.ledger.settle(ids[-1], delivered(1))

    with engine.client() as admin:
        [receivers] = admin.keys("koi:*:receivers")

        def deliver() -> None:
            [first] = admin.zrange(receivers, 0, 0)
            admin.zadd(receivers, {first: 2**43})

        await back_up(host, tmp_path / "b", deliver)

    rows = [row for row in BackupReader(tmp_path / "b") if row[0] == RowKind.DELIVERY]
    assert {unflatten(row[1])["job"] for row in rows} == set(ids)


def cut(path: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(body[: len(body) // 2])


def alter(path: Path) -> None:
    lines = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(lines.replace(b'"images","2"', b'"images","3"', 1)))


def drop_line(path: Path) -> None:
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:2] + lines[3:])))


def drop_end(path: Path) -> None:
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + gzip.compress(b'["entry","1-0",[]]\n'))


def rot(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(bytes(body))


DAMAGE = {
    "cut": cut, "altered": alter, "a line gone": drop_line, "no end": drop_end,
    "more behind it": append, "rotten": rot, "empty": lambda path: path.write_bytes(b""),
    "no gzip": lambda path: path.write_text("hello"),
    "other JSON": lambda path: path.write_bytes(gzip.compress(b"[1]\n")),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
async def test_nothing_is_restored_from_a_file_that_is_not_as_it_was_written(
    host: Host, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    await busy_day(host)
    path = tmp_path / "b"
    await back_up(host, path)
    damage(path)

    with pytest.raises(BackupDamaged):
        check_backup(BackupReader(path), lambda _row: None)


async def test_an_interrupted_restore_leaves_a_closed_store_and_is_run_again(
    host: Host, other: Host, tmp_path: Path
) -> None:
    await busy_day(host)
    before = await told(host)
    await back_up(host, tmp_path / "b")

    async def stumble(row: Any) -> None:
        if row[0] == RowKind.ENTRY:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await put_back(tmp_path / "b", other, stumble)
    with pytest.raises(LedgerUnavailable):
        await other.ledger.admit(admission())
    with pytest.raises(RebuildRefused, match="restore"):
        await other.rebuild()
    await started(host.ledger, admission())
    await back_up(host, tmp_path / "later")
    with pytest.raises(RestoreRefused, match="part of another backup"):
        await put_back(tmp_path / "later", other)
    await put_back(tmp_path / "b", other)

    assert await told(other) == before


async def test_of_two_restores_at_once_the_later_one_takes_over(
    host: Host, other: Host, tmp_path: Path
) -> None:
    await busy_day(host)
    before = await told(host)
    await back_up(host, tmp_path / "b")
    began = []

    async def let_another_in(row: Any) -> None:
        if row[0] == RowKind.ENTRY and not began:
            began.append(True)
            await put_back(tmp_path / "b", other)

    with pytest.raises(RebuildRefused, match="taken over"):
        await put_back(tmp_path / "b", other, let_another_in)

    assert await told(other) == before


async def test_a_restore_that_was_taken_over_does_not_report_success_at_its_end(
    other: Host,
) -> None:
    scripts = scripts_of(other)
    for run in ("one", "two"):
        assert (await scripts.run("begin_restore", "epoch.7", run))["begun"]

    with pytest.raises(RebuildRefused, match="taken over"):
        await open_epoch_after(scripts, [], {"epoch": 7}, "restoring epoch.7 one")
    await open_epoch_after(scripts, [], {"epoch": 7}, "restoring epoch.7 two")
    await open_epoch_after(scripts, [], {"epoch": 7})  # a rebuild that found it open already

    assert (await scripts.run("read_epoch"))["suspect"] is None


@pytest.mark.parametrize("version", [DATA_VERSION - 1, DATA_VERSION + 1])
def test_a_backup_of_another_data_version_is_refused(tmp_path: Path, version: int) -> None:
    """An older one would be labelled as this version's data without having been upgraded."""
    header = BackupHeader(FORMAT, version, "0.9", 1, "epoch", 7, None, False)
    with (tmp_path / "b").open("wb") as out:
        BackupWriter(out, header).finish(BackupEnd("epoch", 7, {}, 1, {}))

    with pytest.raises(RestoreRefused, match=f"version {version}"):
        check_backup(BackupReader(tmp_path / "b"), lambda _row: None)


async def test_only_an_empty_store_takes_a_backup(host: Host, other: Host, tmp_path: Path) -> None:
    await busy_day(host)
    await back_up(host, tmp_path / "b")

    with pytest.raises(RestoreRefused, match="not empty"):
        await put_back(tmp_path / "b", host)
    await scripts_of(other).open()  # a gateway that waits there
    waiting = scripts_of(other).position
    await put_back(tmp_path / "b", other)
    await other.ledger.admit(admission())

    assert waiting is not None
    assert scripts_of(other).position != waiting


async def test_a_gateway_that_knows_more_than_the_backup_spends_nothing_before_a_rebuild(
    host: Host, other: Host, open_store: OpenStore, other_engine: Engine, tmp_path: Path
) -> None:
    await busy_day(host)
    await back_up(host, tmp_path / "b")
    late = await started(host.ledger, admission(n=2))
    await host.ledger.settle(late, delivered(2))
    before = await told(host)
    await put_back(tmp_path / "b", other)
    moved = Host.on(open_store(other_engine.url, timeout_s=20), FileJournal(host.journal.directory))

    with pytest.raises(LedgerDataLost):
        await moved.ledger.admit(admission())
    report = await moved.rebuild()

    assert (report.from_journal, report.lost_changes) == (1, 0)
    assert await told(moved) == before
    await moved.ledger.admit(admission())


async def test_a_backup_is_restored_again_and_completed_from_the_journal_of_its_first_restore(
    host: Host, other: Host, other_engine: Engine, open_store: OpenStore, tmp_path: Path
) -> None:
    await busy_day(host)
    await back_up(host, tmp_path / "b")
    await put_back(tmp_path / "b", other)
    await other.ledger.settle(await started(other.ledger, admission()), delivered(1))
    expected = [entry.id for entry in await entries(other.ledger)]
    with other_engine.client() as admin:
        admin.flushall()

    again = Host.on(open_store(other_engine.url, timeout_s=20))
    await put_back(tmp_path / "b", again)
    with pytest.raises(LedgerDataLost):
        await other.ledger.admit(admission())
    report = await other.rebuild()

    assert [entry.id for entry in await entries(other.ledger)] == expected
    assert report.lost_changes == 0


async def test_a_moved_ledger_refuses_everybody_and_names_the_new_place(
    host: Host, tmp_path: Path
) -> None:
    await busy_day(host)
    running_job = await started(host.ledger, admission())

    await move.close_for_move(scripts_of(host), OTHER_PLACE)

    for attempt in (
        host.ledger.admit(admission()),
        host.ledger.settle(running_job, delivered(1)),
        host.ledger.verify(),
        host.keyring.save_key(replace(KEY, id="key_2", digest="2" * 64), NOTE),
    ):
        with pytest.raises(LedgerMoved) as refused:
            await attempt
        assert refused.value.place == OTHER_PLACE
        assert OTHER_PLACE not in refused.value.message
    with pytest.raises(RebuildRefused, match=r"store\.test"):
        await host.rebuild()
    with pytest.raises(move.MoveRefused):
        await move.close_for_move(scripts_of(host), "redis://third")
    await back_up(host, tmp_path / "b", moved=True)
    await move.reopen(scripts_of(host))
    await host.ledger.settle(running_job, delivered(1))
    assert (await host.ledger.audit()).difference == 0


async def test_a_ledger_that_changed_meanwhile_is_not_closed(host: Host) -> None:
    """A move is cancelled while a gateway on the new store begins to pay."""
    job_id = (await host.ledger.admit(admission())).job.id
    scripts = scripts_of(host)
    looked_at = (await scripts.run("read_epoch"))["seq"]
    await host.ledger.dispatch(job_id, 60_000)

    with pytest.raises(move.MoveRefused, match="just now"):
        await move.close_for_move(scripts, OTHER_PLACE, looked_at)
    await host.ledger.settle(job_id, delivered(1))
    await move.close_for_move(scripts, OTHER_PLACE, (await scripts.run("read_epoch"))["seq"])

    with pytest.raises(LedgerMoved):
        await host.ledger.verify()


def test_every_key_of_the_store_is_in_a_backup_or_said_to_be_left_out() -> None:
    copied = {
        "epoch",
        "seq",
        "lineage",
        "job",
        "due",
        "collect",
        "stream",
        "audit",
        "used",
        "delivery",
        *FAMILIES,
    }
    derived = {
        "trail", "open", "window", "windows", "rollups", "rollup", "slots", "replay", "attempt",
        "jobs", "deliveries", "receivers", "undelivered", "delivery_log", "upstream", "owner",
        "digests", "data_version",
    }  # fmt: skip
    left_out = {
        "suspect": "a restored store is open", "clock": "of this store's hosts",
        "draft": "while rebuilding", "audit_draft": "while rebuilding",
        "pace": "recovers in a minute", "image_pace": "recovers in a minute",
        "requests": "of this day; not rebuilt either", "attributed": "told apart anew",
        "noticed": "a notice may come twice",
        "session": "sign in again", "sessions": "sign in again",
        "tidied": "begins anew",
        "months": "all entries of a restored store are in its stream",
        "replays": "an hour's share", "refusals": "an hour's share",
        "adjusted": "a correction's request; the bill is matched by entries",
        "gateways": "who runs now", "changes": "for journals of this epoch; the rows are copied",
        "backup": "what is known of backups is no part of one",
        "pictures": "the cache fills again", "starts": "two seconds",
    }  # fmt: skip
    of_ledger = {key.noun for key in KEYS if key.owner not in ("limiter", "signals")}

    assert of_ledger == copied | derived | set(left_out)
