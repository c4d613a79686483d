"""Image bytes: what they are, how they are named, and the ports that store, fetch and link them."""

import binascii
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from app.domain.formats import MEDIA_TYPES, ByteSource
from app.domain.formats import MediaInfo as MediaInfo
from app.domain.formats import detect_image as detect_image
from app.domain.images import Picture

IMAGE_NAME = re.compile(
    r"img_[0-9a-f]{32}\.(png|jpg|webp|gif|avif|heic|jxl|bmp|tiff|ico|svg|html|bin)", re.ASCII
)
"""The only names in an image store; use with `fullmatch`."""

PREVIEW_NAME = re.compile(r"(img_[0-9a-f]{32}\.[a-z]{2,4})\.(small|medium)\.webp", re.ASCII)
"""A preview lies beside its picture, under a name that no route takes; use `picture_of`."""

ATTACHMENT_MEDIA_TYPES = frozenset({"image/svg+xml", "text/html", "application/octet-stream"})
"""What a browser might run, and unknown bytes: served as a download, never shown in a page."""

SLICE_BYTES = 16 << 10
"""How much of a picture is read, sent or encoded at a time."""


class PreviewSize(StrEnum):
    """A picture made smaller, for lists of pictures."""

    SMALL = "small"
    MEDIUM = "medium"

    @property
    def pixels(self) -> int:
        """Of its longer side."""
        return 256 if self is PreviewSize.SMALL else 768

    def name_of(self, picture: str) -> str:
        return f"{picture}.{self}.webp"


def preview_names(picture: str) -> list[str]:
    return [size.name_of(picture) for size in PreviewSize]


def picture_of(preview: str) -> str | None:
    """The picture that a `PREVIEW_NAME` belongs to; None for any other name."""
    match = PREVIEW_NAME.fullmatch(preview)
    return match[1] if match is not None and IMAGE_NAME.fullmatch(match[1]) else None


@dataclass(frozen=True, slots=True)
class ImageContent:
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
    """The image store cannot be used now; the message says what to change."""


IMAGE_STORE_UNAVAILABLE_MESSAGE = "The image store is away; repeat the request."
"""What callers are told then."""


class FetchError(Exception):
    """An image could not be downloaded. `reason` may be logged: it never holds the link."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class FetchRefused(FetchError):
    """The link leads where Koi does not go, or is no link at all: never to be retried."""


class FetchFailed(FetchError):
    """The link was followed, but no image came back. `status` is the HTTP status, if one came."""

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class FetchTruncated(FetchFailed):
    """The image is not known to be complete: it ends too early, or nothing tells where it ends."""


class FetchedNonImage(FetchFailed):
    """A web page, a JSON document or a sentence came instead of a picture: most likely an error
    message of a proxy in front of the picture's host."""


def media_type_of(name: str) -> str | None:
    """The media type of an image or preview name; None when it is neither."""
    match = IMAGE_NAME.fullmatch(name)
    if match is None:
        return None if picture_of(name) is None else MEDIA_TYPES["webp"]
    return MEDIA_TYPES[match[1]]


DATA_URI_PREFIX = re.compile(r"\s*data:[^,\s]{0,200};base64,", re.IGNORECASE)
ODD_BASE64_MARKS = (b"-", b"_", b" ", b"\t", b"\r", b"\n")
BASE64_SLICE_CHARS = 96 << 10
"""How much base64 is decoded at a time: a fraction of a millisecond."""
URL_SAFE_ALPHABET = bytes.maketrans(b"-_", b"+/")


def strip_data_uri(text: str) -> str:
    """Remove a `data:image/…;base64,` prefix (RFC 2397); any other text comes back unchanged."""
    match = DATA_URI_PREFIX.match(text)
    return text if match is None else text[match.end() :]


def decode_base64(text: str) -> bytes | bytearray | None:
    """Read base64 as providers write it: with a data URI prefix, line breaks, the URL alphabet
    or missing padding. None when it is not base64, or holds nothing."""
    digits = strip_data_uri(text)
    slices = range(0, len(digits), BASE64_SLICE_CHARS)
    try:
        return decode_base64_slices(
            digits[at : at + BASE64_SLICE_CHARS].encode("ascii") for at in slices
        )
    except UnicodeEncodeError:
        return None


def decode_base64_slices(slices: Iterable[bytes]) -> bytes | bytearray | None:
    """The same for digits that come in slices, so that a long picture is never copied whole, nor
    keeps other threads waiting for long."""
    decoded = bytearray()
    left, is_padded = b"", False
    try:
        for part in slices:
            digits = part
            if any(mark in part for mark in ODD_BASE64_MARKS):
                digits = part.translate(URL_SAFE_ALPHABET, b" \t\r\n")
            content = digits.rstrip(b"=")
            if b"=" in content or (is_padded and content):
                return None  # padding in the middle
            is_padded = is_padded or len(content) < len(digits)
            content = left + content
            whole = len(content) - len(content) % 4
            decoded += binascii.a2b_base64(content[:whole], strict_mode=True)
            left = content[whole:]
        decoded += binascii.a2b_base64(left + b"=" * (-len(left) % 4), strict_mode=True)
    except binascii.Error:
        return None
    return (bytes(decoded) if len(decoded) <= BASE64_SLICE_CHARS else decoded) or None


class ImageDraft(ByteSource, AbstractAsyncContextManager["ImageDraft"], Protocol):
    """The bytes of an image on their way into a store; large ones are on disk, not in memory.

    Reading them from disk blocks. Raises `ImageStoreUnavailable`. A draft that was not kept when
    the block ends is deleted.
    """

    def digest(self) -> bytes:
        """SHA-256 of what was written; reads all of it."""

    async def write(self, data: bytes | bytearray) -> None: ...

    async def keep(self, examine: Callable[[], Picture]) -> Picture:
        """End the writing, let `examine` read the draft and name the picture, and store it durably
        under that name, in place of an image of the same name.

        Where reading blocks, `examine` runs in a thread, the same that stores. What it raises is
        raised, and nothing is stored. Raises `ValueError` for a name that is no `IMAGE_NAME`.
        """


class PreviewFailed(Exception):
    """No preview could be made; `reason` is for the log, and never from the picture itself."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PreviewMaker(Protocol):
    """Makes pictures smaller, where nothing that a hostile picture does can hurt the gateway."""

    @property
    def available(self) -> bool:
        """Whether it is installed (extra `thumbnails`)."""

    async def make(self, slices: AsyncIterator[bytes], pixels: int) -> bytes:
        """A WebP whose longer side has so many pixels, without metadata. Raises `PreviewFailed`,
        and what the slices raise."""


class ImageStore(Protocol):
    """Image bytes by name. Raises `ImageStoreUnavailable`."""

    def draft(self, stem: str) -> ImageDraft:
        """A draft of an image whose name begins with `stem` and whose type is not yet known."""

    async def read(self, name: str, at: int = 0, most: int = SLICE_BYTES) -> ImageSlice | None:
        """Some bytes of an image; fewer only at its end. None when it is not stored."""

    async def get(self, name: str) -> ImageContent | None: ...

    async def exists(self, names: Sequence[str]) -> bool:
        """Whether all these images are stored; cheap."""

    async def put(self, name: str, body: bytes, media_type: str) -> None:
        """Store durably; the same name again replaces."""

    async def delete(self, name: str) -> None:
        """Remove an image and its previews."""

    async def sweep(self, older_than: timedelta) -> int:
        """Remove images older than that, and previews whose image is gone; how many."""

    async def check(self) -> None: ...
    async def identity(self) -> str:
        """The store's own name: the same for all processes that see the same images, and for no
        other."""


class ImageFetcher(Protocol):
    """Downloads a provider's link behind the egress guard. Raises `FetchError`."""

    async def fetch(self, url: str, into: ImageDraft) -> bool:
        """Write the body into a draft, with its content codings decoded. True when a length, chunks
        or the coding said where it ends; False when only the connection's end did.

        Raises `FetchError`, and `ImageStoreUnavailable` for the draft.
        """

    def expires_ms(self, url: str) -> int | None:
        """Unix milliseconds at which a signed link ends, perhaps in the past; None when it does not
        say, or says nothing believable."""


class ImageLinks(Protocol):
    """Signed links to our own pictures."""

    def sign(self, name: str) -> str:
        """The query string with which this picture can be read for a limited time."""

    def verify(self, name: str, exp: str, sig: str) -> bool: ...
