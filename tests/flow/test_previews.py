"""Previews as a caller meets them: made once, beside the picture, with its rights and its life."""

import asyncio
import io
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from PIL import Image

from app.adapters.images.file import FileImageStore
from tests.flow.test_pictures import host, link_of, made
from tests.harness import Koi
from tests.origin import Origin, answer
from tests.pictures import SVG, drawn
from tests.security.test_bombs import png

__all__ = ["host"]


def painted(width: int = 1024, height: int = 768, layout: str = "PNG") -> bytes:
    file = io.BytesIO()
    noise = Image.effect_noise((width, height), 80).convert("RGB")
    noise.save(file, layout, **({"compress_level": 1} if layout == "PNG" else {}))
    return file.getvalue()


def files(koi: Koi) -> list[str]:
    root = Path(koi.settings.data_dir)
    return sorted(path.name for path in root.rglob("img_*") if path.is_file())


@pytest.mark.parametrize(("size", "wide", "high"), [("small", 256, 192), ("medium", 768, 576)])
def test_a_signed_link_and_its_owner_get_a_smaller_picture(
    koi: Koi, host: Origin, size: str, wide: int, high: int
) -> None:
    body = painted()
    key = koi.key("ann")
    host.answers["/a"] = answer(body)
    koi.sandbox.script(f"url-private={host.url}/a")
    with koi.client(key) as ann:
        link = link_of(ann.post("/v1/images/generations", json={"model": "grok-imagine",
                                                                "prompt": "a koi"}))  # fmt: skip
        signed = httpx.get(f"{link}&size={size}", timeout=20)
        own = ann.get(link.partition("?")[0], params={"size": size})
        whole = httpx.get(link)
    unchanged = httpx.get(f"{link}&size={size}", headers={"if-none-match": signed.headers["etag"]})
    head = httpx.head(f"{link}&size={size}")

    shown = Image.open(io.BytesIO(signed.content))
    assert (shown.format, shown.size) == ("WEBP", (wide, high))
    assert signed.headers["content-type"] == "image/webp"
    assert signed.headers["content-disposition"] == "inline"
    assert signed.headers["x-content-type-options"] == "nosniff"
    assert len(signed.content) < len(body)
    assert own.content == signed.content
    assert whole.content == body
    assert whole.headers["etag"] != signed.headers["etag"]
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert head.headers["content-length"] == str(len(signed.content))


def test_a_preview_has_its_picture_s_rights_and_nobody_else_s(koi: Koi, host: Origin) -> None:
    link = link_of(made(koi, host, answer(painted())))
    name = link.rpartition("/")[2].partition("?")[0]
    path = link.partition("?")[0].removeprefix(koi.url)
    httpx.get(f"{link}&size=small", timeout=20)
    query = link.partition("?")[2]
    with koi.client(koi.key("bob")) as bob:
        foreign = bob.get(path, params={"size": "small"})
        by_name = bob.get(f"{path}.small.webp")
    nobody = httpx.get(f"{koi.url}{path}?size=small")
    signed_name = httpx.get(f"{koi.url}{path}.small.webp?{query}")
    odd = httpx.get(f"{link}&size=huge")

    assert f"{name}.small.webp" in files(koi)
    assert foreign.status_code == by_name.status_code == 404
    assert nobody.status_code == 401
    assert signed_name.status_code == 404
    assert (odd.status_code, odd.json()["error"]["param"]) == (400, "size")


def test_it_is_made_once_however_many_ask(koi: Koi, host: Origin) -> None:
    link = link_of(made(koi, host, answer(painted(1500, 1500))))

    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60) as client:
            return await asyncio.gather(*(client.get(f"{link}&size=small") for _ in range(12)))

    answers = asyncio.run(crowd())

    assert {one.status_code for one in answers} == {200}
    assert len({one.content for one in answers}) == 1
    assert answers[0].headers["content-type"] == "image/webp"
    assert len([name for name in files(koi) if name.endswith(".small.webp")]) == 1


def test_what_has_no_preview_is_sent_as_it_is(koi: Koi, host: Origin) -> None:
    for body in (
        painted(200, 100),
        SVG,
        drawn("TIFF"),
        png(30_000, 30_000, bytes(1000)),
    ):
        link = link_of(made(koi, host, answer(body), prompt=str(len(body))))
        shown = httpx.get(f"{link}&size=small", timeout=20)
        again = httpx.get(f"{link}&size=small")
        assert (shown.status_code, shown.content) == (200, body)
        assert again.content == body
    assert not any("small" in name for name in files(koi))


def test_a_preview_goes_with_its_picture(koi: Koi, host: Origin) -> None:
    first, second = (link_of(made(koi, host, answer(painted()), prompt=p)) for p in ("a", "b"))
    for link in (first, second):
        httpx.get(f"{link}&size=small", timeout=20)
        httpx.get(f"{link}&size=medium", timeout=20)
    kept, gone = (link.rpartition("/")[2].partition("?")[0] for link in (first, second))
    (place,) = {path.parents[1] for path in Path(koi.settings.data_dir).rglob(kept)}
    store = FileImageStore(place)
    before = files(koi)
    asyncio.run(store.delete(gone))
    deleted = files(koi)
    (place / kept[4:6] / kept).unlink()
    asyncio.run(store.sweep(timedelta(days=1)))

    assert len(before) == 6
    assert deleted == [name for name in before if name.startswith(kept)]
    assert files(koi) == []
    assert httpx.get(f"{first}&size=small").status_code == 404
