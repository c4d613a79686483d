"""What a caller is told when it has fewer pictures than it asked for."""

from dataclasses import dataclass

from app.domain.job import Job, TaskStatus


@dataclass(frozen=True, slots=True)
class Incomplete:
    """`asked` images, of which `delivered` are here and `pending` are still being collected: they
    are added to the same task. `reason` never holds a link."""

    asked: int
    delivered: int
    pending: int
    reason: str


def incomplete(job: Job) -> Incomplete | None:
    """None for a job that is whole, or has not ended with pictures."""
    if job.status is not TaskStatus.COMPLETED or job.whole:
        return None
    here, pending = len(job.pictures), len(job.pending)
    if pending:
        why = job.collecting.last_error if job.collecting is not None else None
        reason = f"still being collected: {why or 'not downloaded yet'}"
    elif job.billed > here:
        reason = "charged, but neither the provider's link nor its task brought the rest"
    else:
        reason = "the provider made fewer images than were asked for"
    return Incomplete(job.n, here, pending, reason)
