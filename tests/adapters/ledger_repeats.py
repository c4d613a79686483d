"""Which job a repeat joins (I7, I8, I12): what the model says of keys, attempts and hand-over."""

from ledger_house import Asked
from ledger_model import TASK, Bound, Model, ModelJob

from app.domain.job import JobState, TaskStatus

HANDOVER, VERDICT, OVERTAKEN, REPLAY = 120, 60, 5, 86_400
MOST = 16


class Reused(Exception):
    """The Idempotency-Key came with another body."""


def joins(books: Model, asked: Asked, now: int) -> ModelJob | None:
    """The job this request is answered from, and what joining changes. Raises `Reused`."""
    job = _by_key(books, asked, now)
    if job is None:
        job = _by_attempt(books, asked, now)
        if job is not None:
            bind(books, asked, job, now)
    if job is not None:
        job.abandoned = False
        if not asked.marked:
            job.overtook = None
    return job


def bind(books: Model, asked: Asked, job: ModelJob, now: int) -> None:
    """From now on the request's Idempotency-Key means this job, which stays as long as the key."""
    if asked.replay is None:
        return
    books.keys[asked.replay] = Bound(job.id, asked.body, now + REPLAY)
    books.binds += 1
    job.replay, job.bound, job.binding = asked.replay, now, books.binds
    if job.gone is not None:
        job.gone = max(job.gone, now + REPLAY)


def kept_until(books: Model, job: ModelJob, now: int) -> int:
    """Until when a job that ends now can be read."""
    bound = books.keys.get(job.replay or "")
    return max(now + TASK, now + HANDOVER, bound.until if bound else 0)


def _by_key(books: Model, asked: Asked, now: int) -> ModelJob | None:
    bound = books.keys.get(asked.replay or "")
    if bound is None or now >= bound.until:
        return None
    if bound.body != asked.body:
        raise Reused
    job = books.find(bound.job, now)
    if job is None or job.asks_again:
        return None
    verdict_is_old = job.state is JobState.RELEASED and now - (job.ended or 0) > VERDICT
    return None if verdict_is_old else job


def _by_attempt(books: Model, asked: Asked, now: int) -> ModelJob | None:
    """Without a key: the oldest identical request whose answer nobody got, or that its own retry
    overtook; for a marked retry also the newest one that can still be its answer."""
    attempts = [j for j in books.jobs.values() if (j.who[0], j.body) == (asked.who[0], asked.body)]
    alike = [
        job
        for job in sorted(attempts, key=lambda job: job.born)[-MOST:]
        if books.exists(job, now)
        and _can_answer(job, now)
        and not (job.replay and asked.replay and job.replay != asked.replay)
    ]
    for job in alike:
        if job.abandoned or (job.overtook is not None and now - job.overtook <= OVERTAKEN):
            return job
    return alike[-1] if alike and asked.marked else None


def _can_answer(job: ModelJob, now: int) -> bool:
    if job.asks_again:
        return False
    if job.ended is None:
        return True
    age = now - job.ended
    return age <= HANDOVER and not (job.status is TaskStatus.FAILED and age > VERDICT)
