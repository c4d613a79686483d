"""Images handed over as bytes while our own image store takes none."""

import asyncio
from pathlib import Path

from app.adapters.images.fetch import ImageFetcher
from app.adapters.images.file import FileImageStore
from app.domain.budget import ByteBudget
from app.domain.images import ProviderImage
from app.domain.job import Job, Part
from app.service.collect import MOST_WAITING, Collect
from app.service.download import DownloadImage

TASK = Job(
    id=f"task_{'0' * 32}", key_id="k", user="ann", team=None, pool="user:ann", model="m", n=1,
    size="1x1", quality="q", unit_micros=None, created_ms=1, parts=(Part(1),),
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
    download = DownloadImage(ImageFetcher([], max_bytes=1), store, Unheard(), ByteBudget(1 << 30))  # type: ignore[arg-type]
    collect = Collect(download, tell=told.append)
    empty = collect.full

    coming = collect.begin(TASK, 0, (ProviderImage(body=bytes(MOST_WAITING)),))
    while not told:
        await asyncio.sleep(0.01)
    full = collect.full
    images.unlink()
    (tmp_path / "aside").rename(images)
    await coming.wait(30)

    assert (empty, full, collect.full) == (False, True, False)
    assert len(coming.result().pictures) == 1
