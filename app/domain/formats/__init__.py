"""The type of an image by its magic number, its size in pixels, and whether it is complete.

Nothing is decoded: one pass follows the format's lengths, checksums and end marks. Its work is
bounded, whatever the bytes are.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.domain.formats import bitmaps, boxes, documents, gif, jpeg, png, tiff, webp
from app.domain.formats.source import (
    BufferedSource,
    ByteSource,
    FormatInfo,
    MemorySource,
    StepBudget,
)

__all__ = [
    "MEDIA_TYPES",
    "UNKNOWN_MEDIA",
    "BufferedSource",
    "ByteSource",
    "MediaInfo",
    "StepBudget",
    "detect_image",
    "detect_media",
    "may_be_image",
]

MAX_PIXELS = 178_956_970
"""A larger image may exhaust the memory of a program that opens it; Pillow refuses it too."""

SNIFF_BYTES = 4096
MIN_UNKNOWN_BYTES = 128

MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "avif": "image/avif",
    "heic": "image/heic",
    "jxl": "image/jxl",
    "bmp": "image/bmp",
    "tiff": "image/tiff",
    "ico": "image/x-icon",
    "svg": "image/svg+xml",
    "html": "text/html",
    "bin": "application/octet-stream",
}
"""File extension -> media type, for everything that is stored."""

FormatReader = Callable[[ByteSource, StepBudget], FormatInfo | None]
FORMATS: tuple[tuple[int, bytes, str, FormatReader], ...] = (
    (0, png.SIGNATURE, "png", png.read),
    (0, b"\xff\xd8\xff", "jpg", jpeg.read),
    (0, b"RIFF", "webp", webp.read),
    (0, b"GIF8", "gif", gif.read),
    (4, b"ftyp", "avif", boxes.read_avif),
    (4, b"ftyp", "heic", boxes.read_heic),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "jxl", boxes.read_jxl),
    (0, b"\xff\x0a", "jxl", bitmaps.read_jxl),
    (0, b"BM", "bmp", bitmaps.read_bmp),
    (0, b"II*\0", "tiff", tiff.read),
    (0, b"MM\0*", "tiff", tiff.read),
    (0, b"\0\0\1\0", "ico", bitmaps.read_ico),
)
"""Position of the magic number, the number, the file extension, and the reader of the rest."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """Media type, file extension (without dot), and size in pixels if it is known.

    `is_complete` is None when the format does not mark its end. `is_text`: these are more likely
    words of a host, such as an error message, than an image.
    """

    media_type: str
    extension: str
    width: int | None = None
    height: int | None = None
    is_complete: bool | None = None
    is_text: bool = False


UNKNOWN_MEDIA = MediaInfo(MEDIA_TYPES["bin"], "bin")


def detect_media(source: ByteSource, steps: StepBudget | None = None) -> MediaInfo:
    """The type of a body; `application/octet-stream` for what Koi does not know.

    That is also the type of an image with absurd dimensions, so that no browser opens it. A picture
    that takes more than `steps` is not complete.
    """
    steps = steps or StepBudget()
    head = source.read(0, 16)
    for at, magic, extension, read in FORMATS:
        found = read(source, steps) if head.startswith(magic, at) else None
        if found is not None:
            return _picture(extension, found)
    drawing = documents.read_svg(source)
    if drawing is not None:
        return _picture("svg", drawing)
    if documents.is_html(source):
        return MediaInfo(MEDIA_TYPES["html"], "html", is_text=True)
    return MediaInfo(
        UNKNOWN_MEDIA.media_type, "bin", is_text=source.size == 0 or documents.is_text(source)
    )


def detect_image(body: bytes) -> MediaInfo | None:
    """The type of a body in memory; None when it is no image of a format Koi knows."""
    media = detect_media(MemorySource(body))
    return None if media.extension in ("html", "bin") else media


def may_be_image(body: bytes | bytearray) -> bool:
    """Whether the bytes in an image field are an image, by their beginning. An unknown format
    counts too, unless there are so few bytes that they are probably a word."""
    media = detect_media(MemorySource(bytes(body[:SNIFF_BYTES])))
    known = media.extension not in ("html", "bin")
    return known or (not media.is_text and len(body) >= MIN_UNKNOWN_BYTES)


def _picture(extension: str, found: FormatInfo) -> MediaInfo:
    width, height = found.width, found.height
    if width is None or height is None:
        return MediaInfo(MEDIA_TYPES[extension], extension, is_complete=found.is_complete)
    if min(width, height) > 0 and width * height <= MAX_PIXELS:
        return MediaInfo(MEDIA_TYPES[extension], extension, width, height, found.is_complete)
    return MediaInfo(UNKNOWN_MEDIA.media_type, "bin", is_complete=found.is_complete)
