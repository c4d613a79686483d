"""Edits that are refused: each kind with its own words, before anything is reserved or sent."""

import gzip
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from python_multipart import MultipartParser

from tests.contract.door import read_answer
from tests.flow.studio import (
    EDITS,
    FREE_INPUTS,
    GENERATE,
    SEEDREAM,
    TEXT_ONLY,
    Studio,
    house,
    open_references,
    picture,
    studio,
    uri,
)
from tests.pictures import HEIC, PAGE, SVG

__all__ = ["house", "studio"]
RED = picture()
BOUNDARY = "koi-pond"
MEGABYTE = 1 << 20


@pytest.fixture(autouse=True)
def unpaid(studio: Studio) -> Iterator[None]:
    """Nothing was sent to the provider, and nothing was entered."""
    posts, entries = studio.sandbox.posts, len(studio.koi.entries())
    yield
    assert studio.sandbox.posts == posts
    assert (len(studio.koi.entries()), studio.koi.audit().open_jobs) == (entries, 0)


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": SEEDREAM, "prompt": "a koi like this one", **fields}


def assert_refused(answer: httpx.Response, status: int, code: str, param: str | None) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
    message: str = error["message"]
    return message


def test_a_variation_is_refused_with_the_way_to_an_edit(studio: Studio) -> None:
    with studio.client() as client:
        answer = client.post("/v1/images/variations", files={"image": ("a.png", RED, "image/png")})

    assert "/v1/images/edits" in assert_refused(answer, 400, "unsupported_endpoint", None)


UNSUPPORTED = (400, "unsupported_parameter")
INVALID = (400, "invalid_value")
TOO_LARGE = (413, "request_too_large")


@pytest.mark.parametrize(
    ("fields", "refusal", "param"),
    [
        ({"model": "gpt-image-7b", "image": uri(RED)}, (404, "model_not_found"), "model"),
        ({}, (400, "missing_required_parameter"), "image"),
        ({"image": "", "images": [None, {"image_url": ""}]},
         (400, "missing_required_parameter"), "image"),
        ({"image": uri(RED), "prompt": " "}, (400, "missing_required_parameter"), "prompt"),
        ({"image": uri(RED), "mask": uri(RED)}, UNSUPPORTED, "mask"),
        ({"image": uri(RED), "control_image": "https://a.example/a"}, UNSUPPORTED, "control_image"),
        ({"image": uri(RED), "extra": {"b": [uri(RED)]}}, UNSUPPORTED, "extra"),
        ({"image": [uri(RED)] * 3, "model": FREE_INPUTS}, INVALID, "image"),
        ({"images": [uri(RED)] * 15}, INVALID, "image"),
        ({"image": uri(RED), "n": "2"}, (400, "invalid_type"), "n"),
        ({"image": uri(b"a koi")}, INVALID, "image"),
        ({"image": uri(PAGE)}, INVALID, "image"),
        ({"image": uri(SVG)}, INVALID, "image"),
        ({"image": uri(HEIC)}, INVALID, "image"),
        ({"image": uri(RED[:-20])}, INVALID, "image"),
        ({"image": uri(b"")}, INVALID, "image"),
        ({"image": "data:image/png;base64,a koi!"}, INVALID, "image"),
        ({"image": "data:image/png,koi"}, INVALID, "image"),
        ({"image": uri(RED).partition(",")[2]}, INVALID, "image"),
        ({"image": "data:image/koi;upload=0123456789abcdef0123456789abcdef/0"}, INVALID, "image"),
        ({"image": "http://a.example/a.png"}, INVALID, "image"),
        ({"image": "file:///etc/passwd"}, INVALID, "image"),
        ({"image": "https://a.example/a b"}, INVALID, "image"),
        ({"image": "https://a.example/\r\nx: y"}, INVALID, "image"),
        ({"image": f"https://a.example/{'a' * 9000}"}, INVALID, "image"),
        ({"reference_images": [{"file_id": "file-1"}]}, INVALID, "reference_images"),
        ({"image": 7}, INVALID, "image"),
        ({"image": [[uri(RED)]]}, INVALID, "image"),
        ({"model": TEXT_ONLY, "image": uri(RED)}, UNSUPPORTED, "image"),
        ({"image": {"image_url": uri(RED), "mask": uri(RED)}}, UNSUPPORTED, "mask"),
        ({"image": {"url": "https://a.example/a", "mask": {"url": "https://a.example/b"}}},
         UNSUPPORTED, "mask"),
        ({"image": {"url": "https://a.example/a", "other": uri(RED)}}, UNSUPPORTED, "other"),
        ({"image": {"image_url": uri(RED), "url": "https://a.example/b"}}, INVALID, "image"),
        ({"image": uri(RED), "image[mask]": uri(RED)}, UNSUPPORTED, "image"),
    ],
    ids=range(34),
)  # fmt: skip
def test_json_that_is_no_edit_is_refused(
    studio: Studio, fields: dict[str, Any], refusal: tuple[int, str], param: str | None
) -> None:
    with studio.client() as client:
        assert_refused(client.post(EDITS, json=ask(**fields)), *refusal, param)


@pytest.mark.parametrize("field", ["image", "images", "reference_images", "mask", "init_image"])
def test_a_text_model_refuses_pictures_of_a_generation_as_ever(studio: Studio, field: str) -> None:
    with studio.client() as client:
        answer = client.post(GENERATE, json=ask(model=TEXT_ONLY, **{field: uri(RED)}))

    assert "Nothing was charged" in assert_refused(answer, *UNSUPPORTED, field)


def test_an_edit_with_a_text_model_is_told_which_models_can(studio: Studio) -> None:
    with studio.client() as client:
        answer = client.post(EDITS, data=ask(model=TEXT_ONLY), files={"image": RED})

    message = assert_refused(answer, *UNSUPPORTED, "image")
    assert f"{SEEDREAM}, {FREE_INPUTS}" in message


@pytest.mark.parametrize(
    ("files", "refusal", "param"),
    [
        ([("mask", ("m.png", RED))], UNSUPPORTED, "mask"),
        ([("image", ("a.png", RED)), ("mask", ("m.png", RED))], UNSUPPORTED, "mask"),
        ([("image", ("a.png", RED)), ("image[mask]", ("m.png", RED))], UNSUPPORTED, "image"),
        ([("koi", ("a.png", RED))], UNSUPPORTED, "koi"),
        ([("image", ("a.png", b""))], INVALID, "image"),
        ([("image", ("a.png", b"a koi", "image/png"))], INVALID, "image"),
        ([("image", ("a.png", RED[:40], "image/png"))], INVALID, "image"),
        ([("image[]", ("a.png", RED))] * 15, INVALID, "image"),
    ],
    ids=range(8),
)
def test_a_form_that_is_no_edit_is_refused(
    studio: Studio, files: list[Any], refusal: tuple[int, str], param: str
) -> None:
    with studio.client() as client:
        assert_refused(client.post(EDITS, data=ask(), files=files), *refusal, param)


def test_pictures_that_are_too_large_alone_or_together_are_refused(studio: Studio) -> None:
    half = picture(noise=13 * MEGABYTE)
    with studio.client() as client:
        one = client.post(EDITS, data=ask(), files={"image": picture(noise=20 * MEGABYTE)})
        together = client.post(EDITS, data=ask(), files=[("image[]", half)] * 4)
        as_json = client.post(EDITS, json=ask(image=uri(picture(noise=20 * MEGABYTE))))
        on_a_text_field = client.post(EDITS, data=ask(style="a" * MEGABYTE), files={"image": RED})

    assert "20 MB" in assert_refused(one, *TOO_LARGE, "image")
    assert "48 MB" in assert_refused(together, *TOO_LARGE, "image")
    assert_refused(as_json, *TOO_LARGE, "image")
    assert_refused(on_a_text_field, *TOO_LARGE, None)


@pytest.mark.parametrize("fields", [
    {"image": uri(RED), "prompt": uri(picture(noise=600_000))},
    {"image": uri(RED), "mask": uri(picture(noise=600_000))},
    {"image": uri(picture(noise=600_000)), "prompt": "a" * 600_000},
    {"image": uri(picture(noise=600_000))[:-9]},
    {"image": uri(picture(noise=600_000)).replace("A", "\\", 1)},
], ids=["prompt", "mask", "text", "cut", "base64"])  # fmt: skip
@pytest.mark.parametrize("route", [EDITS, GENERATE])
def test_long_json_is_read_as_strictly(studio: Studio, route: str, fields: Any) -> None:
    with studio.client() as client:
        answer = client.post(route, json=ask(**fields))

    assert answer.status_code in (400, 413), answer.text
    assert answer.json()["error"]["param"] in ("prompt", "mask", "image", None)


# Forms on the wire


def part(disposition: str, body: bytes = b"", *headers: str) -> bytes:
    lines = "\r\n".join([f"--{BOUNDARY}", f"Content-Disposition: {disposition}", *headers, "", ""])
    return lines.encode() + body + b"\r\n"


IMAGE = part('form-data; name="image"; filename="a.png"', RED)
MODEL = part('form-data; name="model"', SEEDREAM.encode())
PROMPT = part('form-data; name="prompt"', b"a koi")
END = f"--{BOUNDARY}--\r\n".encode()
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"
BAD_FORM = (400, "invalid_body")
FALSE_END = f"\r\n--{BOUNDARY}!".encode()
CUT_IMAGE = part('form-data; name="image"; filename="a"', RED[:40] + FALSE_END * 3)
PADDED = CUT_IMAGE.replace(f"--{BOUNDARY}\r\n".encode(), f"--{BOUNDARY} \t\r\n".encode())
FORMS: dict[str, tuple[str, bytes, tuple[int, str]]] = {
    "no boundary": ("multipart/form-data", IMAGE + PROMPT + END, BAD_FORM),
    "a long boundary": (f"multipart/form-data; boundary={'b' * 300}", b"", BAD_FORM),
    "another boundary": ("multipart/form-data; boundary=pond", IMAGE + PROMPT + END, BAD_FORM),
    "no end": (FORM_TYPE, IMAGE + PROMPT, BAD_FORM),
    "nothing": (FORM_TYPE, b"", BAD_FORM),
    "cut in a part": (FORM_TYPE, (MODEL + IMAGE)[:-200], BAD_FORM),
    "no disposition": (FORM_TYPE, f"--{BOUNDARY}\r\n\r\nkoi\r\n".encode() + END, BAD_FORM),
    "no name": (FORM_TYPE, part('form-data; filename="a.png"', RED) + END, BAD_FORM),
    "an attachment": (FORM_TYPE, part('attachment; name="image"', RED) + END, BAD_FORM),
    "a coded part": (FORM_TYPE, part(
        'form-data; name="image"; filename="a"', b"aaaa", "Content-Transfer-Encoding: base64"
    ) + END, BAD_FORM),
    "a long header": (FORM_TYPE, part(f'form-data; name="{"k" * 9000}"', b"koi") + END, BAD_FORM),
    "many headers": (FORM_TYPE, part(
        'form-data; name="prompt"', b"koi", *(f"X-{n}: koi" for n in range(50))
    ) + END, BAD_FORM),
    "many parts": (FORM_TYPE, part('form-data; name="a"') * 500 + END, (400, "too_complex")),
    "no text": (FORM_TYPE, part('form-data; name="prompt"', b"\xff\xfe") + END,
                (400, "invalid_encoding")),
    "twice": (FORM_TYPE, IMAGE + PROMPT + PROMPT + END, (400, "duplicate_key")),
    "a form in a form": (FORM_TYPE, part(
        'form-data; name="image"; filename="a"', IMAGE.replace(BOUNDARY.encode(), b"inner")
    ) + PROMPT + END, INVALID),
    "false boundaries": (FORM_TYPE, MODEL + PROMPT + part(
        'form-data; name="image"; filename="a"', FALSE_END * 1000 + RED
    ) + END, BAD_FORM),
    "few false boundaries": (FORM_TYPE, MODEL + PROMPT + CUT_IMAGE + END, INVALID),
    "a padded boundary": (FORM_TYPE, MODEL + PROMPT + PADDED + END, INVALID),
    "a boundary with long padding": (FORM_TYPE, MODEL + PROMPT + PADDED.replace(
        b" \t\r\n", b" \t" * 50 + b"\r\n"
    ) + END, BAD_FORM),
    "another kind": ("multipart/mixed; boundary=koi-pond", IMAGE + END,
                     (415, "unsupported_media_type")),
    "no kind": ("application/octet-stream", RED, (415, "unsupported_media_type")),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_cannot_be_read_is_refused(studio: Studio, name: str) -> None:
    content_type, body, (status, code) = FORMS[name]
    with studio.client() as client:
        answer = client.post(EDITS, content=body, headers={"content-type": content_type})
        packed = client.post(
            EDITS,
            content=gzip.compress(body),
            headers={"content-type": content_type, "content-encoding": "gzip"},
        )

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert packed.status_code == 415


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "C:\\koi.png", "/dev/null", "a\x00b", "…", ""]
)
def test_the_name_of_a_file_leads_nowhere(studio: Studio, name: str) -> None:
    before = {path for path in studio.data.rglob("*") if path.is_file()}
    named = part(f'form-data; name="image"; filename="{name}"', RED + b"not whole"[:0])
    cut = named.replace(RED, RED[:50])
    with studio.client() as client:
        answer = client.post(
            EDITS, content=MODEL + PROMPT + cut + END, headers={"content-type": FORM_TYPE}
        )

    assert_refused(answer, *INVALID, "image")
    after = {path for path in studio.data.rglob("*") if path.is_file()}
    assert {path for path in after - before if "journal" not in path.parts} == set()


def wire(studio: Studio, *lines: str) -> socket.socket:
    host, _, port = studio.koi.url.removeprefix("http://").partition(":")
    opened = socket.create_connection((host, int(port)), timeout=20)
    head = [f"POST {EDITS} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {studio.key()}"]
    opened.sendall("\r\n".join([*head, f"Content-Type: {FORM_TYPE}", *lines, "", ""]).encode())
    return opened


def test_a_cut_upload_leaves_nothing(studio: Studio) -> None:
    big = part('form-data; name="image"; filename="a.png"', picture(noise=3 * MEGABYTE))
    with wire(studio, "Content-Length: 5000000") as opened:
        opened.sendall(MODEL + PROMPT + big)
        deadline = time.monotonic() + 10
        while not open_references():
            assert time.monotonic() < deadline, "the upload is not on the disk"
            time.sleep(0.01)

    studio.assert_nothing_is_left()


def test_a_slow_upload_may_take_its_time_and_one_that_stalls_may_not(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However fast the beginning of it came."""
    monkeypatch.setattr("app.domain.references.MAX_SILENCE", 1)
    cut = picture(noise=1_200_000)[:-20]
    body = MODEL + PROMPT + IMAGE.replace(RED, cut) + END
    with wire(studio, "Content-Length: 5000000") as stalled:
        stalled.sendall(MODEL + PROMPT + IMAGE.replace(RED, picture(noise=3 * MEGABYTE)))
        with wire(studio, f"Content-Length: {len(body)}") as slow:
            for at in range(0, len(body), 100_000):
                slow.sendall(body[at : at + 100_000])
                time.sleep(1)
            refused = read_answer(slow)
        late = read_answer(stalled)

    assert (refused.status, refused.error["param"]) == (400, "image")
    assert "cut" in refused.error["message"]
    assert (late.status, late.error["code"]) == (408, "request_timeout")


def test_a_body_that_announces_too_much_is_refused_before_it_comes(studio: Studio) -> None:
    with wire(studio, f"Content-Length: {100 * MEGABYTE}", "Expect: 100-continue") as opened:
        answer = read_answer(opened)

    assert (answer.status, answer.json["error"]["code"]) == TOO_LARGE


@pytest.mark.parametrize("begun", [True, False], ids=["a picture", "what comes before a form"])
def test_chunks_without_a_length_are_counted_as_they_come(studio: Studio, begun: bool) -> None:
    def endless() -> Iterator[bytes]:
        yield MODEL + PROMPT + IMAGE[: -2 - len(RED)] if begun else b""
        while True:
            yield b"koi" * 20_000 if begun else b"\r\n" * 30_000

    with studio.client() as client:
        started = time.monotonic()
        try:
            answer = client.post(EDITS, content=endless(), headers={"content-type": FORM_TYPE})
        except httpx.HTTPError:
            return  # the rest of it was not wanted, and the connection was closed on it

    assert (answer.status_code, time.monotonic() - started < 20) == (413, True)


@pytest.mark.parametrize("size", [7, 13, 1000])
def test_false_boundaries_are_counted_across_the_pieces_that_they_come_in(
    studio: Studio, size: int
) -> None:
    flood = FALSE_END * 1000
    pieces = [flood[at : at + size] for at in range(0, len(flood), size)]
    with studio.client() as client:
        answer = client.post(
            EDITS,
            content=iter([MODEL + PROMPT + IMAGE[:-2], *pieces, b"\r\n" + END]),
            headers={"content-type": FORM_TYPE},
        )

    assert (answer.status_code, answer.json()["error"]["code"]) == BAD_FORM, answer.text
    assert "told apart" in answer.json()["error"]["message"]


def test_a_body_that_comes_at_once_is_read_in_turns_with_others(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    write = MultipartParser.write

    def note(parser: MultipartParser, data: bytes) -> int:
        taken.append(len(data))
        return write(parser, data)

    monkeypatch.setattr(MultipartParser, "write", note)
    cut = IMAGE.replace(RED, picture(noise=3 * MEGABYTE)[:-20])
    body = MODEL + PROMPT + cut + END
    with studio.client() as client:
        answer = client.post(EDITS, content=body, headers={"content-type": FORM_TYPE})

    assert_refused(answer, *INVALID, "image")
    assert (sum(taken), max(taken) <= 64 << 10) == (len(body), True)


def test_a_refused_upload_is_taken_so_that_its_sender_reads_the_answer(studio: Studio) -> None:
    rest = [("image[]", picture(noise=9 * MEGABYTE))] * 3
    with studio.client() as client:
        answer = client.post(EDITS, data=ask(), files=[("mask", ("m", RED)), *rest])
        next_one = client.get("/v1/models")

    assert_refused(answer, *UNSUPPORTED, "mask")
    assert next_one.status_code == 200


def moving(parts: int) -> bytes:
    """A whole GIF whose image is in so many parts."""
    head = b"GIF89a\x40\0\x40\0\0\0\0"
    return head + b",\0\0\0\0\x40\0\x40\0\0\2" + b"\1A" * parts + b"\0;"


def test_pictures_in_very_many_parts_together_are_refused(studio: Studio) -> None:
    """To look at each part costs time of every request of the process."""
    alike = [("image[]", ("a.gif", moving(200_000 + i), "image/gif")) for i in range(2)]
    with studio.client() as client:
        answer = client.post(EDITS, data=ask(), files=alike)

    assert_refused(answer, 400, "invalid_value", "image")


def test_no_error_repeats_a_picture(studio: Studio) -> None:
    with studio.client() as client:
        answer = client.post(EDITS, json=ask(image=uri(RED), mask=uri(RED)))

    assert re.search(r"base64|iVBOR", answer.text) is None
