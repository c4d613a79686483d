"""Pictures as their owner gets them: of every kind, by link and as base64, whole and inert."""

import base64
import gzip
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi
from tests.origin import Answer, Origin, answer, origin_in_a_thread
from tests.pictures import PICTURES, chunked_png, drawn


@pytest.fixture
def host() -> Iterator[Origin]:
    """A host of pictures at the provider's address."""
    with origin_in_a_thread() as origin:
        yield origin


def made(koi: Koi, host: Origin, given: Answer, **body: object) -> httpx.Response:
    host.answers["/a"] = given
    koi.sandbox.script(f"url-private={host.url}/a")
    with koi.client() as client:
        return client.post(GENERATE, json={**KOI, **body})


def link_of(said: httpx.Response) -> str:
    assert said.status_code == 200, said.text
    link: str = said.json()["data"][0]["url"]
    return link


def test_a_picture_of_any_kind_is_served_as_it_came_and_inert(koi: Koi, host: Origin) -> None:
    for kind, (body, media_type, extension) in PICTURES.items():
        link = link_of(made(koi, host, answer(body), prompt=kind))
        served, known = httpx.get(link), httpx.head(link)

        assert served.content == body
        assert f".{extension}?" in link
        assert served.headers["content-type"] == media_type
        assert served.headers["x-content-type-options"] == "nosniff"
        assert served.headers["content-security-policy"] == "default-src 'none'; sandbox"
        shown = served.headers["content-disposition"] == "inline"
        assert shown is (kind != "svg")
        assert shown or served.headers["content-disposition"].startswith("attachment; filename=")
        assert (known.content, known.headers["content-length"]) == (b"", str(len(body)))


def test_unknown_bytes_reach_their_owner_as_a_file_without_a_size(koi: Koi, host: Origin) -> None:
    body = b"%KOI\x00\xff\xfe" * 999

    said = made(koi, host, answer(body), size="auto")
    served = httpx.get(link_of(said))

    assert served.content == body
    assert served.headers["content-type"] == "application/octet-stream"
    assert served.headers["content-disposition"].startswith("attachment")
    assert "None" not in said.text


@pytest.mark.parametrize("kind", ["jpeg", "avif"])
def test_a_picture_cut_by_its_host_is_fetched_again(koi: Koi, host: Origin, kind: str) -> None:
    body = PICTURES[kind][0]
    cuts = [body[: len(body) // 2], body[:100] + bytes(len(body) - 100)]
    given = [*(answer(cut, length=False) for cut in cuts), answer(body)]

    async def one_after_the_other(client: object) -> None:
        await given.pop(0)(client)  # type: ignore[arg-type]

    said = made(koi, host, one_after_the_other, response_format="b64_json")

    assert base64.b64decode(said.json()["data"][0]["b64_json"]) == body
    assert given == []


def test_a_large_picture_is_whole_by_link_and_as_base64(start: Start, host: Origin) -> None:
    koi = start(cache_variants=1)
    body = chunked_png(3 << 20)

    link = link_of(made(koi, host, answer(body)))
    again = made(koi, host, answer(body), response_format="b64_json")

    assert again.headers["x-koi-cache"] == "hit"
    assert httpx.get(link).content == body
    assert base64.b64decode(again.json()["data"][0]["b64_json"]) == body


def test_a_picture_beyond_the_largest_is_not_kept(start: Start, host: Origin) -> None:
    koi = start(image_max_mb=1, upstream_timeout_s=2, task_deadline_s=2)

    said = made(koi, host, answer(chunked_png(2 << 20)), **{"async": True})

    assert said.status_code in (200, 202)
    assert not list((koi.settings.data_dir / "images").rglob("img_*"))


def test_slow_readers_cost_a_slice_each_and_the_next_one_is_served(koi: Koi, host: Origin) -> None:
    body = chunked_png(8 << 20)
    link = urlsplit(link_of(made(koi, host, answer(body))))
    asking = f"GET {link.path}?{link.query} HTTP/1.1\r\nHost: {link.netloc}\r\n\r\n"

    with ExitStack() as stack:
        for _ in range(20):
            line = stack.enter_context(socket.create_connection((link.hostname, link.port)))
            line.sendall(asking.encode())
        began = time.monotonic()
        assert httpx.get(link.geturl()).content == body
        assert time.monotonic() - began < 20


def test_a_hit_whose_picture_is_gone_ends_and_is_made_anew(start: Start) -> None:
    koi = start(cache_variants=1)
    for response_format in ("url", "b64_json"):
        asked = {**KOI, "prompt": response_format, "response_format": response_format}
        with koi.client() as client:
            client.post(GENERATE, json=asked)
            before = client.post(GENERATE, json=asked)
            for file in (koi.settings.data_dir / "images").rglob("img_*"):
                file.unlink()
            nothing = client.post(GENERATE, json=asked, headers={"cache-control": "only-if-cached"})
            anew = client.post(GENERATE, json=asked)
            after = client.post(GENERATE, json=asked)

        assert before.headers["x-koi-cache"] == "hit"
        assert nothing.status_code == 504
        assert (anew.status_code, anew.headers["x-koi-cache"]) == (200, "miss")
        assert (after.status_code, after.headers["x-koi-cache"]) == (200, "hit")
        assert after.json()["data"] == anew.json()["data"]
    assert koi.sandbox.posts == 4


def test_a_hit_is_kept_while_the_store_is_only_away(start: Start) -> None:
    koi = start(cache_variants=1)
    images = koi.settings.data_dir / "images"
    with koi.client() as client:
        client.post(GENERATE, json=KOI)
        images.rename(images.with_name("away"))
        try:
            client.post(GENERATE, json=KOI)
        finally:
            images.with_name("away").rename(images)
        after = client.post(GENERATE, json=KOI)

    assert after.headers["x-koi-cache"] == "hit"
    assert koi.sandbox.posts == 1


def test_a_picture_is_not_gone_while_the_store_is_only_away(start: Start) -> None:
    koi = start()
    images = koi.settings.data_dir / "images"
    with koi.client() as client:
        link = link_of(client.post(GENERATE, json=KOI))
        mine = urlsplit(link).path
        images.rename(images.with_name("away"))
        try:
            away = [client.get(mine), httpx.get(link)]
        finally:
            images.with_name("away").rename(images)
        back = [client.get(mine), httpx.get(link)]
        for file in images.rglob("img_*"):
            file.unlink()
        gone = [client.get(mine), httpx.get(link)]

    assert [said.status_code for said in away] == [503, 503]
    assert {said.json()["error"]["code"] for said in away} == {"overloaded"}
    assert all(said.headers["retry-after"] for said in away)
    assert [said.status_code for said in back] == [200, 200]
    assert [said.status_code for said in gone] == [404, 404]


def test_an_encoded_picture_is_decoded_on_its_way(koi: Koi, host: Origin) -> None:
    body = drawn("BMP")
    said = made(koi, host, answer(gzip.compress(body), "Content-Encoding: gzip"))

    assert httpx.get(link_of(said)).content == body


def test_a_repeat_is_not_bought_again_while_its_answer_cannot_be_sent(start: Start) -> None:
    koi = start(cache_policy="off")
    images = koi.settings.data_dir / "images"
    asked = {**KOI, "response_format": "b64_json"}
    koi.sandbox.set(latency_s=0.6)
    key = koi.key()
    with koi.client(key, timeout=30) as client:
        koi.hang_up(key, response_format="b64_json")
        koi.settled()
        images.rename(images.with_name("away"))
        try:
            told = [client.post(GENERATE, json=asked) for _ in range(2)]
        finally:
            images.with_name("away").rename(images)
        after = client.post(GENERATE, json=asked)

    assert [answer.status_code for answer in told] == [503, 503]
    assert after.status_code == 200
    assert koi.sandbox.posts == 1
