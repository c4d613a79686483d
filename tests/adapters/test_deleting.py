"""A picture that its user deletes is gone everywhere, or the deletion can be asked for again."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from store_rig import Engine, admission, delivered, principal, scripts_on, started

from app.adapters.images.file import FileImageStore
from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.connection import connect
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.task_list import RedisTaskList
from app.domain.errors import GatewayOverloaded
from app.domain.images import Picture
from app.domain.job import CacheVariant
from app.domain.media import PreviewSize
from app.service.previews import Previews
from app.service.tasks import Tasks
from app.service.timings import JobTimings
from app.service.upstreams import AbsentProvider, Unlimited, Upstream, Upstreams
from app.service.wait import JobWaiters
from tests.pictures import drawn

VARIANT = CacheVariant("f" * 64, 0)


class Deleting:
    """A maker of previews whose picture is deleted while it works."""

    available = True

    def __init__(self, store: FileImageStore, name: str) -> None:
        self._store, self._name = store, name

    async def make(self, picture: AsyncIterator[bytes], pixels: int) -> bytes:
        async for part in picture:
            assert len(part) > pixels
        await self._store.delete(self._name)
        return b"RIFF"


async def test_a_preview_made_while_its_picture_is_deleted_does_not_stay(tmp_path: Path) -> None:
    store, name = FileImageStore(tmp_path), f"img_{'a' * 32}.png"
    await store.put(name, drawn("PNG", "RGB"), "image/png")
    previews = Previews(store, Deleting(store, name), lambda *_: None)

    found = await previews.open(name, PreviewSize.SMALL)

    assert found is None
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize("away", [True, False])
async def test_a_picture_is_not_deleted_while_the_cache_would_go_on_giving_it(
    engine: Engine, store: BatchingStore, tmp_path: Path, *, away: bool
) -> None:
    scripts, images = scripts_on(store), FileImageStore(tmp_path)
    ledger = RedisLedger(scripts, task_ttl_s=86_400, image_ttl_s=3600)
    job_id = await started(ledger, replace(admission(), cache_variant=VARIANT))
    picture = Picture(f"img_{'b' * 32}.png", "image/png", 64, 64)
    await ledger.settle(job_id, replace(delivered(1), pictures=(picture,)))
    await images.put(picture.name, b"bytes", "image/png")
    gone = BatchingStore(connect("redis://127.0.0.1:1", timeout_s=1), timeout_s=1)
    cache = RedisResultCache(gone if away else store, ttl_s=60, variants=2, lease_s=60)
    nobody = Upstream(None, AbsentProvider("main", str), Unlimited(), JobTimings())
    upstreams = Upstreams(nobody)
    tasks = Tasks(ledger, RedisTaskList(scripts), JobWaiters(ledger), images, upstreams, cache)

    if away:
        with pytest.raises(GatewayOverloaded, match="nothing was deleted"):
            await tasks.delete_picture(principal(), picture.name)
    else:
        await tasks.delete_picture(principal(), picture.name)

    assert (await ledger.find_owner(picture.name) is not None) is away
    assert await images.exists([picture.name]) is away
    await gone.aclose()
