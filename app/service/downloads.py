"""Downloading the provider's images into our own store, as soon as they exist.

The downloads of an answer begin at once and go on while the job is settled. What the quick tries
cannot download is left to the collector of any process (decision 19).
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from app.domain.charging import IMAGE_UNAVAILABLE
from app.domain.images import Picture, ProviderImage
from app.domain.job import Job, PartResult, PendingImage, picture_stem
from app.domain.media import FetchFailed, FetchRefused, ImageStoreUnavailable
from app.service.download_image import DownloadImage

QUICK_RETRY_PAUSES_S = (0.2, 1.0, 3.0)
"""Pauses between the quick tries, during which a caller is kept waiting."""
MAX_PAUSE_S = 30.0
"""The longest pause between two tries for bytes that are only in this process's memory."""
GRACE_S = 0.25
"""How long the settlement waits for downloads: usually all are done, and one write is enough."""
MAX_WAITING_BYTES = 128 << 20
"""How many bytes may wait in memory while the image store takes none. More would be paid for and
lost with the process."""
GONE_STATUSES = frozenset({403, 404, 410})
"""The HTTP statuses of a link that has ended."""


@dataclass(frozen=True, slots=True)
class DownloadMiss:
    """Why an image is not in our store. `reason` never holds the link. `gone`: its link has ended.
    `for_good`: the link may not be followed, or leads to no image. `ours`: our own store took
    nothing, which says nothing about the image."""

    reason: str
    gone: bool = False
    for_good: bool = False
    ours: bool = False


@dataclass(frozen=True, slots=True)
class FailedDownload:
    """One failed download, for a log. `host` is the link's, None when the bytes were at hand."""

    job_id: str
    host: str | None
    reason: str
    status: int | None
    number: int


OnFailedDownload = Callable[[FailedDownload], None]
LinkExpiry = Callable[[str], int | None]
"""When a link ends, in Unix milliseconds; None when the link does not say."""


def no_expiry(_: str) -> int | None:
    return None


def _ignore(_: FailedDownload) -> None:
    """No log."""


@dataclass(frozen=True, slots=True)
class ImageDownload:
    """One running download; `pending_image` is the pending image as the job's record keeps it."""

    pending_image: PendingImage
    task: "asyncio.Task[Picture | DownloadMiss]"
    held: bool
    """Whether the bytes are in this process only: there is no link, and no task to ask for them."""

    @property
    def done(self) -> bool:
        return self.task.done()

    @property
    def fetched(self) -> Picture | DownloadMiss | None:
        return self.task.result() if self.task.done() else None


@dataclass(frozen=True, slots=True)
class PartDownloads:
    """The downloads of one part. `image_count` counts all images that the provider handed over."""

    image_count: int
    downloads: Sequence[ImageDownload] = field(default_factory=list)

    async def wait(self, within_s: float) -> None:
        """Wait until all have ended, at most this long."""
        await asyncio.wait([download.task for download in self.downloads], timeout=within_s)

    def result(self) -> PartResult:
        """The part as it stands now."""
        pictures = tuple(d.fetched for d in self.downloads if isinstance(d.fetched, Picture))
        pending = tuple(d.pending_image for d in self.downloads if not _settled(d.fetched))
        lost = not pictures and not pending
        return PartResult(
            images=self.image_count,
            pictures=pictures,
            failure=IMAGE_UNAVAILABLE if lost else None,
            pending=pending,
        )

    def __iter__(self) -> Iterator[ImageDownload]:
        return iter(self.downloads)


class ImageDownloader:
    """`expires` reads when a link ends; `on_failure` is told of every failed try."""

    def __init__(
        self,
        download: DownloadImage,
        *,
        expires: LinkExpiry = no_expiry,
        on_failure: OnFailedDownload = _ignore,
    ) -> None:
        self._download, self._expires, self._on_failure = download, expires, on_failure
        self._waiting = 0

    @property
    def is_full(self) -> bool:
        """Whether no more bytes may wait here for an image store that takes none."""
        return self._waiting >= MAX_WAITING_BYTES

    def start(self, job: Job, part: int, images: tuple[ProviderImage, ...]) -> PartDownloads:
        """Start to download a part's images; more than were asked for are counted but not kept."""
        wanted = images[: job.parts[part].n]
        return PartDownloads(
            len(images), [self._begin(job, part, i, x) for i, x in enumerate(wanted)]
        )

    def _begin(self, job: Job, part: int, index: int, image: ProviderImage) -> ImageDownload:
        pending_image = self.pending(part, index, image)
        held = image.body is not None and job.parts[part].upstream_id is None
        work = self._download_with_retries(job.id, pending_image, image, held=held)
        return ImageDownload(pending_image, asyncio.create_task(work, name=f"fetch {job.id}"), held)

    def pending(self, part: int, index: int, image: ProviderImage) -> PendingImage:
        """The image as the job's record keeps it until it is stored: its link, or no link where
        the provider sent bytes."""
        url = "" if image.body is not None else image.url or ""
        return PendingImage(
            part, index, url, image.revised_prompt, self._expires(url) if url else None
        )

    async def try_once(
        self,
        job_id: str,
        pending_image: PendingImage,
        image: ProviderImage,
        number: int,
        *,
        last: bool = False,
    ) -> Picture | DownloadMiss:
        """One try. Never raises: after any failure the image is worth another try. The last try
        also keeps what looks like a web page instead of an image."""
        stem = picture_stem(job_id, pending_image.part, pending_image.index)
        try:
            return await self._download(stem, image, accept_anything=last)
        except FetchRefused as error:
            miss, status = DownloadMiss(error.reason, for_good=True), None
        except FetchFailed as error:
            miss, status = (
                DownloadMiss(error.reason, gone=error.status in GONE_STATUSES),
                error.status,
            )
        except ImageStoreUnavailable:
            miss, status = DownloadMiss("the image store takes nothing", ours=True), None
        except Exception as error:  # noqa: BLE001 - a bug may cost one try, never the image
            miss, status = DownloadMiss(f"the download broke: {type(error).__name__}"), None
        self._on_failure(FailedDownload(job_id, _host(image), miss.reason, status, number))
        return miss

    async def _download_with_retries(
        self, job_id: str, pending_image: PendingImage, image: ProviderImage, *, held: bool
    ) -> Picture | DownloadMiss:
        """The quick tries; for bytes that are only here, until they are stored or the process
        ends."""
        tries, waiting = 0, 0
        try:
            while True:
                tries += 1
                fetched = await self.try_once(job_id, pending_image, image, tries)
                if isinstance(fetched, Picture) or fetched.for_good:
                    return fetched
                if tries > len(QUICK_RETRY_PAUSES_S) and not held:
                    return fetched
                if tries == 1 and fetched.ours:
                    waiting = len(image.body or b"")
                    self._waiting += waiting
                await asyncio.sleep(_pause_s(tries))
        finally:
            self._waiting -= waiting


def _pause_s(tries: int) -> float:
    if tries <= len(QUICK_RETRY_PAUSES_S):
        return QUICK_RETRY_PAUSES_S[tries - 1]
    return min(
        QUICK_RETRY_PAUSES_S[-1] * 2.0 ** min(tries - len(QUICK_RETRY_PAUSES_S), 10), MAX_PAUSE_S
    )


def _settled(fetched: Picture | DownloadMiss | None) -> bool:
    """Whether no later try can change the result."""
    return isinstance(fetched, Picture) or (fetched is not None and fetched.for_good)


def _host(image: ProviderImage) -> str | None:
    if not image.url:
        return None
    with suppress(ValueError):
        return urlsplit(image.url).hostname
    return "?"
