"""What bytes are: their type by magic numbers, their size in pixels, and whether they are whole.

Nothing is decoded: a format's own lengths, checksums and end marks are followed, in one pass that
is bounded however hostile the bytes are.
"""

from collections.abc import Callable
from dataclasses import dataclass

from app.domain.formats import bitmaps, boxes, documents, gif, jpeg, png, tiff, webp
from app.domain.formats.source import ByteSource, FormatInfo, MemorySource

__all__ = [
    "MEDIA_TYPES",
    "UNKNOWN_MEDIA",
    "ByteSource",
    "MediaInfo",
    "detect_image",
    "detect_media",
    "may_be_image",
]

MAX_PIXELS = 178_956_970
"""Beyond this a picture is a bomb for whoever opens it (Pillow refuses it, too)."""

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

FormatReader = Callable[[ByteSource], FormatInfo | None]
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
"""Where the magic number stands, what it is, the extension, and who reads the rest."""


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What some bytes are: media type, file extension (no dot), size in pixels if it is known.

    `is_complete` is what the format says of its own end: None when it cannot say. `text` marks
    what is more likely to be a host's words than a picture.
    """

    media_type: str
    extension: str
    width: int | None = None
    height: int | None = None
    is_complete: bool | None = None
    is_text: bool = False


UNKNOWN_MEDIA = MediaInfo(MEDIA_TYPES["bin"], "bin")


def detect_media(source: ByteSource) -> MediaInfo:
    """Say what a body is; anything Koi does not know is `application/octet-stream`.

    So is a picture of absurd dimensions: nobody's browser is to open it by itself.
    """
    head = source.read(0, 16)
    for at, magic, extension, read in FORMATS:
        found = read(source) if head.startswith(magic, at) else None
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
    """What a body in memory is; None when it is no picture of a format Koi knows."""
    media = detect_media(MemorySource(body))
    return None if media.extension in ("html", "bin") else media


def may_be_image(body: bytes) -> bool:
    """Whether bytes that an answer holds where a picture belongs are one, by their beginning; also
    of a format Koi does not know, unless they are so few that they are a word in disguise."""
    media = detect_media(MemorySource(body[:SNIFF_BYTES]))
    known = media.extension not in ("html", "bin")
    return known or (not media.is_text and len(body) >= MIN_UNKNOWN_BYTES)


def _picture(extension: str, found: FormatInfo) -> MediaInfo:
    width, height = found.width, found.height
    if width is None or height is None:
        return MediaInfo(MEDIA_TYPES[extension], extension, is_complete=found.is_complete)
    if min(width, height) > 0 and width * height <= MAX_PIXELS:
        return MediaInfo(MEDIA_TYPES[extension], extension, width, height, found.is_complete)
    return MediaInfo(UNKNOWN_MEDIA.media_type, "bin", is_complete=found.is_complete)
