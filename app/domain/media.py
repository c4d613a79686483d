"""Image bytes as bytes: what they are, how they are named, kept, and fetched in vain."""

import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass

IMAGE_NAME = re.compile(r"img_[0-9a-f]{32}\.(png|jpg|webp|gif)", re.ASCII)
"""The only names an image store knows; use with `fullmatch`."""

MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
}
"""File extension -> media type, for every format Koi recognises."""

MOST_PIXELS = 178_956_970
"""Beyond this a picture is a bomb for whoever opens it (Pillow refuses it, too)."""


@dataclass(frozen=True, slots=True)
class Media:
    """A recognised image: its type, the file extension (no dot) and its size in pixels."""

    media_type: str
    extension: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The bytes of one stored image and what they are."""

    body: bytes
    media_type: str


class ImageStoreUnavailable(Exception):
    """The image store cannot be used now; the message says what to mend."""


class FetchError(Exception):
    """An image could not be fetched. `reason` is fit for a log: it never holds the link."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FetchRefused(FetchError):
    """The link points where Koi does not go, or is no link at all: never to be retried."""


class FetchFailed(FetchError):
    """The link was followed, but no image came back. `status` is the HTTP status, if one came."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


def media_type_of(name: str) -> str | None:
    """The media type an image name stands for; None when it is no `IMAGE_NAME`."""
    match = IMAGE_NAME.fullmatch(name)
    return None if match is None else MEDIA_TYPES[match[1]]


def inspect(body: bytes) -> Media | None:
    """Recognise PNG, JPEG, WebP and GIF by their first bytes and read the size in pixels.

    Only headers are read, so a cut-off tail does not matter; None when this is no image, or one
    of absurd dimensions.
    """
    for magic, extension, size_of in FORMATS:
        if body.startswith(magic):
            size = size_of(body)
            if size is None or not 0 < size[0] * size[1] <= MOST_PIXELS:
                return None
            return Media(MEDIA_TYPES[extension], extension, *size)
    return None


Size = tuple[int, int] | None


def _png_size(body: bytes) -> Size:
    """PNG (W3C), section 11.2.1: IHDR comes first, width and height are its first fields."""
    if len(body) < 24 or body[12:16] != b"IHDR":
        return None
    return int.from_bytes(body[16:20], "big"), int.from_bytes(body[20:24], "big")


def _gif_size(body: bytes) -> Size:
    if len(body) < 10 or body[4:6] not in (b"7a", b"9a"):
        return None
    return int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")


def _webp_size(body: bytes) -> Size:
    """RFC 9649, sections 2.5 to 2.7: lossy, lossless and extended layouts."""
    if len(body) < 30 or body[8:12] != b"WEBP":
        return None
    chunk, head = body[12:16], body[20:30]
    if chunk == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        width, height = head[6:8], head[8:10]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    if chunk == b"VP8L" and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    return None


# ITU-T T.81, table B.1: SOF0 to SOF15 without DHT, JPG and DAC.
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xD9)})
PAST_THE_HEADERS = frozenset({0xD9, 0xDA})


def _jpeg_size(body: bytes) -> Size:
    at = 2
    while at + 4 <= len(body) and body[at] == 0xFF:
        marker = body[at + 1]
        if marker in FRAME_MARKERS:
            return _frame_size(body[at + 4 : at + 9])
        if marker in PAST_THE_HEADERS:
            return None
        if marker == 0xFF:
            at += 1
        elif marker in BARE_MARKERS:
            at += 2
        else:
            at += 2 + int.from_bytes(body[at + 2 : at + 4], "big")
    return None


def _frame_size(head: bytes) -> Size:
    if len(head) < 5:
        return None
    return int.from_bytes(head[3:5], "big"), int.from_bytes(head[1:3], "big")


FORMATS: tuple[tuple[bytes, str, Callable[[bytes], Size]], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png", _png_size),
    (b"\xff\xd8\xff", "jpg", _jpeg_size),
    (b"RIFF", "webp", _webp_size),
    (b"GIF8", "gif", _gif_size),
)

DATA_URI = re.compile(r"\s*data:[^,\s]{0,200};base64,", re.IGNORECASE)
URL_SAFE = bytes.maketrans(b"-_", b"+/")


def strip_data_uri(text: str) -> str:
    """Take a `data:image/…;base64,` prefix (RFC 2397) off; any other text comes back unchanged."""
    match = DATA_URI.match(text)
    return text if match is None else text[match.end() :]


def decode_base64(text: str) -> bytes | None:
    """Read base64 as providers write it: with a data URI prefix, line breaks, the URL alphabet
    or missing padding. None when it is not base64, or holds nothing."""
    try:
        digits = strip_data_uri(text).encode("ascii").translate(URL_SAFE, b" \t\r\n").rstrip(b"=")
        body = binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error):
        return None
    return body or None
