"""Use cases around a caller's own jobs: read, wait, list, cancel, fetch a picture."""

from contextlib import suppress

from app.domain.errors import (
    ImageNotFound,
    LedgerUnavailable,
    Overloaded,
    TaskNotCancellable,
    TaskNotFound,
)
from app.domain.job import Job, JobState, visible
from app.domain.listing import PageQuery, TaskPage
from app.domain.media import IMAGE_NAME, STORE_AWAY, ImageSlice, ImageStoreUnavailable
from app.domain.ports import Governor, ImageStore, Ledger, TaskList
from app.domain.principal import Principal
from app.service.completions import Completions

NOT_CANCELLABLE = "The task was already sent to the provider or has ended."


class Tasks:
    def __init__(
        self,
        ledger: Ledger,
        listing: TaskList,
        completions: Completions,
        pictures: ImageStore,
        governor: Governor,
    ) -> None:
        self._ledger, self._listing, self._governor = ledger, listing, governor
        self._completions = completions
        self._pictures = pictures

    async def read(self, principal: Principal, task_id: str, wait_s: float = 0) -> Job:
        """A task as it stands, or as it stands once it ended within `wait_s`.

        Raises `TaskNotFound`, the same for foreign, unknown and expired ids.
        """
        job = await self._visible(principal, task_id)
        if job.ended or wait_s <= 0:
            return job
        ended = await self._completions.wait(task_id, wait_s)
        return ended.job if ended is not None else await self._visible(principal, task_id)

    async def list(self, principal: Principal, query: PageQuery) -> TaskPage | None:
        """The caller's own; None when the task that the page is to follow is not among them."""
        return await self._listing.page(principal.user, query)

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
        self._completions.announce(settlement.job)
        with suppress(LedgerUnavailable):  # found out by the reconciliation, some seconds later
            await self._governor.withdraw(task_id, len(job.parts))
        return settlement.job

    async def picture(self, principal: Principal | None, name: str) -> ImageSlice:
        """A picture's first bytes: for its owner, or for anyone (None) whose link was verified.

        Raises `ImageNotFound`, and `Overloaded` while the image store is away.
        """
        if IMAGE_NAME.fullmatch(name) is None:
            raise ImageNotFound
        if principal is not None and not await self._owns(principal, name):
            raise ImageNotFound
        try:
            stored = await self._pictures.read(name)
        except ImageStoreUnavailable as error:
            raise Overloaded(STORE_AWAY) from error
        if stored is None:
            raise ImageNotFound
        return stored

    async def _visible(self, principal: Principal, task_id: str) -> Job:
        job = await self._ledger.job(task_id)
        if job is None or not job.visible_to(principal.user, principal.pool):
            raise TaskNotFound
        return job

    async def _owns(self, principal: Principal, name: str) -> bool:
        owner = await self._ledger.owner_of(name)
        if owner is None:
            return False
        return visible(owner, principal.user, principal.pool)
