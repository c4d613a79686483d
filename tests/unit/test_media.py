"""Recognising images by their bytes, and reading base64 as providers write it."""

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.domain.media import (
    IMAGE_NAME,
    Media,
    decode_base64,
    inspect,
    media_type_of,
    strip_data_uri,
)


def drawn(layout: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.new(mode, (321, 123), 7 if mode == "L" else None).save(file, layout, **options)
    return file.getvalue()


IMAGES = {
    "png": (drawn("PNG"), "image/png", "png"),
    "jpeg": (drawn("JPEG"), "image/jpeg", "jpg"),
    "progressive jpeg": (drawn("JPEG", progressive=True), "image/jpeg", "jpg"),
    "jpeg with metadata": (drawn("JPEG", exif=b"Exif\0\0" + b"x" * 9000), "image/jpeg", "jpg"),
    "grey jpeg": (drawn("JPEG", "L"), "image/jpeg", "jpg"),
    "lossy webp": (drawn("WEBP"), "image/webp", "webp"),
    "lossless webp": (drawn("WEBP", lossless=True), "image/webp", "webp"),
    "extended webp": (drawn("WEBP", exif=b"Exif\0\0xx"), "image/webp", "webp"),
    "webp with alpha": (drawn("WEBP", "RGBA"), "image/webp", "webp"),
    "gif": (drawn("GIF", "P"), "image/gif", "gif"),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_an_image_is_recognised_with_its_size(kind: str) -> None:
    body, media_type, extension = IMAGES[kind]

    assert inspect(body) == Media(media_type, extension, 321, 123)


@pytest.mark.parametrize("kind", IMAGES)
def test_a_missing_tail_does_not_matter(kind: str) -> None:
    body, media_type, _ = IMAGES[kind]
    cut = inspect(body[: len(body) * 95 // 100])

    assert cut is not None
    assert cut.media_type == media_type


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!doctype html><title>sign in</title>",
        b'{"error": "expired"}',
        b"%PDF-1.7",
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + b"x" * 40,
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + bytes(8),
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"\xff\xd8\xff\xd9" + bytes(40),
        b"\xff\xd8\xff\xe0\x00\x00" * 9,
        b"\xff\xd8" + b"\xff" * 4000,
        b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(30),
        b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(30),
        b"GIF80a" + b"\x01" * 20,
    ],
)
def test_anything_else_is_no_image(body: bytes) -> None:
    assert inspect(body) is None


@given(st.sampled_from(sorted(IMAGES)), st.integers(0, 400), st.binary(max_size=40))
def test_no_damage_makes_inspection_fail(kind: str, at: int, damage: bytes) -> None:
    body = IMAGES[kind][0]

    found = inspect(body[:at] + damage + body[at + len(damage) :])

    assert found is None or (found.width > 0 and found.height > 0)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("img_" + "0a" * 16 + ".png", "image/png"),
        ("img_" + "0a" * 16 + ".jpg", "image/jpeg"),
        ("img_" + "0A" * 16 + ".png", None),
        ("img_" + "0a" * 16 + ".png\n", None),
        ("img_" + "0a" * 16 + ".svg", None),
        ("img_" + "\u0660" * 32 + ".png", None),
        ("../img_" + "0a" * 16 + ".png", None),
    ],
)
def test_a_name_tells_the_media_type_or_is_no_name(name: str, media_type: str | None) -> None:
    assert media_type_of(name) == media_type
    assert (IMAGE_NAME.fullmatch(name) is None) == (media_type is None)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: text,
        lambda text: text.rstrip("="),
        lambda text: f"data:image/png;base64,{text}",
        lambda text: f"DATA:image/jpeg;charset=utf-8;BASE64,{text}",
        lambda text: f"\n data:image/webp;base64,{text}\n",
        lambda text: "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
        lambda text: text.replace("+", "-").replace("/", "_"),
    ],
    ids=["plain", "unpadded", "data uri", "odd data uri", "blanks", "lines", "url alphabet"],
)
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_base64_is_read_as_providers_write_it(wrap, extra: int) -> None:
    body = bytes(range(256)) + b"\xff" * extra

    assert decode_base64(wrap(base64.b64encode(body).decode())) == body


@pytest.mark.parametrize(
    "text",
    ["", "   ", "data:image/png;base64,", "https://host/a.png", "a", "ab=cd", "äöü", "{}", "!!!!"],
)
def test_what_is_not_base64_is_none(text: str) -> None:
    assert decode_base64(text) is None


@pytest.mark.parametrize("text", ["aGk=", "data:aGk=", "https://host/data:image/png;base64,aGk="])
def test_only_a_data_uri_prefix_is_stripped(text: str) -> None:
    assert strip_data_uri(text) == text
    assert strip_data_uri(f"data:image/png;base64,{text}") == text
