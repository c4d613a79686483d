"""What the use cases need where pictures are: a store of bytes, a way to fetch them, links."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

from app.domain.formats import Source
from app.domain.media import SLICE, ImageSlice, StoredImage


class Draft(Source, AbstractAsyncContextManager["Draft"], Protocol):
    """The bytes of an image on their way into a store, never more than a few of them in memory.

    Reading blocks once there are many. Raises `ImageStoreUnavailable`. What was not kept when the
    block ends is thrown away.
    """

    @property
    def digest(self) -> bytes:
        """SHA-256 of what was written so far."""

    @property
    def in_memory(self) -> bytes | None:
        """The whole body while it is small, else None."""

    async def write(self, data: bytes) -> None: ...

    async def seal(self) -> None:
        """No more is written."""

    async def keep(self, name: str) -> None:
        """Store it durably; the same name again replaces. `ValueError` when no `IMAGE_NAME`."""


class ImageStore(Protocol):
    """Image bytes by name. Raises `ImageStoreUnavailable`."""

    def draft(self, stem: str) -> Draft:
        """A place for an image whose name begins with `stem` and whose type is not yet known."""

    async def read(self, name: str, at: int = 0, most: int = SLICE) -> ImageSlice | None:
        """Some bytes of an image; fewer only at its end. None when it is not stored."""

    async def get(self, name: str) -> StoredImage | None: ...

    async def exists(self, names: Sequence[str]) -> bool:
        """Whether all these images are stored; cheap."""

    async def delete(self, name: str) -> None: ...
    async def sweep(self, older_than: timedelta) -> int: ...
    async def check(self) -> None: ...
    async def identity(self) -> str:
        """The store's own name: the same for all who see the same images, and for nobody else."""


class ImageFetcher(Protocol):
    """Downloads a provider's link behind the egress guard. Raises `FetchError`."""

    async def fetch(self, url: str, into: Draft) -> bool:
        """Write the body into a draft, its content codings undone. True when its end was told by
        a length, by chunks or by its coding; False when only the connection's end told it.

        Raises `FetchError`, and `ImageStoreUnavailable` for the draft.
        """

    def expires_ms(self, url: str) -> int | None:
        """Unix milliseconds at which a signed link itself ends, perhaps in the past; None when it
        says nothing believable."""


class Links(Protocol):
    """Signed links to our own pictures."""

    def sign(self, name: str) -> str:
        """The query string that opens this picture for a while."""

    def verify(self, name: str, exp: str, sig: str) -> bool: ...
