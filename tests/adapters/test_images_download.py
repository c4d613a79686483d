"""DownloadImage: from a scripted host through the fetcher into a real store."""

import asyncio
import hashlib
import os
import resource
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.adapters.images.fetch import HttpImageFetcher
from app.adapters.images.file import FileImageStore
from app.domain.budget import MemoryBudget
from app.domain.images import Picture, ProviderImage
from app.domain.media import FetchedNonImage, FetchFailed, FetchTruncated, ImageStoreUnavailable
from app.service.download_image import SHARE_BYTES, DownloadImage
from tests.origin import Answer, Origin, answer, listening
from tests.pictures import HEIC, JXL, PAGE, PICTURES, SIZE, SVG, chunked_png

STEM = "img_" + "0a" * 16
CAPPED = 3 << 20


class Outcomes:
    def __init__(self) -> None:
        self.told: list[str] = []

    def upstream(self, _operation: str, outcome: str, _seconds: float) -> None:
        self.told.append(outcome)


@dataclass
class Rig:
    origin: Origin
    store: FileImageStore
    root: Path
    fetcher: HttpImageFetcher
    budget: MemoryBudget = field(default_factory=lambda: MemoryBudget(4 * SHARE_BYTES))
    outcomes: Outcomes = field(default_factory=Outcomes)

    def __post_init__(self) -> None:
        self.download = DownloadImage(
            self.fetcher,
            self.store,
            self.outcomes,  # type: ignore[arg-type]
            self.budget,
        )

    async def link(
        self, given: Answer, *, accept_anything: bool = False, stem: str = STEM
    ) -> Picture:
        self.origin.answers["/a"] = given
        image = ProviderImage(url=f"{self.origin.url}/a")
        return await self.download(stem, image, accept_anything=accept_anything)

    async def kept(self, picture: Picture) -> bytes:
        stored = await self.store.get(picture.name)
        assert stored is not None
        assert stored.media_type == picture.media_type
        return stored.body

    @property
    def files(self) -> list[str]:
        return [path.name for path in self.root.rglob("*") if path.is_file()]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    root = tmp_path / "images"
    async with listening() as origin:
        store = FileImageStore(root)
        await store.check()
        fetcher = HttpImageFetcher([origin.url], max_bytes=CAPPED)
        yield Rig(origin, store, root, fetcher)
        await fetcher.close()


@pytest.mark.parametrize("kind", PICTURES)
async def test_every_picture_is_kept_byte_by_byte(rig: Rig, kind: str) -> None:
    body, media_type, extension = PICTURES[kind]

    picture = await rig.link(answer(body, "Content-Type: text/plain"))

    assert (picture.name, picture.media_type) == (f"{STEM}.{extension}", media_type)
    assert await rig.kept(picture) == body


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "lossy webp", "avif", "heic", "lzw tiff"])
async def test_a_cut_picture_is_fetched_again_and_never_kept(
    rig: Rig, kind: str, length: bool
) -> None:
    body = PICTURES[kind][0]
    half = len(body) // 2

    for short in (body[:half], body[:half] + bytes(len(body) - half)):
        with pytest.raises(FetchTruncated):
            await rig.link(answer(short, length=length))
    assert rig.files == []

    assert await rig.kept(await rig.link(answer(body, length=length))) == body


async def test_a_body_shorter_than_its_length_is_fetched_again(rig: Rig) -> None:
    body = PICTURES["jpeg"][0]

    with pytest.raises(FetchFailed):
        await rig.link(answer(body, f"Content-Length: {len(body) + 9}", length=False))

    assert rig.files == []


@pytest.mark.parametrize("body", [JXL, b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\x00" * 9])
async def test_what_cannot_tell_its_end_is_kept_with_a_length_or_when_it_comes_twice(
    rig: Rig, body: bytes
) -> None:
    for short in (body, body[:-9]):
        with pytest.raises(FetchTruncated):
            await rig.link(answer(short, length=False))
    with pytest.raises(FetchTruncated):
        await rig.link(answer(body, length=False))

    assert await rig.kept(await rig.link(answer(body, length=False))) == body
    assert await rig.kept(await rig.link(answer(body), stem=STEM[:-1] + "b")) == body


async def test_unknown_bytes_are_a_file_to_be_saved(rig: Rig) -> None:
    body = os.urandom(3000)

    picture = await rig.link(answer(body, "Content-Type: image/png"))

    assert (picture.name, picture.media_type) == (f"{STEM}.bin", "application/octet-stream")
    assert (picture.width, picture.height) == (None, None)
    assert await rig.kept(picture) == body


@pytest.mark.parametrize(
    ("body", "extension"),
    [(PAGE, "html"), (b'{"error": "expired"}', "bin"), ("拒绝访问".encode(), "bin")],
)
async def test_a_text_is_asked_for_again_and_kept_only_as_it_is(
    rig: Rig, body: bytes, extension: str
) -> None:
    with pytest.raises(FetchedNonImage):
        await rig.link(answer(body))
    assert rig.files == []

    picture = await rig.link(answer(body), accept_anything=True)

    assert picture.name == f"{STEM}.{extension}"
    assert await rig.kept(picture) == body


async def test_a_cut_picture_as_it_is_does_not_pass_for_a_picture(rig: Rig) -> None:
    body = PICTURES["jpeg"][0][:-400]

    picture = await rig.link(answer(body), accept_anything=True)
    inline = await rig.download(STEM[:-1] + "b", ProviderImage(body=body))

    assert (picture.media_type, inline.media_type) == ("application/octet-stream",) * 2
    assert await rig.kept(inline) == body


@pytest.mark.parametrize("accept_anything", [True, False])
async def test_nothing_is_no_picture(rig: Rig, accept_anything: bool) -> None:
    with pytest.raises(FetchFailed):
        await rig.link(answer(b""), accept_anything=accept_anything)


async def test_bytes_in_the_answer_itself_are_kept_whatever_they_are(rig: Rig) -> None:
    for number, body in enumerate((HEIC, SVG, PAGE, os.urandom(99))):
        picture = await rig.download(f"{STEM[:-1]}{number}", ProviderImage(body=body))
        assert await rig.kept(picture) == body


async def test_a_large_picture_goes_to_the_disk_in_pieces(rig: Rig) -> None:
    body = chunked_png(2 << 20)
    seen = set()

    async def slowly(client: asyncio.StreamWriter) -> None:
        client.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 100_000):
            client.write(body[at : at + 100_000])
            await client.drain()
            await asyncio.sleep(0.005)
            seen.update(name for name in rig.files if name.startswith(".part-"))
            while at > len(body) // 2 and not seen:
                await asyncio.sleep(0.005)
                seen.update(name for name in rig.files if name.startswith(".part-"))

    picture = await rig.link(slowly)

    assert len(seen) == 1
    assert rig.files == [picture.name]
    assert (picture.width, picture.height) == SIZE
    assert hashlib.sha256(await rig.kept(picture)).digest() == hashlib.sha256(body).digest()


@pytest.mark.parametrize("ending", ["cut", "too large", "cancelled"])
async def test_nothing_is_left_of_a_large_picture_that_did_not_come(rig: Rig, ending: str) -> None:
    body = chunked_png(1 << 20)
    arrived = asyncio.Event()

    async def pour(client: asyncio.StreamWriter) -> None:
        client.write(b"HTTP/1.1 200 OK\r\n\r\n" + body[:-100])
        await client.drain()
        arrived.set()
        if ending == "too large":
            client.write(b"x" * CAPPED)
        if ending == "cancelled":
            await asyncio.sleep(30)

    call = asyncio.create_task(rig.link(pour))
    await arrived.wait()
    if ending == "cancelled":
        while not rig.files:
            await asyncio.sleep(0.01)
        call.cancel()
    with suppress(FetchFailed, asyncio.CancelledError):
        await call

    assert rig.files == []
    assert rig.budget.reserved_bytes == 0


async def test_a_full_disk_is_the_store_s_failure(rig: Rig) -> None:
    body = chunked_png(2 << 20)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
    try:
        with pytest.raises(ImageStoreUnavailable, match="cannot be used"):
            await rig.link(answer(body))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert rig.files == []
    assert await rig.kept(await rig.link(answer(body))) == body


async def test_no_more_images_come_at_once_than_the_budget_has_room_for(rig: Rig) -> None:
    body = PICTURES["jpeg"][0]
    open_now, most = 0, 0

    async def counted(client: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0.02)
        open_now -= 1
        await answer(body)(client)

    stems = [f"{STEM[:-2]}{number:02x}" for number in range(16)]
    pictures = await asyncio.gather(*(rig.link(counted, stem=stem) for stem in stems))

    assert len(pictures) == 16
    assert most <= 4
    assert rig.outcomes.told == ["ok"] * 16
