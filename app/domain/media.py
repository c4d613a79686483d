"""Image bytes as bytes: what they are, how they are named, kept, and fetched in vain."""

import binascii
import re
from dataclasses import dataclass

from app.domain.formats import MEDIA_TYPES
from app.domain.formats import Media as Media
from app.domain.formats import inspect as inspect

IMAGE_NAME = re.compile(
    r"img_[0-9a-f]{32}\.(png|jpg|webp|gif|avif|heic|jxl|bmp|tiff|ico|svg|html|bin)", re.ASCII
)
"""The only names an image store knows; use with `fullmatch`."""

DOWNLOADS = frozenset({"image/svg+xml", "text/html", "application/octet-stream"})
"""What a browser might run, or nobody knows: served only to be saved, never to be shown."""

SLICE = 16 << 10
"""How much of a picture is read, sent or encoded at a time."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The bytes of one stored image and what they are."""

    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class ImageSlice:
    """Some bytes of a stored image; `size` is that of the whole image."""

    body: bytes
    media_type: str
    size: int


class ImageStoreUnavailable(Exception):
    """The image store cannot be used now; the message says what to mend."""


STORE_AWAY = "The image store is away; repeat the request."
"""What callers are told of it."""


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


class FetchCut(FetchFailed):
    """What came is not known to be whole: it ends before its own end, or nothing tells its end."""


class FetchedText(FetchFailed):
    """A page, a JSON document or a sentence came where a picture should be: most likely the words
    of whatever stands before the picture's host."""


def media_type_of(name: str) -> str | None:
    """The media type an image name stands for; None when it is no `IMAGE_NAME`."""
    match = IMAGE_NAME.fullmatch(name)
    return None if match is None else MEDIA_TYPES[match[1]]


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
