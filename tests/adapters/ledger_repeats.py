"""Which job a repeat joins (I7, I8, I12): what the model says of keys, attempts and hand-over."""

from collections.abc import Mapping
from typing import Any

from ledger_config import Asked
from ledger_model import KeyBinding, Model, ModelJob

from app.domain.job import JobState, TaskStatus

HANDOVER, VERDICT, REPEAT, OVERTAKEN, DOUBT, REPLAY = 120, 60, 12, 5, 5, 86_400
MOST = 16

Presences = Mapping[str, str] | None
"""What is known of earlier callers, by call; None when nobody asks."""


class Reused(Exception):
    """The Idempotency-Key came with another body."""


def joins(
    model: Model, asked: Asked, call: str, callers: Presences, now: int, by: Any = None
) -> ModelJob | None:
    """The job this request is answered from, and what joining changes. Raises `Reused`."""
    job = _by_key(model, asked, now)
    takes_over = job is not None and job.abandoned
    if job is None:
        job, takes_over = _by_attempt(model, asked, callers, now)
        if job is not None:
            bind_earlier(model, asked, job, now, by)
    if job is not None:
        job.abandoned = False
        if not asked.is_sdk_retry:
            job.overtook = None
        if job.status is TaskStatus.FAILED:
            job.told = now
        if takes_over:
            job.heir, job.received = call, False
    return job


def doubts(model: Model, asked: Asked, callers: Presences, now: int) -> set[str]:
    """The calls whose callers must be asked first. Raises `Reused`."""
    if callers is None or _by_key(model, asked, now) is not None:
        return set()
    alike = _alike(model, asked, now)
    if any(_lost(job, callers, now) for job in alike):
        return set()
    return {job.holder for job in alike if job.holder not in callers and _in_doubt(job, now)}


def bind(model: Model, asked: Asked, job: ModelJob, now: int) -> None:
    """From now on the request's Idempotency-Key means this job, which stays as long as the key."""
    if asked.replay is None:
        return
    model.keys[asked.replay] = KeyBinding(job.id, asked.body, now + REPLAY)
    model.binds += 1
    job.replay, job.bound, job.binding = asked.replay, now, model.binds
    if job.gone is not None:
        job.gone = max(job.gone, now + REPLAY)


def bind_earlier(model: Model, asked: Asked, job: ModelJob, now: int, by: Any = None) -> None:
    """The same for a job that was there before: that takes a number, once for each key."""
    bind(model, asked, job, now)
    if asked.replay is not None and job.tied != asked.replay:
        job.tied = asked.replay
        model.record_change(job.id, by)


def kept_until(model: Model, job: ModelJob, now: int) -> int:
    """Until when a job that ends now can be read."""
    bound = model.keys.get(job.replay or "")
    return max(now + job.ttl, now + HANDOVER, bound.until if bound else 0)


def _by_key(model: Model, asked: Asked, now: int) -> ModelJob | None:
    bound = model.keys.get(asked.replay or "")
    if bound is None or now >= bound.until:
        return None
    if bound.body != asked.body:
        raise Reused
    job = model.find(bound.job, now)
    if job is None or job.asks_again:
        return None
    verdict_is_old = job.state is JobState.RELEASED and now - (job.ended or 0) > VERDICT
    return None if verdict_is_old else job


def _by_attempt(
    model: Model, asked: Asked, callers: Presences, now: int
) -> tuple[ModelJob | None, bool]:
    """Without a key: the oldest identical request whose answer nobody got; for an SDK's retry also
    the newest whose answer its caller has not received; the newest failure told just now. Second,
    whether this request takes its caller's place."""
    alike = _alike(model, asked, now)
    lost = [job for job in alike if _lost(job, callers, now)]
    waiting = [job for job in alike if asked.is_sdk_retry and not job.received]
    told = [job for job in alike if _told_lately(job, asked, now)]
    if lost or waiting:
        return lost[0] if lost else waiting[-1], True
    return told[-1] if told else None, False


def _alike(model: Model, asked: Asked, now: int) -> list[ModelJob]:
    attempts = [j for j in model.jobs.values() if (j.who[0], j.body) == (asked.who[0], asked.body)]
    return [
        job
        for job in sorted(attempts, key=lambda job: job.born)[-MOST:]
        if model.exists(job, now)
        and _can_answer(job, now)
        and not (job.replay and asked.replay and job.replay != asked.replay)
    ]


def _lost(job: ModelJob, callers: Presences, now: int) -> bool:
    presence = (callers or {}).get(job.holder)
    gone = presence == "left" or (presence == "silent" and job.ended is None)
    late = job.overtook is not None and now - job.overtook <= OVERTAKEN
    return job.abandoned or gone or late


def _in_doubt(job: ModelJob, now: int) -> bool:
    if job.received or job.status is TaskStatus.FAILED:
        return False
    return job.ended is None or now - job.ended <= DOUBT


def _told_lately(job: ModelJob, asked: Asked, now: int) -> bool:
    if asked.fresh or asked.replay or job.replay or job.status is not TaskStatus.FAILED:
        return False
    if job.failure is not None and job.failure.code == "task_cancelled":
        return False
    told = job.ended if job.told is None else job.told
    assert told is not None
    return now - told <= REPEAT


def _can_answer(job: ModelJob, now: int) -> bool:
    if job.asks_again:
        return False
    if job.ended is None:
        return True
    age = now - job.ended
    return age <= HANDOVER and not (job.status is TaskStatus.FAILED and age > VERDICT)
