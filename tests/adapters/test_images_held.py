"""Images handed over as bytes while our own image store takes none."""

import asyncio
from pathlib import Path

from app.adapters.images.fetch import HttpImageFetcher
from app.adapters.images.file import FileImageStore
from app.domain.budget import MemoryBudget
from app.domain.images import ProviderImage
from app.domain.job import Job, JobPart
from app.service.download_image import DownloadImage
from app.service.downloads import MAX_WAITING_BYTES, ImageDownloader

TASK = Job(
    id=f"task_{'0' * 32}", key_id="k", user="ann", team=None, pool="user:ann", model="m", n=1,
    size="1x1", quality="q", unit_micros=None, created_ms=1, parts=(JobPart(1),),
)  # fmt: skip


class Unheard:
    def upstream(self, *_: object) -> None:
        """Nobody counts these."""


async def test_more_bytes_than_may_wait_in_memory_are_full_until_the_store_takes_them(
    tmp_path: Path,
) -> None:
    images, told = tmp_path / "images", []
    store = FileImageStore(images)
    await store.check()
    images.rename(tmp_path / "aside")
    images.write_text("a file where the directory was")
    download = DownloadImage(
        HttpImageFetcher([], max_bytes=1),
        store,
        Unheard(),  # type: ignore[arg-type]
        MemoryBudget(1 << 30),
    )
    collect = ImageDownloader(download, on_failure=told.append)
    empty = collect.is_full

    coming = collect.start(TASK, 0, (ProviderImage(body=bytes(MAX_WAITING_BYTES)),))
    while not told:
        await asyncio.sleep(0.01)
    full = collect.is_full
    images.unlink()
    (tmp_path / "aside").rename(images)
    await coming.wait(30)

    assert (empty, full, collect.is_full) == (False, True, False)
    assert len(coming.result().pictures) == 1
