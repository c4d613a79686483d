"""Use cases around a caller's own jobs: read, wait, list, cancel, fetch a picture."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from app.domain.errors import (
    GatewayOverloaded,
    ImageNotFound,
    LedgerUnavailable,
    TaskNotCancellable,
    TaskNotFound,
)
from app.domain.job import Job, TaskStatus
from app.domain.media import (
    IMAGE_NAME,
    IMAGE_STORE_UNAVAILABLE_MESSAGE,
    ImageSlice,
    ImageStoreUnavailable,
)
from app.domain.ports import ImageStore, Ledger, ResultCache, TaskList
from app.domain.principal import TEAM_POOL, Principal
from app.domain.queries import TaskPage, TaskQuery
from app.service.cancel_job import CancelJob
from app.service.shared_reads import SharedReads
from app.service.upstreams import Upstreams
from app.service.wait import EndedJob, JobWaiters

LOOKED_THROUGH = 100
"""Tasks read at a time to find the one of a picture."""


class Tasks:
    def __init__(
        self,
        ledger: Ledger,
        listing: TaskList,
        waiters: JobWaiters,
        pictures: ImageStore,
        upstreams: Upstreams,
        cache: ResultCache,
    ) -> None:
        self._ledger, self._listing, self._waiters = ledger, listing, waiters
        self._cancel_job = CancelJob(ledger, waiters, upstreams.limiter_of)
        self._pictures, self._cache = pictures, cache
        self._followed = SharedReads(ledger)

    async def read(self, principal: Principal, task_id: str, wait_s: float = 0) -> Job:
        """A task as it is now, or as it is when it ends within `wait_s`.

        Raises `TaskNotFound`, with the same text for foreign, unknown and expired ids.
        """
        job = self._waiters.recall(task_id)
        if job is not None and _may_see(principal, job):
            return job
        job = await self._visible(principal, task_id)
        if job.is_complete:
            self._waiters.notify(job)
        if job.ended or wait_s <= 0:
            return job
        news = await self._waiters.wait_for_news(task_id, wait_s)
        return news.job if isinstance(news, EndedJob) else await self._visible(principal, task_id)

    async def follow(
        self, principal: Principal, task_id: str, pause_s: float
    ) -> AsyncIterator[Job | None]:
        """A task as it is now and after each change, until it has ended; None whenever `pause_s`
        went by without a change. Raises `TaskNotFound`."""
        job = await self.read(principal, task_id)
        yield job
        while not job.ended:
            ended = await self._waiters.wait_for_signal(task_id, pause_s)
            try:
                latest = (
                    await self._look(principal, task_id, pause_s) if ended is None else ended.job
                )
            except LedgerUnavailable:
                latest = job
                await asyncio.sleep(pause_s)
            has_changed = _shown_state(latest) != _shown_state(job)
            job = latest
            yield job if has_changed else None

    async def list(self, principal: Principal, query: TaskQuery) -> TaskPage | None:
        """The caller's own tasks; None when the task that the page is to follow is not one."""
        own = replace(query, since_ms=principal.since_ms)
        return await self._listing.list_page(principal.user, own)

    async def cancel(self, principal: Principal, task_id: str) -> Job:
        """Raises `TaskNotFound`, or `TaskNotCancellable` once it was dispatched.

        A team mate who may see the task (decision 11) may not cancel it: its owner waits for it.
        """
        job = await self._visible(principal, task_id)
        if job.user != principal.user:
            raise TaskNotCancellable("Only the user who asked for this task can cancel it.")
        return await self._cancel_job(job)

    async def picture(self, principal: Principal | None, name: str) -> ImageSlice:
        """A picture's first bytes: for a principal who may see it, or for anyone (None) who has a
        verified link.

        Raises `ImageNotFound`, and `GatewayOverloaded` while the image store is away.
        """
        if IMAGE_NAME.fullmatch(name) is None:
            raise ImageNotFound
        if principal is not None and not await self._may_see_picture(principal, name):
            raise ImageNotFound
        try:
            stored = await self._pictures.read(name)
        except ImageStoreUnavailable as error:
            raise GatewayOverloaded(IMAGE_STORE_UNAVAILABLE_MESSAGE) from error
        if stored is None:
            raise ImageNotFound
        return stored

    async def delete_picture(self, principal: Principal, name: str) -> None:
        """Delete a picture of the caller's own. Its bytes are deleted, unless the caller's cache is
        shared: team mates keep what they may see. The cache forgets it in any case.

        Raises `ImageNotFound` for what is not the caller's, `GatewayOverloaded` while the image
        store or the cache is away: then a repeat deletes it.
        """
        owner = await self._ledger.find_owner(name) if IMAGE_NAME.fullmatch(name) else None
        if owner is None or owner[0] != principal.user:
            raise ImageNotFound
        job = await self._find_job_of(principal, name)
        # First what would go on giving it away; the owner last, so that a repeat can finish.
        if job is not None:
            await self._evict(job)
        if not owner[1].startswith(TEAM_POOL):
            await self._delete_bytes(name)
        found = await self._ledger.delete_picture(name, principal.user, job.id if job else "")
        if found is None:
            raise ImageNotFound
        if job is not None:
            self._waiters.forget(job.id)

    async def _evict(self, job: Job) -> None:
        variant = job.cache_variant
        if variant is not None and not await self._cache.evict(variant, job.id):
            raise GatewayOverloaded("The cache is away; nothing was deleted. Try again shortly.")

    async def _delete_bytes(self, name: str) -> None:
        try:
            await self._pictures.delete(name)
        except ImageStoreUnavailable as error:
            raise GatewayOverloaded(IMAGE_STORE_UNAVAILABLE_MESSAGE) from error

    async def _find_job_of(self, principal: Principal, name: str) -> Job | None:
        """The caller's task that made a picture; None when its record has expired."""
        after: str | None = None
        while True:
            page = await self.list(
                principal, TaskQuery(LOOKED_THROUGH, after, status=TaskStatus.COMPLETED)
            )
            for job in page.tasks if page is not None else ():
                if any(picture.name == name for picture in job.pictures):
                    return await self._ledger.job(job.id)
            if page is None or not page.more or not page.tasks:
                return None
            after = page.tasks[-1].id

    async def _visible(self, principal: Principal, task_id: str) -> Job:
        return _shown_to(principal, await self._ledger.job(task_id))

    async def _look(self, principal: Principal, task_id: str, pause_s: float) -> Job:
        return _shown_to(principal, await self._followed.job(task_id, pause_s))

    async def _may_see_picture(self, principal: Principal, name: str) -> bool:
        owner = await self._ledger.find_owner(name)
        return owner is not None and principal.may_see(*owner)


def _shown_to(principal: Principal, job: Job | None) -> Job:
    if job is None or not _may_see(principal, job):
        raise TaskNotFound
    return job


def _may_see(principal: Principal, job: Job) -> bool:
    is_another = job.user == principal.user and job.created_ms < principal.since_ms
    return principal.may_see(job.user, job.pool) and not is_another


def _shown_state(job: Job) -> tuple[object, ...]:
    """What a change of a task is, for those who follow it."""
    return job.status, job.progress, job.collecting, job.ended
