"""Reference images: pictures that a request brings along, to be edited or to be followed.

They are never stored: their bytes lie in a file of this process that nobody else can open, until
the request was sent to the provider or refused.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from app.domain.formats import ByteSource
from app.domain.images import digest

MAX_REFERENCE_BYTES = 20 << 20
MAX_REFERENCES_BYTES = 48 << 20
"""Of one picture, and of all pictures of a request. Base64 makes 64 MB of the latter, which is as
much as providers take in one call."""
MIN_BYTES_PER_S = 64 << 10
"""An upload that is at least this fast may go on beyond its timeout."""
MAX_SILENCE = 3
"""Times the timeout of a body: so long it may pause, however fast it came before."""
REFERENCE_EXTENSIONS = frozenset({"png", "jpg", "webp", "gif", "bmp", "tiff"})
"""What providers with reference images take (the pages of seedream 4.5 and 5.0 name these)."""
MAX_REFERENCES = 50
MAX_REFERENCE_STEPS = 300_000
"""Of all pictures of a request together: GIFs of as many bytes as they may have take 190,000."""
REFERENCE_FIELD = "image"
"""What seedream calls them."""
T = TypeVar("T")
FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
SENT_FIELDS = frozenset({"async", "model", "n", "prompt", "quality", "response_format", "size"})


def upload_due_s(due_s: float, came_bytes: int, now_s: float, timeout_s: float) -> float:
    """When an upload is late that was due at `due_s`, now that so many more bytes came."""
    return min(due_s + came_bytes / MIN_BYTES_PER_S, now_s + MAX_SILENCE * timeout_s)


def reference_mistakes(count: int, field_name: str) -> Iterator[tuple[str, str]]:
    """What is wrong in what a catalog says of a model's reference images: field and sentence."""
    if not 0 <= count <= MAX_REFERENCES:
        yield "references", f"references must be from 0 to {MAX_REFERENCES}"
    if FIELD_NAME.fullmatch(field_name) is None or field_name in SENT_FIELDS:
        yield "reference_field", "reference_field must be a field of the provider's own for images"


@dataclass(frozen=True, slots=True)
class Reference:
    """One reference image. `content_digest` is equal for equal pictures, however they came.

    Either `content`, with its true `media_type`, or the `url` under which the provider finds it.
    """

    content_digest: str
    url: str | None = None
    media_type: str = ""
    content: ByteSource | None = field(default=None, compare=False, repr=False)


def refer_to(url: str) -> Reference:
    """A picture that only the provider will see: its address is all that is known of it."""
    return Reference(digest("url", url), url)


class ReferenceFile(Protocol):
    """The bytes of all pictures of one request, one after the other; gone when nobody holds it."""

    @property
    def size(self) -> int:
        """How many bytes were added."""

    def announce(self, length: int) -> None:
        """About so many bytes will come. Raises `GatewayOverloaded` when its user has no room for
        them beside the uploads that are under way."""

    def add(self, data: bytes) -> None:
        """Take the next bytes. They are in memory until `flush`."""

    async def flush(self, *, everything: bool = False) -> None:
        """Write what was added to the disk, once it is much or `everything` is to be readable.
        Raises `GatewayOverloaded` when the disk, or what a user may have of it, has no room."""

    def span(self, begin: int, end: int) -> ByteSource:
        """Some of the bytes that were flushed. Reading them blocks."""

    async def examine(self, look: Callable[[], T]) -> T:
        """Call `look`, which reads spans, in one of a few threads that do nothing else: hostile
        pictures wait for each other there, and no paid picture for them."""


class ReferenceSpool(Protocol):
    def open(self, user: str) -> ReferenceFile:
        """An empty file for one request of a user; nothing is on the disk before its first
        bytes."""
