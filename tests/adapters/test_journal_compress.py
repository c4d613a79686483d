"""Days of the journal that are over are compressed, and nothing of them is lost or read twice."""

import errno
import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from store_rig import Engine, admission, delivered, ledger_on, scripts_on, started

from app.adapters.journal.compress import compress_closed_days
from app.adapters.journal.file import FileJournal
from app.adapters.journal.reader import JournalHistory
from app.adapters.redis.client.batching import BatchingStore
from app.domain.journal import ChangeKind, JournalRecord, Position, StoreChange
from app.domain.rebuild import RetentionTerms
from app.recovery.rebuild import rebuild_ledger

TODAY = datetime(2026, 11, 23, 12, tzinfo=UTC)
TERMS = RetentionTerms(70_000, 190_000, 900_000, 86_400_000, 3_600_000)


def fill(directory: Path, days_ago: int, first: int, count: int = 3) -> None:
    """What a process of that day wrote."""
    journal = FileJournal(directory, clock=lambda: (TODAY - timedelta(days=days_ago)).timestamp())
    for seq in range(first, first + count):
        change = StoreChange(ChangeKind.JOB, f"task_{seq}", ["state", "R"], seq)
        journal.append(JournalRecord(Position(seq, f"task_{seq}", "e" * 32), [change], seq))
    journal.close()


def numbers(directory: Path) -> list[int]:
    history = JournalHistory([directory])
    found = sorted({record.mark.seq for record in history})
    assert history.unreadable == 0
    return found


def names(directory: Path) -> set[str]:
    return {path.name[: len("2026-11-23")] + path.suffix for path in directory.iterdir()}


def test_closed_days_are_compressed_and_read_back(tmp_path: Path) -> None:
    for days_ago, first in ((5, 1), (4, 11), (1, 21), (0, 31)):
        fill(tmp_path, days_ago, first)
    before = numbers(tmp_path)

    assert compress_closed_days(tmp_path, now=TODAY) == 4
    assert compress_closed_days(tmp_path, now=TODAY) == 0

    assert numbers(tmp_path) == before
    assert names(tmp_path) == {
        "2026-11-18.gz", "2026-11-19.gz", "2026-11-22.jsonl", "2026-11-23.jsonl",
    }  # fmt: skip
    position = FileJournal(tmp_path).position
    assert position is not None
    assert position.seq == 33


def test_the_file_with_the_latest_position_stays_readable_from_its_end(tmp_path: Path) -> None:
    fill(tmp_path, 9, 41)
    fill(tmp_path, 8, 1)

    compress_closed_days(tmp_path, now=TODAY)

    position = FileJournal(tmp_path).position
    assert position is not None
    assert position.seq == 43
    assert numbers(tmp_path) == [1, 2, 3, 41, 42, 43]


def test_a_crash_between_the_two_files_leaves_each_line_once(tmp_path: Path) -> None:
    fill(tmp_path, 0, 31)
    fill(tmp_path, 5, 1)
    [plain] = [file for file in tmp_path.glob("*.jobs.jsonl") if "2026-11-18" in file.name]
    body = plain.read_bytes()
    compress_closed_days(tmp_path, now=TODAY)
    plain.write_bytes(body)
    (tmp_path / (plain.name + ".gz.tmp")).write_bytes(b"half")

    compress_closed_days(tmp_path, now=TODAY)

    assert gzip.decompress((tmp_path / (plain.name + ".gz")).read_bytes()) == body
    assert not plain.exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_a_day_that_comes_again_is_added(tmp_path: Path) -> None:
    fill(tmp_path, 0, 31)
    fill(tmp_path, 5, 1)
    [plain] = [file for file in tmp_path.glob("*.books.jsonl") if "2026-11-18" in file.name]
    compress_closed_days(tmp_path, now=TODAY)
    [other] = tmp_path.glob("*.books.jsonl")
    plain.write_bytes(other.read_bytes())

    compress_closed_days(tmp_path, now=TODAY)

    lines = gzip.decompress((tmp_path / (plain.name + ".gz")).read_bytes()).splitlines()
    assert len(lines) == 6


def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    fill(tmp_path, 0, 31)
    fill(tmp_path, 5, 1)
    compress_closed_days(tmp_path, now=TODAY)
    [packed] = tmp_path.glob("*.jobs.jsonl.gz")
    packed.write_bytes(packed.read_bytes()[:-9])

    history = JournalHistory([tmp_path])
    found = {record.mark.seq for record in history}

    assert {31, 32, 33} <= found
    assert history.unreadable_names == [f"{packed}: no journal file"]


def test_compressed_days_are_swept_by_when_they_were_written(tmp_path: Path) -> None:
    fill(tmp_path, 5, 1)
    fill(tmp_path, 0, 31)
    compress_closed_days(tmp_path, now=TODAY)
    journal = FileJournal(tmp_path)

    assert journal.sweep(books=timedelta(days=1), jobs=timedelta(days=1)) == 0
    assert journal.sweep(books=timedelta(seconds=-9), jobs=timedelta(days=1)) == 2


async def test_a_store_is_rebuilt_from_compressed_days(
    engine: Engine, store: BatchingStore, tmp_path: Path
) -> None:
    days = [datetime.now(UTC)]
    journal = FileJournal(tmp_path, clock=lambda: days[-1].timestamp())
    scripts = scripts_on(store, journal)
    ledger = ledger_on(store, scripts=scripts)
    await ledger.settle(await started(ledger, admission()), delivered(1))
    days.append(days[-1] + timedelta(days=9))
    await ledger.settle(await started(ledger, admission(n=2)), delivered(2))
    before = [entry async for entry in ledger.entries()]
    assert compress_closed_days(tmp_path, now=days[-1]) == 2
    with engine.client() as admin:
        admin.flushall()

    history = JournalHistory([tmp_path])
    rebuilt = await rebuild_ledger(scripts, history, TERMS, history.ids)

    assert rebuilt.lost_changes == 0
    assert [entry async for entry in ledger.entries()] == before
    assert (await ledger.audit()).difference == 0


@pytest.mark.parametrize(
    "name", ["2026-11-01-x.books.jsonl", "notes.jsonl", "2026-99-99-ab.jobs.jsonl"]
)
def test_files_that_are_no_day_of_the_journal_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{}\n")

    compress_closed_days(tmp_path, now=TODAY)

    assert (tmp_path / name).exists()


def test_the_latest_position_outlives_the_job_records_of_its_day(tmp_path: Path) -> None:
    fill(tmp_path, 9, 41)
    compress_closed_days(tmp_path, now=TODAY)
    for file in tmp_path.glob("*.jobs.jsonl*"):
        file.unlink()

    position = FileJournal(tmp_path).position

    assert position is not None
    assert position.seq == 43


def test_a_day_that_is_compressed_while_others_are_read_is_read_too(tmp_path: Path) -> None:
    for days_ago, first in ((9, 1), (8, 11), (7, 21), (0, 31)):
        fill(tmp_path, days_ago, first)
    history = JournalHistory([tmp_path])
    reading = iter(history)
    found = {next(reading).mark.seq}

    assert compress_closed_days(tmp_path, now=TODAY) > 0

    found |= {record.mark.seq for record in reading}
    assert len(found) == 12
    assert history.unreadable == 0


def test_a_disk_that_is_full_keeps_no_half_of_a_compressed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, 9, 1)
    fill(tmp_path, 0, 11)
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "fsync", lambda _handle: (_ for _ in ()).throw(full))

    with pytest.raises(OSError, match="No space"):
        compress_closed_days(tmp_path, now=TODAY)

    assert not list(tmp_path.glob("*.tmp"))
    assert len(numbers(tmp_path)) == 6
