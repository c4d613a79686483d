"""The names images are stored under, and base64 as providers write it."""

import base64

import pytest

from app.domain.formats import MEDIA_TYPES
from app.domain.media import IMAGE_NAME, decode_base64, media_type_of, strip_data_uri


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("img_" + "0a" * 16 + ".png", "image/png"),
        ("img_" + "0a" * 16 + ".jpg", "image/jpeg"),
        ("img_" + "0A" * 16 + ".png", None),
        ("img_" + "0a" * 16 + ".png\n", None),
        ("img_" + "0a" * 16 + ".svg", "image/svg+xml"),
        ("img_" + "0a" * 16 + ".avif", "image/avif"),
        ("img_" + "0a" * 16 + ".bin", "application/octet-stream"),
        ("img_" + "0a" * 16 + ".exe", None),
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


def test_every_type_that_is_stored_has_a_name() -> None:
    for extension, media_type in MEDIA_TYPES.items():
        assert media_type_of(f"img_{'0a' * 16}.{extension}") == media_type
