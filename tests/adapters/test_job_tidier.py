"""A job that ended long ago keeps what is asked for, and takes little room (decision 59)."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import redis
from store_rig import (
    Engine,
    admission,
    delivered,
    pictures,
    released,
    started,
    unknown,
)
from test_backup import back_up, other, other_engine, other_server, put_back
from test_ledger_rebuild import Host

from app.adapters.journal.file import FileJournal
from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.job_tidier import JobTidier
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.task_list import RedisTaskList
from app.domain.job import JobState, Outcome, PartResult, PendingImage
from app.domain.queries import TaskQuery
from app.service.job_story import read_story
from app.settings import build_settings
from app.wiring.stores import open_scripts, open_store
from app.wiring.stores import store as opened_store
from bench.growth_journal import JOB, run_job

__all__ = ("other", "other_engine", "other_server")

MAX_BYTES = 600
"""Of an ended job with one picture and a revised prompt of 90 letters (issue 9)."""
NOW = timedelta(0)


async def tidy(scripts: LedgerScripts) -> int:
    """Everything that ended before now."""
    await asyncio.sleep(0.003)
    tidier, steps = JobTidier(scripts, timedelta(days=30)), 0
    while await tidier.step(NOW):
        steps += 1
    return steps


async def test_an_ended_job_takes_at_most_six_hundred_bytes(tmp_path: Path) -> None:
    settings = build_settings(data_dir=tmp_path, upstream_api_key="sk-x")
    async with AsyncExitStack() as stack:
        urls = stack.enter_context(opened_store(settings))
        journal = FileJournal(tmp_path / "journal")
        stack.callback(journal.close)
        scripts = open_scripts(open_store(stack, settings, urls.ledger), journal, settings)
        await scripts.open()
        await run_job(scripts)
        with redis.Redis.from_url(urls.ledger) as client:
            key = keyspace.key("job", JOB)
            before = client.memory_usage(key, samples=0)
            await tidy(scripts)
            after = client.memory_usage(key, samples=0)

    assert (before > 850, after <= MAX_BYTES) == (True, True), (before, after)


async def ended(host: Host, n: int = 2) -> str:
    """A job with everything that ever stands in a record."""
    wanted = admission(n=n, request_id="req_1", idempotency_key="a key")
    job_id = await started(host.ledger, wanted)
    done = PartResult(images=n, pictures=pictures(n))
    await host.ledger.record_part(
        job_id, 0, upstream_id=f"up_{job_id}", request_id="req_2", due_ms=60_000
    )
    await host.ledger.record_part(job_id, 0, result=done, due_ms=60_000)
    made = tuple(replace(one, revised_prompt='Ein Köi / "im" 星') for one in pictures(n)[:1])
    outcome = Outcome(
        JobState.SETTLED, (*made, *pictures(n)[1:]), billed=n, calls=(f"up_{job_id}", "req_2")
    )
    await host.ledger.settle(job_id, outcome)
    return job_id


async def test_it_says_the_same_as_before_with_its_entry(store: BatchingStore) -> None:
    host = Host.on(store)
    job_id = await ended(host)
    before = await host.ledger.job(job_id)
    user = before.user if before else ""
    listed = await RedisTaskList(host.ledger._scripts).list_page(user, TaskQuery(limit=10))

    await tidy(host.ledger._scripts)

    job, story = await host.ledger.job(job_id), await read_story(host.ledger, job_id)
    assert before is not None
    assert job is not None
    plain = tuple(replace(p, upstream_id=None, request_id=None) for p in before.parts)
    assert job == replace(before, parts=plain, calls=(), dispatched_ms=None)
    assert story.job == replace(before, parts=plain)
    assert await RedisTaskList(host.ledger._scripts).list_page(user, TaskQuery(limit=10)) == listed
    assert await tidy(host.ledger._scripts) == 0


async def test_it_can_be_reported_on_and_repeated_as_before(
    store: BatchingStore, engine: Engine
) -> None:
    host = Host.on(store)
    job_id = await ended(host)
    with engine.client() as client:
        key = client.hget(keyspace.key("job", job_id), "replay")
        assert key
        client.hset(keyspace.key("job", job_id), "bound", "1")
    await tidy(host.ledger._scripts)
    job = await host.ledger.job(job_id)

    assert not (await host.ledger.settle(job_id, delivered(2))).first
    assert not (await host.ledger.settle(job_id, released())).first
    assert not await host.ledger.dispatch(job_id, 60_000)
    await host.ledger.abandon(job_id)
    assert job is not None
    assert await host.ledger.find_owner(job.pictures[0].name)
    assert (await host.ledger.audit()).difference == 0


async def test_what_is_not_over_stays_as_it_is(store: BatchingStore, engine: Engine) -> None:
    host = Host.on(store)
    open_job = await started(host.ledger, admission())
    doubtful = await started(host.ledger, admission())
    await host.ledger.settle(doubtful, unknown(), hold_ms=60_000)
    collecting = await started(host.ledger, admission())
    link = PendingImage(0, 0, "https://cdn.test/a.png")
    await host.ledger.settle(
        collecting, Outcome(JobState.SETTLED, billed=1, pending=(link,)), collect_ms=60_000
    )
    cancelled = (await host.ledger.admit(admission())).job.id
    await host.ledger.cancel(cancelled)
    ids = (open_job, doubtful, collecting, cancelled)
    with engine.client() as client:
        before = [client.hgetall(keyspace.key("job", id)) for id in ids]
        await tidy(host.ledger._scripts)
        assert [client.hgetall(keyspace.key("job", id)) for id in ids] == before


async def test_a_job_of_the_last_two_days_stays_as_it_is(
    store: BatchingStore, engine: Engine
) -> None:
    host = Host.on(store)
    job_id = await ended(host)

    assert not await JobTidier(host.ledger._scripts, timedelta(days=30)).step()
    with engine.client() as client:
        assert client.hget(keyspace.key("job", job_id), "calls")


async def test_a_backup_and_a_rebuild_have_it_once(
    store: BatchingStore, engine: Engine, other: Host, tmp_path: Path
) -> None:
    host = Host.on(store)
    job_id = await ended(host)
    await tidy(host.ledger._scripts)
    before = await host.ledger.job(job_id)

    end = await back_up(host, tmp_path / "b")
    await put_back(tmp_path / "b", other)
    with engine.client() as client:
        client.set(keyspace.key("suspect"), "a test")
    await host.rebuild()

    assert end.counts["job"] == 1
    assert await other.ledger.job(job_id) == before
    assert before is not None
    assert await other.ledger.find_owner(before.pictures[1].name)
    rebuilt = await host.ledger.job(job_id)
    assert rebuilt is not None
    assert rebuilt.pictures == before.pictures
    assert (await host.ledger.audit()).difference == 0
