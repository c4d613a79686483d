"""The loop that downloads images that could not be downloaded when they were made (decision 19).

A settled job with pending images has one due time in the ledger. A process that claims it counts
the try before it makes it, so that pauses grow also for a job that kills its process. A link is
tried until it ends, or for as long as the operator says. Where it has ended, the provider's task
is asked for a fresh link. An image is lost only when both fail, never because our store is full.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from app.domain.errors import LedgerUnavailable, TaskNotFound, UpstreamError
from app.domain.images import Picture, ProviderImage
from app.domain.job import Job, PendingImage
from app.domain.ledger import CollectionClaim, CollectionReport, CollectionTimings
from app.domain.ports import Ledger, MetricsRecorder
from app.domain.upstream import PollInconclusive, TaskImages
from app.service.background import BackgroundTasks
from app.service.downloads import DownloadMiss, ImageDownloader
from app.service.finish_job import jittered
from app.service.job_room import JobRoom
from app.service.lease import run_renewing
from app.service.log_context import job_log_context
from app.service.poll_result import MIN_ANOMALOUS_POLLS
from app.service.settle import JobSettler
from app.service.upstreams import Upstream, Upstreams

MAX_CONCURRENT_JOBS = 16
"""How many jobs are worked on at once, and how many images are downloaded for them."""
CHECK_INTERVAL_S = 1.0
AFTER_END_MS = 1_000
"""How soon after the end of a link its last try comes."""


@dataclass(frozen=True, slots=True)
class TaskSnapshot:
    """What the provider's task shows now. `over`: it can never show more. `denied`: whether this
    answer says that the task failed; None when it says nothing about that."""

    images: tuple[ProviderImage, ...] = ()
    over: bool = False
    denied: bool | None = None


@dataclass(frozen=True, slots=True)
class CollectedImage:
    """The result of one try for a pending image; `pending_image` holds its newest link."""

    pending_image: PendingImage
    fetched: Picture | DownloadMiss
    lost: bool = False
    denied: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCollector:
    """`lifetime_ms` is how long images are tried for when their links do not say when they end."""

    ledger: Ledger
    upstreams: Upstreams
    downloader: ImageDownloader
    settler: JobSettler
    recorder: MetricsRecorder
    background: BackgroundTasks
    timings: CollectionTimings
    lifetime_ms: int
    room: JobRoom = field(default_factory=lambda: JobRoom(MAX_CONCURRENT_JOBS))
    downloads: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_JOBS)
    )

    async def run(self) -> None:
        """Claim due jobs and download their images, until cancelled or until a drain leaves them to
        other processes."""
        look_again_s = min(CHECK_INTERVAL_S, self.timings.first_ms / 4000)
        while not self.background.is_handing_over:
            with suppress(LedgerUnavailable):
                await self._claim()
            await asyncio.sleep(look_again_s)

    async def _claim(self) -> None:
        room = self.room.take(MAX_CONCURRENT_JOBS)
        try:
            for claim in await self.ledger.claim_collections(room, self.timings) if room else ():
                with job_log_context(claim.job.id, claim.job.request_id):
                    self.background.launch(self._try(claim), f"collect {claim.job.id}")
                room -= 1
        finally:
            self.room.give_back(room)

    async def _try(self, claim: CollectionClaim) -> None:
        """One try, whose lease is renewed for as long as it takes. If it fails, another is due."""
        due = CollectionReport(
            due_ms=max(self.timings.lease_ms, self.timings.delay_ms(claim.tries))
        )
        kept = partial(self.ledger.record_collection, claim.job.id, due)
        try:
            with suppress(LedgerUnavailable, TaskNotFound):
                await self.settler.record_collection(
                    claim.job.id, await run_renewing(self.collect(claim), kept)
                )
        finally:
            self.room.give_back()

    async def collect(self, claim: CollectionClaim) -> CollectionReport:
        """Try once for every pending image of a job, and say what became of them."""
        pending = claim.job.pending
        by_part = [[i for i in pending if i.part == part] for part in {i.part for i in pending}]
        found = [f for some in await self._all(claim, by_part) for f in some]
        misses = [f for f in found if isinstance(f.fetched, DownloadMiss)]
        return CollectionReport(
            pictures=tuple(
                (f.pending_image, f.fetched) for f in found if isinstance(f.fetched, Picture)
            ),
            lost=tuple(f.pending_image for f in misses if f.lost),
            links=tuple(
                f.pending_image for f in misses if not f.lost and f.pending_image not in pending
            ),
            error=misses[-1].fetched.reason
            if misses and isinstance(misses[-1].fetched, DownloadMiss)
            else None,
            tried=pending,
            due_ms=self._due_ms(claim, [f.pending_image for f in misses if not f.lost]),
            denied=tuple(
                {f.pending_image.part: f.denied for f in found if f.denied is not None}.items()
            ),
        )

    async def _all(
        self, claim: CollectionClaim, by_part: Sequence[list[PendingImage]]
    ) -> list[list[CollectedImage]]:
        return await asyncio.gather(*(self._part(claim, images) for images in by_part))

    async def _part(
        self, claim: CollectionClaim, images: list[PendingImage]
    ) -> list[CollectedImage]:
        """First by the links we have; where these have ended, by the provider's task."""
        found = await asyncio.gather(*(self._by_link(claim, image) for image in images))
        astray = [f for f in found if self._astray(claim, f)]
        if not astray:
            return found
        shown = await self._shown(claim.job, images[0].part)
        again = await asyncio.gather(*(self._by_task(claim, f, shown) for f in astray))
        told = [replace(f, denied=shown.denied) for f in again]
        return [f for f in found if f not in astray] + told

    async def _shown(self, job: Job, index: int) -> TaskSnapshot:
        part = job.parts[index]
        if part.upstream_id is None:
            return TaskSnapshot(over=True)
        shown = await self._ask(self.upstreams.of(job.provider), part.upstream_id)
        return replace(shown, over=bool(shown.denied) and part.denied + 1 >= MIN_ANOMALOUS_POLLS)

    async def _by_link(self, claim: CollectionClaim, pending_image: PendingImage) -> CollectedImage:
        if not pending_image.url:
            return CollectedImage(
                pending_image, DownloadMiss("the image store took no bytes", gone=True)
            )
        return await self._download(claim, pending_image, ProviderImage(pending_image.url))

    async def _by_task(
        self, claim: CollectionClaim, missed: CollectedImage, shown: TaskSnapshot
    ) -> CollectedImage:
        """Try what the task shows; the image is lost when nothing is left to try."""
        pending_image = missed.pending_image
        old = claim.now_ms - self._since_ms(claim) >= self.lifetime_ms
        if pending_image.index < len(shown.images):
            image = shown.images[pending_image.index]
            if image.body is not None or image.url != pending_image.url:
                fresh = self.downloader.pending(pending_image.part, pending_image.index, image)
                found = await self._download(claim, fresh, image)
                # A task may show ended links for ever.
                return replace(found, lost=found.lost or (old and _theirs(found.fetched)))
        if not _theirs(missed.fetched):
            return missed
        if (shown.over or old) and claim.now_ms >= self._end_ms(claim, pending_image):
            return replace(missed, lost=True)
        return missed

    async def _download(
        self, claim: CollectionClaim, pending_image: PendingImage, image: ProviderImage
    ) -> CollectedImage:
        wanted = replace(image, revised_prompt=pending_image.revised_prompt)
        last = claim.now_ms >= self._end_ms(claim, pending_image)
        async with self.downloads:
            fetched = await self.downloader.try_once(
                claim.job.id, pending_image, wanted, claim.tries, last=last
            )
        return CollectedImage(
            pending_image, fetched, lost=isinstance(fetched, DownloadMiss) and fetched.for_good
        )

    async def _ask(self, upstream: Upstream, upstream_id: str) -> TaskSnapshot:
        """One poll, if the provider's rate has room for it; an inconclusive answer means: ask
        another time."""
        if not (await upstream.limiter.acquire_polls(1)).count:
            return TaskSnapshot()
        started = time.perf_counter()
        outcome = "ok"
        try:
            answer = await upstream.provider.poll(upstream_id)
            return TaskSnapshot(
                answer.images if isinstance(answer, TaskImages) else (), denied=False
            )
        except PollInconclusive as trouble:
            outcome = "troubled"
            if trouble.throttled:
                await upstream.limiter.record_failure(
                    "upstream_rate_limited", trouble.retry_after_s
                )
            return TaskSnapshot()
        except UpstreamError as error:
            outcome = error.reason
            return TaskSnapshot(denied=True)
        finally:
            self.recorder.upstream("poll", outcome, time.perf_counter() - started)

    def _astray(self, claim: CollectionClaim, found: CollectedImage) -> bool:
        if isinstance(found.fetched, Picture) or found.lost:
            return False
        return found.fetched.gone or claim.now_ms >= self._end_ms(claim, found.pending_image)

    def _since_ms(self, claim: CollectionClaim) -> int:
        collecting = claim.job.collecting
        return claim.now_ms if collecting is None else collecting.since_ms

    def _end_ms(self, claim: CollectionClaim, pending_image: PendingImage) -> int:
        """When a link ends; now, where there is none because bytes came that were never stored."""
        if not pending_image.url:
            return claim.now_ms
        if pending_image.expires_ms is not None:
            return pending_image.expires_ms
        return self._since_ms(claim) + self.lifetime_ms

    def _due_ms(self, claim: CollectionClaim, left: Sequence[PendingImage]) -> int:
        """After the pause that follows this try, or soon after the first link ends."""
        delay_ms = jittered(self.timings.delay_ms(claim.tries))
        ends_ms = [self._end_ms(claim, pending_image) - claim.now_ms for pending_image in left]
        return min([delay_ms, *(end_ms + AFTER_END_MS for end_ms in ends_ms if end_ms > 0)])


def _theirs(fetched: Picture | DownloadMiss) -> bool:
    """Whether an image is missing because of the provider, not because of our store."""
    return isinstance(fetched, DownloadMiss) and not fetched.ours
