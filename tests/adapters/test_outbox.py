"""What the store could not be told, as it lies on disk until it is delivered."""

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
from app.service.timings import JobTimings
from app.service.upstreams import AbsentProvider, Upstream, Upstreams
from app.service.wait import JobWaiters
from app.settings import Settings
from app.wiring.adapters import open_metrics
from app.wiring.catalog_file import read_catalog
from app.wiring.loops import report_work_failure

PICTURE = Picture("img_1.png", "image/png", 8, 8, "a koi")
LOST = FailureNote("upstream_ambiguous", "lost", charged=True)
MESSAGES: tuple[OutboxMessage, ...] = (
    OutboxOutcome(
        "task_1", Outcome(JobState.SETTLED, (PICTURE,), billed=1, calls=("up_1", "req_1"))
    ),
    OutboxOutcome("task_2", Outcome(JobState.UNKNOWN, proof=BillingEvidence.UNKNOWN, failure=LOST)),
    OutboxPart("task_3", 0, upstream_id="up_3", request_id="req_3"),
    OutboxPart("task_4", 1, result=PartResult(1, (PICTURE,)), request_id="req_4"),
    OutboxPart("task_5", 0, result=PartResult(failure=LOST, proof=BillingEvidence.UNKNOWN)),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
async def test_a_message_is_read_back_as_it_was_enqueued_and_gone_once_acknowledged(
    tmp_path: Path, message: OutboxMessage
) -> None:
    assert await FileOutbox(tmp_path).enqueue(message)

    assert await FileOutbox(tmp_path).pending() == [message]
    await FileOutbox(tmp_path).ack(message)
    assert await FileOutbox(tmp_path).pending() == ()


async def test_a_message_replaced_while_it_was_delivered_stays_in_the_outbox(
    tmp_path: Path,
) -> None:
    poor, rich = MESSAGES[1], OutboxOutcome("task_2", delivered(1))
    await FileOutbox(tmp_path).enqueue(poor)
    (read,) = await FileOutbox(tmp_path).pending()
    await FileOutbox(tmp_path).enqueue(rich)

    await FileOutbox(tmp_path).ack(read)
    await FileOutbox(tmp_path).dead_letter(read, "unlawful")

    assert await FileOutbox(tmp_path).pending() == [rich]


async def test_messages_of_a_version_without_the_providers_ids_are_still_delivered(
    tmp_path: Path,
) -> None:
    for message in MESSAGES:
        await FileOutbox(tmp_path).enqueue(message)
    for file in tmp_path.glob("*.json"):
        row = orjson.loads(file.read_bytes())
        row.pop("request_id", None)
        row.get("outcome", {}).pop("calls", None)
        file.write_bytes(orjson.dumps(row))

    assert [message.name for message in await FileOutbox(tmp_path).pending()] == [
        d.name for d in MESSAGES
    ]


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
async def test_files_that_are_no_messages_are_set_aside_and_the_rest_is_read(
    tmp_path: Path, bad: str
) -> None:
    outbox = FileOutbox(tmp_path)
    for message in MESSAGES:
        await outbox.enqueue(message)
    BAD[bad](tmp_path / "task_0.json")
    assert inspect_outbox(tmp_path).unreadable == ("task_0.json",)

    assert await outbox.pending() == list(MESSAGES)

    found = inspect_outbox(tmp_path)
    assert (found.unreadable, found.waiting, outbox.count_dead_letters()) == ((), len(MESSAGES), 1)
    assert found.damaged[0].startswith("task_0.json.")


async def test_a_refused_message_becomes_a_dead_letter(tmp_path: Path) -> None:
    outbox = FileOutbox(tmp_path)
    await outbox.enqueue(MESSAGES[0])

    await outbox.dead_letter(MESSAGES[0], "charged more images than were reserved")

    assert await outbox.pending() == ()
    assert outbox.count_dead_letters() == 1


async def test_a_message_the_ledger_refuses_delays_no_other(
    store: BatchingStore, tmp_path: Path
) -> None:
    """Unlawful: set aside. Failing otherwise: kept, and tried again later."""
    ledger, outbox = ledger_on(store), FileOutbox(tmp_path)
    jobs = sorted([await started(ledger, admission()) for _ in range(3)])
    for job_id, images in zip(jobs, (7, 1, 1), strict=True):
        outcome = delivered(1) if images == 1 else replace(delivered(1), billed=7)
        await outbox.enqueue(OutboxOutcome(job_id, outcome))
    with settler_on(store, outbox, Failing(ledger, jobs[1])) as settler:
        assert await settler.deliver_all() == 1
        assert await settler.deliver_all() == 1

    assert [entry.job async for entry in ledger.entries()] == [jobs[2]]
    assert [message.name for message in await outbox.pending()] == [jobs[1]]
    assert outbox.count_dead_letters() == 1


async def test_an_end_that_says_more_than_one_whose_reply_was_lost_adds_its_pictures(
    store: BatchingStore, tmp_path: Path
) -> None:
    ledger, outbox = ledger_on(store), FileOutbox(tmp_path)
    job_id = await started(ledger, admission(n=2))
    made = tuple(Picture(f"{picture_stem(job_id, 0, i)}.png", "image/png", 8, 8) for i in (0, 1))
    early = Outcome(
        JobState.SETTLED, billed=2, pending=tuple(PendingImage(0, i, "") for i in (0, 1))
    )
    await ledger.settle(job_id, early, collect_ms=60_000)
    await ledger.record_collection(job_id, CollectionReport(lost=early.pending[:1], due_ms=60_000))
    await outbox.enqueue(OutboxOutcome(job_id, Outcome(JobState.SETTLED, made, billed=2)))

    with settler_on(store, outbox, ledger) as settler:
        assert await settler.deliver_all() == 0

    job = await ledger.job(job_id)
    assert job is not None
    assert (job.status, job.pictures, job.pending) == (TaskStatus.COMPLETED, made, ())
    assert sum([entry.delivered async for entry in ledger.entries()]) == 2
    assert sum([entry.images async for entry in ledger.entries()]) == 2


async def test_a_message_without_a_disk_outlives_a_script_that_fails_on_it(
    store: BatchingStore, tmp_path: Path
) -> None:
    ledger = ledger_on(store)
    job_id = await started(ledger, admission())
    no_directory = tmp_path / "a file"
    no_directory.write_text("")
    failing = Failing(ledger, job_id, times=1)
    with settler_on(store, FileOutbox(no_directory), failing) as settler:
        await settler.enqueue(OutboxOutcome(job_id, delivered(1)))
        await settler.background.wait_until_idle(20)

    assert [entry.job async for entry in ledger.entries()] == [job_id]
    assert failing.left == 0


async def test_messages_that_another_process_delivered_are_not_put_off_for_ever(
    store: BatchingStore, tmp_path: Path
) -> None:
    ledger, outbox = ledger_on(store), FileOutbox(tmp_path)
    job_id = await started(ledger, admission())
    await outbox.enqueue(OutboxOutcome(job_id, delivered(1)))
    with settler_on(store, outbox, Failing(ledger, job_id)) as settler:
        assert await settler.deliver_all() == 1
        (tmp_path / f"{job_id}.json").unlink()
        assert await settler.deliver_all() == 0

        assert settler.retry_at == {}


@contextlib.contextmanager
def settler_on(store: BatchingStore, outbox: Outbox, ledger: Any) -> Iterator[JobSettler]:
    limiter = RedisUpstreamLimiter(store, UpstreamLimits())
    metrics = open_metrics(Settings(_env_file=None), read_catalog(Settings(_env_file=None)))
    try:
        yield JobSettler(
            ledger=ledger,
            cache=RedisResultCache(store, ttl_s=60, variants=2, lease_s=60),
            upstreams=Upstreams(Upstream(None, AbsentProvider("main", str), limiter, JobTimings())),
            waiters=JobWaiters(ledger),
            outbox=outbox,
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
