"""What bytes are, and whether they are whole by their own format."""

import io
import os
import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.domain.formats import UNKNOWN_MEDIA, MediaInfo, detect_image, detect_media
from app.domain.formats.source import (
    WINDOW_BYTES,
    BufferedSource,
    MemorySource,
    StepBudget,
)
from app.domain.references import MAX_REFERENCE_STEPS, MAX_REFERENCES_BYTES
from tests.pictures import DATA, HEIC, JXL, PAGE, PICTURES, SIZE, SVG, box, drawn

NO_SIZE = ("ico", "svg", "jpeg xl in boxes")
UNCOMPRESSED = ("bmp", "black and white bmp", "tiff", "tiff of pages", "ico")
"""Zeros among their pixels are black."""
TEXTS = ("svg",)
NO_END = ("jpeg xl",)


def seen(body: bytes) -> MediaInfo:
    return detect_media(MemorySource(body))


@pytest.mark.parametrize("kind", PICTURES)
def test_a_whole_picture_is_recognised_with_its_type_and_size(kind: str) -> None:
    body, media_type, extension = PICTURES[kind]

    media = seen(body)

    assert (media.media_type, media.extension, media.is_text) == (media_type, extension, False)
    assert media.is_complete is (None if kind in NO_END else True)
    if kind not in NO_SIZE:
        assert (media.width, media.height) == SIZE
    assert detect_image(body) == media


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", [kind for kind in PICTURES if kind not in NO_END])
def test_a_cut_picture_is_never_whole(kind: str, share: float) -> None:
    body = PICTURES[kind][0]

    media = seen(body[: int(len(body) * share)])

    assert media.is_complete is False or media.is_text or media == UNKNOWN_MEDIA
    assert media.extension == "bin" or media.is_complete is False


@pytest.mark.parametrize("kind", [k for k in PICTURES if k not in ("tiff of pages", *NO_END)])
def test_not_one_byte_may_be_missing(kind: str) -> None:
    body = PICTURES[kind][0].rstrip(b"\0\n")

    assert seen(body[:-1]).is_complete is False


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("kind", [k for k in PICTURES if k not in (*UNCOMPRESSED, "flat webp")])
def test_a_picture_that_goes_on_in_zeros_is_never_whole(kind: str, share: float) -> None:
    body = PICTURES[kind][0]
    kept = int(len(body) * share)

    media = seen(body[:kept] + bytes(len(body) - kept))

    assert media.is_complete is False or media.extension == "bin"


@pytest.mark.parametrize("kind", ["bmp", "black and white bmp", "tiff"])
def test_pixels_that_never_came_are_no_picture(kind: str) -> None:
    body = PICTURES[kind][0]
    if kind == "tiff":
        written = Image.open(io.BytesIO(body)).tag_v2[273][0]  # type: ignore[attr-defined]
    else:
        written = int.from_bytes(body[10:14], "little")

    assert seen(body[:written] + bytes(len(body) - written)).is_complete is False


@pytest.mark.parametrize("kind", [k for k in PICTURES if k not in ("svg", "jpeg xl")])
@pytest.mark.parametrize("tail", [b"\0" * 5, b"put behind the picture", os.urandom(3000)])
def test_what_follows_a_picture_does_not_matter(kind: str, tail: bytes) -> None:
    assert seen(PICTURES[kind][0] + tail).is_complete is True


def test_a_chunk_that_was_changed_on_its_way_is_noticed() -> None:
    body = bytearray(PICTURES["png"][0])
    body[len(body) // 2] ^= 1

    assert seen(bytes(body)).is_complete is False


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b""))
    )


@pytest.mark.parametrize("size", [(2**31 - 1, 2**31 - 1), (100_000, 100_000), (0, 10)])
def test_a_picture_of_absurd_dimensions_is_a_file_to_be_saved(size: tuple[int, int]) -> None:
    assert seen(png(*size)).extension == "bin"
    assert detect_image(png(*size)) is None


@pytest.mark.parametrize(
    ("body", "extension", "text"),
    [
        (b"", "bin", True),
        (PAGE, "html", True),
        (b"\n  <HTML>", "html", True),
        (b"<html><body><svg></svg></body></html>", "html", True),
        (b'{"error": "expired"}', "bin", True),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "bin", True),
        ("拒绝访问".encode(), "bin", True),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\x00\x01", "bin", False),
        (b"\x1f\x8b\x08\x00" + bytes(40), "bin", False),
        (b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(30), "bin", False),
        (b"GIF80a" + b"\x01" * 20, "bin", False),
        (b"BM" + b"\xff" * 60, "bin", False),
        (b"\0\0\1\0\xff\xff" + bytes(60), "bin", False),
        (box(b"ftyp", b"isom\0\0\0\0mp42") + box(b"mdat", DATA), "bin", False),
        (bytes(5000), "bin", False),
    ],
    ids=range(15),
)
def test_anything_else_is_told_apart_as_text_or_unknown(
    body: bytes, extension: str, text: bool
) -> None:
    media = seen(body)

    assert (media.extension, media.is_text) == (extension, text)
    assert detect_image(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n" + b"x" * 40,
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + bytes(8),
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"\xff\xd8\xff\xd9" + bytes(40),
        b"\xff\xd8\xff\xe0\x00\x00" * 9,
        b"\xff\xd8" + b"\xff" * 4000,
        b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(30),
        b"GIF89a",
        b"GIF89a=1;/*0" + PAGE,
        HEIC[:24],
        JXL[:9],
        b"II*\0" + (8).to_bytes(4, "little") + b"\xff" * 100,
        b"<svg xmlns='x' onload='alert(1)'>",
    ],
    ids=range(15),
)
def test_a_beginning_is_no_picture(body: bytes) -> None:
    assert seen(body).is_complete is False


def test_svg_is_known_by_its_first_element_alone() -> None:
    assert seen(b"<svg onload='alert(1)'/>").extension == "svg"
    assert seen(SVG).extension == "svg"
    assert seen(b"text <svg></svg>").extension == "bin"


@pytest.fixture(scope="module")
def drawn_pictures() -> None:
    """Drawn outside of the draws, each of which has a deadline."""
    dict(PICTURES)


@pytest.mark.usefixtures("drawn_pictures")
@given(st.sampled_from(sorted(PICTURES)), st.integers(0, 600), st.binary(max_size=40))
def test_no_damage_makes_examining_fail(kind: str, at: int, damage: bytes) -> None:
    body = PICTURES[kind][0]

    media = seen(body[:at] + damage + body[at + len(damage) :])

    assert media.width is None or media.is_complete is False or media.width > 0


def directories(number: int, *fields: tuple[int, int, int, int], body: int = 0) -> bytes:
    """A TIFF whose directories all share their 65,535 entries, these fields among them."""
    length = 2 + 12 * 65_535
    tiff = bytearray(b"II*\0" + bytes(4 + 12 * number + length + 8 + body))
    struct.pack_into("<I", tiff, 4, 8)
    for at in range(8, 8 + 12 * number, 12):
        struct.pack_into("<H", tiff, at, 65_535)
        struct.pack_into("<I", tiff, at + length, at + 12)
    for index, field in enumerate(fields):
        struct.pack_into("<HHII", tiff, 10 + 12 * (number + index), *field)
    return bytes(tiff)


def icons(number: int, length: int) -> bytes:
    """An ICO whose pictures are all the same one, of zeros but for its end."""
    pictures_at = 6 + 16 * number
    entry = struct.pack("<BBBBHHII", 9, 9, 0, 0, 1, 32, length, pictures_at)
    return struct.pack("<HHH", 0, 1, number) + entry * number + bytes(length - 1) + b"\1"


HOSTILE = {
    "png of empty chunks": lambda: (
        b"\x89PNG\r\n\x1a\n" + png(9, 9)[8:33] + chunk(b"tEXt", b"") * 900_000
    ),
    "jpeg of escaped bytes": lambda: drawn("JPEG")[:-2] + b"\xff\x00" * 6_000_000,
    "jpeg of fillers": lambda: b"\xff\xd8" + b"\xff" * 12_000_000,
    "jpeg of scans": lambda: drawn("JPEG")[:-2] + b"\xff\xda\x00\x02" * 3_000_000,
    "gif of tiny blocks": lambda: drawn("GIF", "P")[:-2] + b"\x01\x00" * 6_000_000,
    "webp of empty chunks": lambda: b"RIFF\x04\x1b\xb7\0WEBP" + b"EXIF\0\0\0\0" * 1_500_000,
    "boxes of nothing": lambda: box(b"ftyp", b"avif\0\0\0\0") + box(b"free", b"") * 1_500_000,
    "boxes of extents": lambda: box(b"ftyp", b"avif\0\0\0\0") + b"ispe" * 3_000_000,
    "tiff of fields": lambda: (
        b"II*\0\x08\0\0\0\xff\xff" + b"\x11\1\4\0\0\0\2\0\x08\0\0\0" * 1_000_000
    ),
    "tiff of directories": lambda: directories(64, (273, 4, 1, 8), (279, 4, 1, 100)),
    "tiff of strips": lambda: directories(64, (273, 4, 150_000, 0), (279, 4, 150_000, 0)),
    "tiff of zeros": lambda: directories(
        64, (273, 4, 1, 900_000), (279, 4, 1, 19_000_000), body=20_000_000
    ),
    "bmp of zeros": lambda: drawn("BMP")[:54] + bytes(12_000_000),
    "icons in one place": lambda: icons(64, 12_000_000)[:-1] + b"\0",
    "heic of nothing": lambda: box(b"ftyp", b"heic\0\0\0\0") + box(b"free", b"") * 1_500_000,
    "jpeg xl of nothing": lambda: b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"free", b"") * 1_500_000,
    "text": lambda: b"<" + b"<!--" * 3_000_000,
}
"""Made when it is asked for: each is of some 12 MB."""


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_bytes_cost_time_by_their_length_at_most(kind: str) -> None:
    body = HOSTILE[kind]()
    began = time.process_time()

    media = seen(body)

    assert media.is_complete is not True
    assert time.process_time() - began < 3


class CountedSource:
    """A body that counts how often it is read."""

    def __init__(self, body: bytes) -> None:
        self._body, self.size, self.reads = body, len(body), 0

    def read(self, at: int, most: int) -> bytes:
        self.reads += 1
        return self._body[at : at + most]


def gif(between: bytes, blocks: bytes = b"\1A") -> bytes:
    """A whole GIF with something before its only image."""
    image = b"," + struct.pack("<HHHHB", 0, 0, 9, 9, 0) + b"\2" + blocks + b"\0;"
    return b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + between + image


def test_stray_bytes_of_a_gif_are_passed_over_at_once() -> None:
    source, steps = CountedSource(gif(bytes(990_000))), StepBudget()
    began = steps.left

    media = detect_media(source, steps)

    assert (media.extension, media.is_complete) == ("gif", True)
    assert source.reads < 100
    assert began - steps.left < 10


def test_strays_here_and_there_are_read_a_little_each() -> None:
    source = CountedSource(gif(b"\0!\xfe\0" * 10_000))

    assert detect_media(BufferedSource(source)).is_complete is True
    assert source.reads < 20


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("kind", PICTURES)
def test_small_reads_share_a_larger_one(kind: str, share: float) -> None:
    body = PICTURES[kind][0][: int(len(PICTURES[kind][0]) * share)]
    source = CountedSource(body)

    assert detect_media(BufferedSource(source)) == seen(body)
    assert source.reads <= 10 + 2 * len(body) // WINDOW_BYTES


HOSTILE_REFERENCES = [kind for kind in HOSTILE if kind.startswith(("png", "jpeg", "gif", "tiff"))]


@pytest.mark.parametrize("kind", [*HOSTILE_REFERENCES, "webp of empty chunks"])
def test_pictures_of_one_budget_take_no_more_than_it_together(kind: str) -> None:
    body, steps, reads = HOSTILE[kind](), StepBudget(MAX_REFERENCE_STEPS), 0

    for _ in range(50):
        source = CountedSource(body)
        assert detect_media(BufferedSource(source), steps).is_complete is not True
        reads += source.reads

    assert steps.left >= 0
    assert reads < 100_000


def test_a_picture_that_comes_after_the_budget_is_spent_is_not_whole() -> None:
    steps = StepBudget(1_000)
    body = gif(b"", b"\1A" * 600)

    assert detect_media(MemorySource(body), steps).is_complete is True
    assert detect_media(MemorySource(body), steps).is_complete is False
    assert detect_media(MemorySource(PICTURES["png"][0]), steps).is_complete is False


@pytest.mark.parametrize("kind", ["png", "progressive jpeg", "gif", "animated gif", "lzw tiff",
                                  "tiff of pages", "animated webp", "animated png"])  # fmt: skip
def test_genuine_pictures_of_all_bytes_of_a_request_are_within_its_budget(kind: str) -> None:
    body, steps = PICTURES[kind][0], StepBudget()
    began = steps.left

    assert detect_media(MemorySource(body), steps).is_complete is True
    assert (began - steps.left) * MAX_REFERENCES_BYTES // len(body) < MAX_REFERENCE_STEPS


def test_pictures_in_one_place_of_an_icon_are_looked_at_once() -> None:
    body = icons(64, 40_000_000)
    began = time.process_time()

    assert seen(body).is_complete is True
    assert time.process_time() - began < 2
