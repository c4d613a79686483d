"""Cancel a job that nothing was sent of: for its user, who was checked before, or an operator."""

from collections.abc import Callable
from contextlib import suppress

from app.domain.administration import AuditNote
from app.domain.errors import StoreUnavailable, TaskNotCancellable, TaskNotFound
from app.domain.job import Job, JobState
from app.domain.ports import Ledger, UpstreamLimiter
from app.domain.team_bounds import TeamBounds
from app.service.wait import JobWaiters

NOT_CANCELLABLE = "The task was already sent to the provider or has ended."


class CancelJob:
    """`limiter_of` finds the limits of the provider of a name, None for the main one."""

    def __init__(
        self,
        ledger: Ledger,
        waiters: JobWaiters,
        limiter_of: Callable[[str | None], UpstreamLimiter],
        bounds: TeamBounds | None = None,
    ) -> None:
        self._ledger, self._waiters = ledger, waiters
        self._limiter_of, self._bounds = limiter_of, bounds

    def held_to(self, bounds: TeamBounds) -> "CancelJob":
        """Only those that one team's users sent."""
        return CancelJob(self._ledger, self._waiters, self._limiter_of, bounds)

    async def as_operator(self, job_id: str, by: AuditNote) -> Job:
        """Of anybody within the bounds. Raises `TaskNotFound`, `TaskNotCancellable`."""
        job = await self._ledger.job(job_id)
        if job is None or (self._bounds is not None and not self._bounds.covers(job.team)):
            raise TaskNotFound
        return await self(job, by)

    async def __call__(self, job: Job, by: AuditNote | None = None) -> Job:
        """Raises `TaskNotCancellable` once it was dispatched."""
        if job.state not in (JobState.RESERVED, JobState.RELEASED):
            raise TaskNotCancellable(NOT_CANCELLABLE)
        settlement = await self._ledger.cancel(job.id, by)
        if settlement is None:
            raise TaskNotCancellable(NOT_CANCELLABLE)
        self._waiters.notify(settlement.job)
        with suppress(StoreUnavailable):  # otherwise `SlotReclaimer` frees them, seconds later
            await self._limiter_of(job.provider).release_all(job.id, len(job.parts))
        return settlement.job
