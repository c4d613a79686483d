"""What is owed to the store, as it lies on disk until it is paid."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.exceptions import ResponseError
from store_rig import admission, delivered, ledger_on, started

from app.adapters.journal.outbox import FileOutbox, inspect_outbox
from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter, UpstreamLimits
from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import Picture
from app.domain.job import (
    JobState,
    Outcome,
    PartResult,
    PendingImage,
    TaskStatus,
    picture_stem,
)
from app.domain.journal import Outbox, OutboxMessage, OutboxOutcome, OutboxPart
from app.domain.ledger import CollectionReport
from app.service.background import BackgroundTasks
from app.service.settle import JobSettler
from app.service.wait import JobWaiters
from app.settings import Settings
from app.wiring.adapters import open_metrics, read_catalog
from app.wiring.loops import report_work_failure

PICTURE = Picture("img_1.png", "image/png", 8, 8, "a koi")
LOST = FailureNote("upstream_ambiguous", "lost", charged=True)
DEBTS: tuple[OutboxMessage, ...] = (
    OutboxOutcome(
        "task_1", Outcome(JobState.SETTLED, (PICTURE,), billed=1, calls=("up_1", "req_1"))
    ),
    OutboxOutcome("task_2", Outcome(JobState.UNKNOWN, proof=BillingEvidence.UNKNOWN, failure=LOST)),
    OutboxPart("task_3", 0, upstream_id="up_3", request_id="req_3"),
    OutboxPart("task_4", 1, result=PartResult(1, (PICTURE,)), request_id="req_4"),
    OutboxPart("task_5", 0, result=PartResult(failure=LOST, proof=BillingEvidence.UNKNOWN)),
)


@pytest.mark.parametrize("debt", DEBTS, ids=lambda debt: debt.name)
async def test_a_debt_is_read_back_as_it_was_owed_and_gone_once_paid(
    tmp_path: Path, debt: OutboxMessage
) -> None:
    assert await FileOutbox(tmp_path).enqueue(debt)

    assert await FileOutbox(tmp_path).pending() == [debt]
    await FileOutbox(tmp_path).ack(debt)
    assert await FileOutbox(tmp_path).pending() == ()


async def test_a_debt_that_was_replaced_while_it_was_paid_is_still_owed(tmp_path: Path) -> None:
    poor, rich = DEBTS[1], OutboxOutcome("task_2", delivered(1))
    await FileOutbox(tmp_path).enqueue(poor)
    (read,) = await FileOutbox(tmp_path).pending()
    await FileOutbox(tmp_path).enqueue(rich)

    await FileOutbox(tmp_path).ack(read)
    await FileOutbox(tmp_path).dead_letter(read, "unlawful")

    assert await FileOutbox(tmp_path).pending() == [rich]


async def test_debts_of_a_version_without_the_providers_names_are_still_paid(
    tmp_path: Path,
) -> None:
    for debt in DEBTS:
        await FileOutbox(tmp_path).enqueue(debt)
    for file in tmp_path.glob("*.json"):
        row = orjson.loads(file.read_bytes())
        row.pop("request_id", None)
        row.get("outcome", {}).pop("calls", None)
        file.write_bytes(orjson.dumps(row))

    assert [debt.name for debt in await FileOutbox(tmp_path).pending()] == [d.name for d in DEBTS]


BAD = {
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: file.write_bytes(b'{"job_id":"task_9","outcome":{"sta'),
    "zeros": lambda file: file.write_bytes(bytes(512)),
    "foreign": lambda file: file.write_bytes(b'{"hello":"world"}'),
    "no object": lambda file: file.write_bytes(b"[1]"),
    "a newer version's": lambda file: file.write_bytes(
        b'{"job_id":"task_9","outcome":{"state":"Q","pictures":[],"proof":null,"failure":null}}'
    ),
    "a directory": lambda file: file.mkdir(),
}


@pytest.mark.parametrize("bad", BAD)
async def test_what_is_no_debt_is_set_aside_and_the_rest_is_read(tmp_path: Path, bad: str) -> None:
    debts = FileOutbox(tmp_path)
    for debt in DEBTS:
        await debts.enqueue(debt)
    BAD[bad](tmp_path / "task_0.json")
    assert inspect_outbox(tmp_path).unreadable == ("task_0.json",)

    assert await debts.pending() == list(DEBTS)

    found = inspect_outbox(tmp_path)
    assert (found.unreadable, found.waiting, debts.count_dead_letters()) == ((), len(DEBTS), 1)
    assert found.damaged[0].startswith("task_0.json.")


async def test_a_refused_debt_is_kept_out_of_the_way(tmp_path: Path) -> None:
    debts = FileOutbox(tmp_path)
    await debts.enqueue(DEBTS[0])

    await debts.dead_letter(DEBTS[0], "charged more images than were reserved")

    assert await debts.pending() == ()
    assert debts.count_dead_letters() == 1


async def test_a_debt_the_books_refuse_keeps_nobody_waiting(
    store: BatchingStore, tmp_path: Path
) -> None:
    """Unlawful: set aside. Failing otherwise: kept, and tried again later."""
    ledger, debts = ledger_on(store), FileOutbox(tmp_path)
    jobs = sorted([await started(ledger, admission()) for _ in range(3)])
    for job_id, images in zip(jobs, (7, 1, 1), strict=True):
        outcome = delivered(1) if images == 1 else replace(delivered(1), billed=7)
        await debts.enqueue(OutboxOutcome(job_id, outcome))
    with books_on(store, debts, Failing(ledger, jobs[1])) as books:
        assert await books.deliver_all() == 1
        assert await books.deliver_all() == 1

    assert [entry.job async for entry in ledger.entries()] == [jobs[2]]
    assert [debt.name for debt in await debts.pending()] == [jobs[1]]
    assert debts.count_dead_letters() == 1


async def test_an_end_that_says_more_than_one_whose_reply_was_lost_adds_its_pictures(
    store: BatchingStore, tmp_path: Path
) -> None:
    ledger, debts = ledger_on(store), FileOutbox(tmp_path)
    job_id = await started(ledger, admission(n=2))
    made = tuple(Picture(f"{picture_stem(job_id, 0, i)}.png", "image/png", 8, 8) for i in (0, 1))
    early = Outcome(
        JobState.SETTLED, billed=2, pending=tuple(PendingImage(0, i, "") for i in (0, 1))
    )
    await ledger.settle(job_id, early, collect_ms=60_000)
    await ledger.record_collection(job_id, CollectionReport(lost=early.pending[:1], due_ms=60_000))
    await debts.enqueue(OutboxOutcome(job_id, Outcome(JobState.SETTLED, made, billed=2)))

    with books_on(store, debts, ledger) as books:
        assert await books.deliver_all() == 0

    job = await ledger.job(job_id)
    assert job is not None
    assert (job.status, job.pictures, job.pending) == (TaskStatus.COMPLETED, made, ())
    assert sum([entry.delivered async for entry in ledger.entries()]) == 2
    assert sum([entry.images async for entry in ledger.entries()]) == 2


async def test_a_debt_without_a_disk_outlives_a_script_that_breaks_on_it(
    store: BatchingStore, tmp_path: Path
) -> None:
    ledger = ledger_on(store)
    job_id = await started(ledger, admission())
    no_directory = tmp_path / "a file"
    no_directory.write_text("")
    failing = Failing(ledger, job_id, times=1)
    with books_on(store, FileOutbox(no_directory), failing) as books:
        await books.enqueue(OutboxOutcome(job_id, delivered(1)))
        await books.background.wait_until_idle(20)

    assert [entry.job async for entry in ledger.entries()] == [job_id]
    assert failing.left == 0


async def test_debts_that_somebody_else_paid_are_not_put_off_for_ever(
    store: BatchingStore, tmp_path: Path
) -> None:
    ledger, debts = ledger_on(store), FileOutbox(tmp_path)
    job_id = await started(ledger, admission())
    await debts.enqueue(OutboxOutcome(job_id, delivered(1)))
    with books_on(store, debts, Failing(ledger, job_id)) as books:
        assert await books.deliver_all() == 1
        (tmp_path / f"{job_id}.json").unlink()
        assert await books.deliver_all() == 0

        assert books.retry_at == {}


@contextlib.contextmanager
def books_on(store: BatchingStore, debts: Outbox, ledger: Any) -> Iterator[JobSettler]:
    metrics = open_metrics(Settings(_env_file=None), read_catalog(Settings(_env_file=None)))
    try:
        yield JobSettler(
            ledger=ledger,
            cache=RedisResultCache(store, ttl_s=60, variants=2, lease_s=60),
            upstream_limiter=RedisUpstreamLimiter(store, UpstreamLimits()),
            waiters=JobWaiters(ledger),
            outbox=debts,
            recorder=metrics,
            background=BackgroundTasks(partial(report_work_failure, metrics)),
            resolve_after_s=60,
        )
    finally:
        metrics.close()


class Failing:
    """A ledger whose script breaks on one job."""

    def __init__(self, ledger: RedisLedger, job_id: str, times: int = 1000) -> None:
        self._ledger, self._job_id, self.left = ledger, job_id, times

    async def settle(self, job_id: str, outcome: Outcome, **waits: int) -> object:
        if job_id == self._job_id and self.left:
            self.left -= 1
            raise ResponseError("ERR a bug of ours")
        return await self._ledger.settle(job_id, outcome, **waits)
