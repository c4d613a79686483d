"""Real pictures of every format Koi knows: drawn with Pillow, or written by hand."""

import io
import os
import struct
import zlib
from collections.abc import Mapping

from PIL import Image

from tests.made import MadeOnce

SIZE = (321, 123)


def _noise(mode: str) -> Image.Image:
    return Image.effect_noise(SIZE, 80).convert(mode)


def drawn(layout: str, mode: str = "RGB", *, flat: bool = False, **options: object) -> bytes:
    file = io.BytesIO()
    image = Image.new(mode, SIZE, 7 if mode == "L" else None) if flat else _noise(mode)
    image.save(file, layout, **options)
    return file.getvalue()


def moving(layout: str, **options: object) -> bytes:
    file = io.BytesIO()
    frames = [_noise("RGB") for _ in range(3)]
    frames[0].save(file, layout, save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def chunked_png(length: int) -> bytes:
    """A whole PNG of about that length: a picture with a private chunk behind its header."""
    return with_chunk(drawn("PNG"), length)


def with_chunk(body: bytes, length: int) -> bytes:
    data = b"koIi" + os.urandom(length)
    extra = struct.pack(">I", length) + data + struct.pack(">I", zlib.crc32(data))
    return body[:33] + extra + body[33:]


DATA = bytes(range(1, 256)) * 20
ISPE = box(b"ispe", struct.pack(">III", 0, *SIZE))
HEIC = (
    box(b"ftyp", b"heic\0\0\0\0mif1heic")
    + box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", ISPE)))
    + box(b"mdat", DATA)
)
# Height 123 and width 321, each less one in nine bits behind a selector of two.
JXL_HEAD = (0 | 0 << 1 | 122 << 3 | 0 << 12 | 0 << 15 | 320 << 17).to_bytes(4, "little")
JXL = b"\xff\x0a" + JXL_HEAD + DATA
JXL_BOXES = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ") + box(b"jxlc", JXL)
SVG = (
    b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- drawn -->\n'
    b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>\n'
)
PAGE = b"<!DOCTYPE html><html><title>Sign in</title><script>alert(1)</script></html>"

PICTURES: Mapping[str, tuple[bytes, str, str]] = MadeOnce(
    {
        "png": lambda: (drawn("PNG"), "image/png", "png"),
        "animated png": lambda: (moving("PNG"), "image/png", "png"),
        "jpeg": lambda: (drawn("JPEG"), "image/jpeg", "jpg"),
        "progressive jpeg": lambda: (drawn("JPEG", progressive=True), "image/jpeg", "jpg"),
        "jpeg with metadata": lambda: (
            drawn("JPEG", exif=b"Exif\0\0" + b"x" * 9000),
            "image/jpeg",
            "jpg",
        ),
        "jpeg with restarts": lambda: (drawn("JPEG", restart_marker_rows=1), "image/jpeg", "jpg"),
        "grey jpeg": lambda: (drawn("JPEG", "L"), "image/jpeg", "jpg"),
        "flat jpeg": lambda: (drawn("JPEG", flat=True, optimize=True), "image/jpeg", "jpg"),
        "lossy webp": lambda: (drawn("WEBP"), "image/webp", "webp"),
        "lossless webp": lambda: (drawn("WEBP", lossless=True), "image/webp", "webp"),
        "flat webp": lambda: (drawn("WEBP", flat=True), "image/webp", "webp"),
        "extended webp": lambda: (drawn("WEBP", exif=b"Exif\0\0xx"), "image/webp", "webp"),
        "webp with alpha": lambda: (drawn("WEBP", "RGBA"), "image/webp", "webp"),
        "animated webp": lambda: (moving("WEBP"), "image/webp", "webp"),
        "gif": lambda: (drawn("GIF", "P"), "image/gif", "gif"),
        "animated gif": lambda: (moving("GIF"), "image/gif", "gif"),
        "avif": lambda: (drawn("AVIF"), "image/avif", "avif"),
        "animated avif": lambda: (moving("AVIF"), "image/avif", "avif"),
        "heic": lambda: (HEIC, "image/heic", "heic"),
        "jpeg xl": lambda: (JXL, "image/jxl", "jxl"),
        "jpeg xl in boxes": lambda: (JXL_BOXES, "image/jxl", "jxl"),
        "bmp": lambda: (drawn("BMP"), "image/bmp", "bmp"),
        "black and white bmp": lambda: (drawn("BMP", "1"), "image/bmp", "bmp"),
        "tiff": lambda: (drawn("TIFF"), "image/tiff", "tiff"),
        "lzw tiff": lambda: (drawn("TIFF", compression="tiff_lzw"), "image/tiff", "tiff"),
        "tiff of pages": lambda: (moving("TIFF"), "image/tiff", "tiff"),
        "ico": lambda: (drawn("ICO", "RGBA", sizes=[(32, 32)]), "image/x-icon", "ico"),
        "svg": lambda: (SVG, "image/svg+xml", "svg"),
    }
)
"""Kind -> bytes, media type, extension."""
