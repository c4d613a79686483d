"""Use cases around a caller's own jobs: read, wait, list, cancel, fetch a picture."""

from contextlib import suppress

from app.domain.errors import (
    GatewayOverloaded,
    ImageNotFound,
    StoreUnavailable,
    TaskNotCancellable,
    TaskNotFound,
)
from app.domain.job import Job, JobState, is_visible
from app.domain.media import (
    IMAGE_NAME,
    IMAGE_STORE_UNAVAILABLE_MESSAGE,
    ImageSlice,
    ImageStoreUnavailable,
)
from app.domain.ports import ImageStore, Ledger, TaskList, UpstreamLimiter
from app.domain.principal import Principal
from app.domain.queries import TaskPage, TaskQuery
from app.service.wait import JobWaiters

NOT_CANCELLABLE = "The task was already sent to the provider or has ended."


class Tasks:
    def __init__(
        self,
        ledger: Ledger,
        listing: TaskList,
        waiters: JobWaiters,
        pictures: ImageStore,
        upstream_limiter: UpstreamLimiter,
    ) -> None:
        self._ledger, self._listing, self._upstream_limiter = ledger, listing, upstream_limiter
        self._waiters = waiters
        self._pictures = pictures

    async def read(self, principal: Principal, task_id: str, wait_s: float = 0) -> Job:
        """A task as it stands, or as it stands once it ended within `wait_s`.

        Raises `TaskNotFound`, the same for foreign, unknown and expired ids.
        """
        job = await self._visible(principal, task_id)
        if job.ended or wait_s <= 0:
            return job
        ended = await self._waiters.wait(task_id, wait_s)
        return ended.job if ended is not None else await self._visible(principal, task_id)

    async def list(self, principal: Principal, query: TaskQuery) -> TaskPage | None:
        """The caller's own; None when the task that the page is to follow is not among them."""
        return await self._listing.list_page(principal.user, query)

    async def cancel(self, principal: Principal, task_id: str) -> Job:
        """Raises `TaskNotFound`, or `TaskNotCancellable` once it was dispatched.

        Who may only see it (decision 11) may not end it either: its owner waits for it.
        """
        job = await self._visible(principal, task_id)
        if job.user != principal.user:
            raise TaskNotCancellable("Only the user who asked for this task can cancel it.")
        if job.state not in (JobState.RESERVED, JobState.RELEASED):
            raise TaskNotCancellable(NOT_CANCELLABLE)
        settlement = await self._ledger.cancel(task_id)
        if settlement is None:
            raise TaskNotCancellable(NOT_CANCELLABLE)
        self._waiters.notify(settlement.job)
        with suppress(StoreUnavailable):  # found out by the reconciliation, some seconds later
            await self._upstream_limiter.release_all(task_id, len(job.parts))
        return settlement.job

    async def picture(self, principal: Principal | None, name: str) -> ImageSlice:
        """A picture's first bytes: for its owner, or for anyone (None) whose link was verified.

        Raises `ImageNotFound`, and `GatewayOverloaded` while the image store is away.
        """
        if IMAGE_NAME.fullmatch(name) is None:
            raise ImageNotFound
        if principal is not None and not await self._owns(principal, name):
            raise ImageNotFound
        try:
            stored = await self._pictures.read(name)
        except ImageStoreUnavailable as error:
            raise GatewayOverloaded(IMAGE_STORE_UNAVAILABLE_MESSAGE) from error
        if stored is None:
            raise ImageNotFound
        return stored

    async def _visible(self, principal: Principal, task_id: str) -> Job:
        job = await self._ledger.job(task_id)
        if job is None or not job.is_visible_to(principal.user, principal.pool):
            raise TaskNotFound
        return job

    async def _owns(self, principal: Principal, name: str) -> bool:
        owner = await self._ledger.find_owner(name)
        if owner is None:
            return False
        return is_visible(owner, principal.user, principal.pool)
