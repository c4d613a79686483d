"""From the provider's answer to the caller's pictures: the job is settled, and delivery follows.

The settlement waits a short time for the downloads, so that it usually is a single write. Later
downloads are reported as they end, until the rest is left to the collector of any process.
"""

import asyncio
import random
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.domain.errors import LedgerUnavailable, TaskNotFound
from app.domain.images import Picture, ProviderImage
from app.domain.job import Job, JobPart
from app.domain.ledger import CollectionReport, CollectionTimings
from app.service.background import BackgroundTasks, job_task_name
from app.service.downloads import (
    GRACE_S,
    DownloadMiss,
    ImageDownload,
    ImageDownloader,
    PartDownloads,
)
from app.service.lease import LEASE_MS, RENEW_S
from app.service.settle import HELD_LEASE_MS, JobSettler

MAX_WAIT_S = 10.0
"""A caller that has some pictures waits no longer than this for the quick tries of the others."""
STORE_FULL_REASON = "the image store takes nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinisher:
    downloader: ImageDownloader
    settler: JobSettler
    background: BackgroundTasks
    timings: CollectionTimings

    async def start(self, job: Job, part: int, images: tuple[ProviderImage, ...]) -> PartDownloads:
        """Start a part's downloads, and wait a short time for them."""
        downloads = self.downloader.start(job, part, images)
        await downloads.wait(GRACE_S)
        return downloads

    async def settle_parts(
        self,
        job: Job,
        parts: Sequence[JobPart],
        coming: Mapping[int, PartDownloads],
        upstream_s: float | None = None,
    ) -> None:
        """Settle a job all of whose parts have ended; `coming` are running downloads, by part."""
        settling = _ClosingJob(job, tuple(_as_they_stand(parts, coming)), coming)
        left = settling.unfinished
        settled = await self.settler.settle_parts(job, settling.parts, upstream_s)
        if left:
            self._launch(self._follow(settling, left, owed=settled is None), job.id)

    def report_later(self, job: Job, coming: PartDownloads) -> None:
        """Report a part's downloads while other parts of the job are still at the provider."""
        left = [download for download in coming if not isinstance(download.fetched, Picture)]
        if left:
            self._launch(self._follow(_ClosingJob(job, (), {}), left, owed=False), job.id)

    def _launch(self, work: Coroutine[Any, Any, None], job_id: str) -> None:
        self.background.launch(work, job_task_name(job_id))

    async def _follow(
        self, settling: "_ClosingJob", left: Sequence[ImageDownload], *, owed: bool
    ) -> None:
        """Report the downloads that the settlement did not wait for, until none runs here. `owed`
        says that the store has not taken the settlement yet."""
        began_s, told = time.monotonic(), False
        while left:
            running = [download.task for download in left if not download.done]
            if running:
                await asyncio.wait(running, timeout=RENEW_S)
            running_now = [download for download in left if not download.done]
            report = self._report(left, enough=time.monotonic() - began_s > MAX_WAIT_S)
            if owed and not running_now:
                # The earlier outcome may have reached the store meanwhile; this one has more in it.
                await self.settler.settle_parts(settling.job, settling.current_parts)
                owed = False
            try:
                await self.settler.record_collection(settling.job.id, report)
                left, told = running_now, True
            except TaskNotFound:
                return
            except LedgerUnavailable:
                if not running_now and self.background.is_draining:
                    return  # the outbox has it, or the next process downloads it again
                if not running_now and not told:
                    told = True
                    self.settler.announce_unsaved(settling.job, settling.current_parts)
                await asyncio.sleep(RENEW_S)

    def _report(self, left: Sequence[ImageDownload], *, enough: bool) -> CollectionReport:
        running = [download for download in left if not download.done]
        misses = [
            download.fetched.reason
            for download in left
            if isinstance(download.fetched, DownloadMiss)
        ]
        held = any(download.held for download in running)
        due_ms = jittered(self.timings.first_ms)
        if running:
            due_ms = HELD_LEASE_MS if held else LEASE_MS
        return CollectionReport(
            pictures=tuple(
                (d.pending_image, d.fetched) for d in left if isinstance(d.fetched, Picture)
            ),
            lost=tuple(
                d.pending_image
                for d in left
                if isinstance(d.fetched, DownloadMiss) and d.fetched.for_good
            ),
            error=misses[-1] if misses else STORE_FULL_REASON if held else None,
            tried=tuple(d.pending_image for d in left if enough or d.done),
            due_ms=due_ms,
        )


@dataclass(frozen=True, slots=True)
class _ClosingJob:
    """A job that is being settled: its parts as settled, and the downloads that still run."""

    job: Job
    parts: tuple[JobPart, ...]
    coming: Mapping[int, PartDownloads]

    @property
    def current_parts(self) -> list[JobPart]:
        """The parts with the pictures that came since."""
        return list(_as_they_stand(self.parts, self.coming))

    @property
    def unfinished(self) -> list[ImageDownload]:
        """Downloads that the parts count as pending."""
        pending = [i for part in self.parts if part.result for i in part.result.pending]
        return [
            d for downloads in self.coming.values() for d in downloads if d.pending_image in pending
        ]


def _as_they_stand(
    parts: Sequence[JobPart], coming: Mapping[int, PartDownloads]
) -> Iterable[JobPart]:
    for index, part in enumerate(parts):
        here = coming.get(index)
        if here is None or (part.result is not None and not part.result.pending):
            yield part
        else:
            yield replace(part, result=here.result())


def jittered(ms: int) -> int:
    """Up to a fifth earlier, so that a thousand jobs of one moment do not come back together."""
    return round(ms * random.uniform(0.8, 1.0))  # noqa: S311  jitter, no secret
