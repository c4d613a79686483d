"""Bringing the provider's images home: every picture is copied the moment it exists.

The downloads of an answer begin at once and go on while the books are settled. What they cannot
bring within their quick tries is left to the collector of any process.
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
"""Pauses before the tries that a waiting caller is kept for."""
MAX_PAUSE_S = 30.0
"""Between two tries for bytes that are nowhere but in this process's memory."""
GRACE_S = 0.25
"""So long the settlement waits for downloads: usually all are done, and it is the only write."""
MAX_WAITING_BYTES = 128 << 20
"""Bytes that may wait in one process's memory for an image store that takes none: more would be
bought only to be lost with the process."""
GONE_STATUSES = frozenset({403, 404, 410})
"""What the host of a link says that leads nowhere any more."""


@dataclass(frozen=True, slots=True)
class DownloadMiss:
    """Why an image is not in our store. `reason` never holds the link; `gone`: its link leads
    nowhere; `for_good`: it may not be followed, or what is behind it is no image; `ours`: our own
    store took nothing, which says nothing about the image."""

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
"""When a link itself ends, in Unix milliseconds; None when it does not say."""


def no_expiry(_: str) -> int | None:
    return None


def _ignore(_: FailedDownload) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class ImageDownload:
    """One image on its way; `place` says what is pending for as long as it is."""

    place: PendingImage
    task: "asyncio.Task[Picture | DownloadMiss]"
    held: bool
    """Its bytes are in this process and nowhere else: no link, and no task to ask for them."""

    @property
    def done(self) -> bool:
        return self.task.done()

    @property
    def fetched(self) -> Picture | DownloadMiss | None:
        return self.task.result() if self.task.done() else None


@dataclass(frozen=True, slots=True)
class PartDownloads:
    """The images of one part on their way. `made` counts all that the provider handed over."""

    image_count: int
    downloads: Sequence[ImageDownload] = field(default_factory=list)

    async def wait(self, within_s: float) -> None:
        """Until all are here or were tried in vain, at most so long."""
        await asyncio.wait([download.task for download in self.downloads], timeout=within_s)

    def result(self) -> PartResult:
        """The part as it stands now."""
        pictures = tuple(d.fetched for d in self.downloads if isinstance(d.fetched, Picture))
        pending = tuple(d.place for d in self.downloads if not _settled(d.fetched))
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
    """`expires` reads when a link ends; `on_failure` hears of every failed try."""

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
        """Whether enough bytes wait here for an image store that takes none."""
        return self._waiting >= MAX_WAITING_BYTES

    def start(self, job: Job, part: int, images: tuple[ProviderImage, ...]) -> PartDownloads:
        """Start to store a part's images; those beyond what was asked are counted but not kept."""
        wanted = images[: job.parts[part].n]
        return PartDownloads(
            len(images), [self._begin(job, part, i, x) for i, x in enumerate(wanted)]
        )

    def _begin(self, job: Job, part: int, index: int, image: ProviderImage) -> ImageDownload:
        place = self.pending(part, index, image)
        held = image.body is not None and job.parts[part].upstream_id is None
        bringing = self._bring(job.id, place, image, held=held)
        return ImageDownload(place, asyncio.create_task(bringing, name=f"fetch {job.id}"), held)

    def pending(self, part: int, index: int, image: ProviderImage) -> PendingImage:
        """The image as it is kept until it is here: its link, or nothing in place of bytes."""
        url = "" if image.body is not None else image.url or ""
        return PendingImage(
            part, index, url, image.revised_prompt, self._expires(url) if url else None
        )

    async def try_once(
        self,
        job_id: str,
        place: PendingImage,
        image: ProviderImage,
        number: int,
        *,
        last: bool = False,
    ) -> Picture | DownloadMiss:
        """One try. Never raises: whatever breaks, the image is still worth another one. The last
        one keeps also what looks like a page in place of an image."""
        stem = picture_stem(job_id, place.part, place.index)
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
        except Exception as error:  # noqa: BLE001 - a bug may cost a try, never the image
            miss, status = DownloadMiss(f"the download broke: {type(error).__name__}"), None
        self._on_failure(FailedDownload(job_id, _host(image), miss.reason, status, number))
        return miss

    async def _bring(
        self, job_id: str, place: PendingImage, image: ProviderImage, *, held: bool
    ) -> Picture | DownloadMiss:
        """The quick tries; bytes that are nowhere else are tried for as long as we live."""
        tries, waiting = 0, 0
        try:
            while True:
                tries += 1
                fetched = await self.try_once(job_id, place, image, tries)
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
    """Nothing is to be expected of it any more."""
    return isinstance(fetched, Picture) or (fetched is not None and fetched.for_good)


def _host(image: ProviderImage) -> str | None:
    if not image.url:
        return None
    with suppress(ValueError):
        return urlsplit(image.url).hostname
    return "?"
