"""The worker that makes previews: of real pictures, and of such that are made to hurt."""

import io
import struct
import tempfile
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from app.adapters.images.previews import PreviewWorkers
from app.domain.media import PreviewFailed
from tests.pictures import drawn
from tests.security.test_bombs import png

HERE = Path(tempfile.gettempdir())


async def sliced(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 50_000):
        yield body[at : at + 50_000]


async def preview(body: bytes, pixels: int = 256) -> Image.Image:
    made = await PreviewWorkers(HERE).make(sliced(body), pixels)
    opened = Image.open(io.BytesIO(made))
    opened.load()
    return opened


def noise(layout: str, size: tuple[int, int], **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(file, layout, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("layout", "mode"),
    [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("PNG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"),
     ("WEBP", "RGBA"), ("GIF", "P")],
)  # fmt: skip
async def test_a_picture_becomes_a_small_webp_of_the_same_shape(layout: str, mode: str) -> None:
    made = await preview(drawn(layout, mode))

    assert made.format == "WEBP"
    assert made.size == (256, 98)


async def test_what_shines_through_still_does() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (400, 200), (255, 0, 0, 100)).save(file, "PNG")

    made = await preview(file.getvalue())

    assert made.mode == "RGBA"
    assert made.getpixel((9, 9))[3] == 100  # type: ignore[index]


async def test_a_photo_stands_upright_and_says_nothing_of_its_camera() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010F] = "a camera"
    made = await preview(noise("JPEG", (1600, 1000), exif=exif.tobytes()), 768)

    assert made.size == (480, 768)
    assert not made.getexif()
    assert "exif" not in made.info
    assert "icc_profile" not in made.info


def gif_of(width: int, height: int) -> bytes:
    """A logical screen of that size with a frame of one pixel."""
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return screen + b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\0;"


def webp_of(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + sizes
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body = b"WEBP" + extended + animation
    return b"RIFF" + struct.pack("<I", len(body)) + body


def zeros_compressed(length: int) -> bytes:
    """Like `zlib.compress(bytes(length))`, from a piece of a megabyte that repeats itself."""
    coder = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    piece = coder.compress(bytes(1 << 20)) + coder.flush(zlib.Z_FULL_FLUSH)
    checksum = (length % 65_521) << 16 | 1
    return b"\x78\xda" + piece * (length >> 20) + coder.flush() + struct.pack(">I", checksum)


def png_with_text() -> bytes:
    """A compressed text of 300 MB behind the header of a real picture."""
    body = noise("PNG", (400, 400))
    data = b"Comment\0\0" + zeros_compressed(300 << 20)
    crc = struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return body[:33] + struct.pack(">I", len(data)) + b"zTXt" + data + crc + body[33:]


def one_coloured_gif(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("P", (width, height)).save(file, "GIF")
    return file.getvalue()


HOSTILE = {
    "a png of 60,000 x 60,000": png(60_000, 60_000, bytes(1000)),
    "a png of 2**31 pixels a side": png(2**31 - 1, 2**31 - 1),
    "a png that promises more than it has": png(6000, 6000, bytes(1000)),
    "a png with a text bomb": png_with_text(),
    "a gif of 65,535 x 65,535": gif_of(65_535, 65_535),
    "a whole gif of more than 20 million pixels": one_coloured_gif(5000, 4001),
    "a webp of 16,384 x 16,384 without frames": webp_of(16_384, 16_384),
    "a tiff": noise("TIFF", (500, 500)),
    "an icon": drawn("ICO", "RGBA", sizes=[(64, 64)]),
    "a postscript file": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 999 999\n",
    "a truncated jpeg": noise("JPEG", (1000, 1000))[:5000],
    "a text": b"<html>no picture</html>" * 100,
    "nothing": b"",
}


@pytest.mark.parametrize("kind", HOSTILE)
async def test_what_is_made_to_hurt_costs_little_and_ends_soon(kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(PreviewFailed) as failed:
        await PreviewWorkers(HERE).make(sliced(HOSTILE[kind]), 256)

    assert time.monotonic() - began < 12
    assert "/" not in failed.value.reason


async def test_a_worker_that_takes_too_long_is_killed() -> None:
    with pytest.raises(PreviewFailed, match="signal 9"):
        await PreviewWorkers(HERE, timeout_s=0.01).make(sliced(drawn("PNG")), 256)


async def test_a_disk_that_takes_nothing_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(PreviewFailed, match="No such file"):
        await PreviewWorkers(tmp_path / "gone").make(sliced(drawn("PNG")), 256)
