"""Images as objects in a bucket of S3 (or a compatible store), Google Cloud Storage or Azure."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

from app.adapters.images.bucket import (
    LARGE_REQUEST_TIMEOUT_S,
    SMALL_REQUEST_TIMEOUT_S,
    backend_config,
    backend_errors,
    bucket_identity,
    is_bucket_missing,
    open_bucket,
)
from app.adapters.images.expired_objects import ExpiredObjects
from app.adapters.images.spool import (
    Examine,
    SpoolDirectory,
    SpooledDraft,
    finish_despite_cancel,
    map_draft,
)
from app.domain.images import Picture
from app.domain.media import (
    IMAGE_NAME,
    SLICE_BYTES,
    ImageContent,
    ImageSlice,
    ImageStoreUnavailable,
    media_type_of,
    preview_names,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

MAX_EXAMINED_OBJECTS = 5000
LIST_PAGE_SIZE = 1000
MAX_CONCURRENT_DELETES = 16
DRAIN_S = 0.5
CLOSE_TIMEOUT_S = 5.0

PERMISSION_ERRORS = ("PermissionDeniedError", "UnauthenticatedError")


class ObjectImageStore:
    """Image store in a bucket, below an optional prefix; made by `open`.

    Every method but `close` raises `ImageStoreUnavailable` when the bucket cannot be used. Age is
    the object's modification time as the bucket tells it.
    """

    def __init__(
        self,
        store: "ObjectStore",
        where: str,
        now: Callable[[], float] = time.time,
        *,
        large_store: "ObjectStore | None" = None,
        spool: Path | None = None,
        endpoint: str | None = None,
    ) -> None:
        """`large_store` is the same bucket with a longer timeout, for large bodies."""
        self._identity = bucket_identity(where, endpoint)
        self._store = store
        self._large_store = large_store or store
        self._spool = SpoolDirectory(spool or Path(tempfile.gettempdir()))
        self._where = where
        self._now = now
        self._cursor: str | None = None
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_call = float("-inf")
        self._backend_errors = backend_errors()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        spool: Path | None = None,
    ) -> Self:
        """Open `s3://bucket/prefix`, `gs://…` or `az://…` without touching the network.

        Without keys the ambient credentials of this machine are used (environment, profile,
        instance role). `az://` reads the keys as account name and account key. Large
        images wait in the directory `spool` until they are uploaded. Raises
        `ObjectStoreMissing`, or `ImageStoreUnavailable` when the settings make no sense.
        """
        given = backend_config(url, endpoint, region, access_key_id, secret_access_key)
        quick, large_store = (
            open_bucket(url, given, timeout_s=limit)
            for limit in (SMALL_REQUEST_TIMEOUT_S, LARGE_REQUEST_TIMEOUT_S)
        )
        return cls(quick, url, large_store=large_store, spool=spool, endpoint=endpoint)

    def draft(self, stem: str) -> SpooledDraft:  # noqa: ARG002 - all drafts lie in one directory
        """A draft for the bytes of an image, on this machine's disk."""
        return SpooledDraft(self._spool.create, self._keep, self._spool.map_error)

    async def put(self, name: str, body: bytes, media_type: str) -> None:
        """Store durably; the same name again replaces. `ValueError` when no `IMAGE_NAME`."""
        if media_type_of(name) != media_type:
            raise ValueError(f"{name!r} does not name an image of type {media_type!r}")
        with self._track_call():
            await self._write(name, body, media_type)

    async def read(self, name: str, at: int = 0, most: int = SLICE_BYTES) -> ImageSlice | None:
        """Some bytes of an image, or None when it was never stored or is gone; each call is a
        request of its own."""
        media_type = media_type_of(name)
        if media_type is None:
            return None
        with suppress(FileNotFoundError), self._track_call():
            answer = await self._store.get_async(name, options={"range": (at, at + most)})
            body = bytes(await answer.bytes_async())
            return ImageSlice(body, media_type, answer.meta["size"])
        return None

    async def get(self, name: str) -> ImageContent | None:
        """The whole image, or None when it was never stored or is gone."""
        media_type = media_type_of(name)
        if media_type is None:
            return None
        with suppress(FileNotFoundError), self._track_call():
            answer = await self._large_store.get_async(name)
            return ImageContent(bytes(await answer.bytes_async()), media_type)
        return None

    async def exists(self, names: Sequence[str]) -> bool:
        """Whether all these images are stored."""
        return all(await asyncio.gather(*map(self._exists, names)))

    async def delete(self, name: str) -> None:
        """Remove an image and its previews; nothing happens when there is none."""
        if IMAGE_NAME.fullmatch(name):
            await self._remove_all([name, *preview_names(name)])

    async def sweep(self, older_than: timedelta) -> int:
        """Remove images older than that with their previews, and say how many objects that were.

        One sweep examines at most 5000 objects; the next goes on where it ended.
        """
        expired = ExpiredObjects(datetime.fromtimestamp(self._now(), UTC) - older_than)
        old, examined, last = [], 0, None
        with self._track_call():
            async for page in self._store.list(offset=self._cursor, chunk_size=LIST_PAGE_SIZE):
                examined += len(page)
                last = page[-1]["path"]
                old += [
                    found["path"]
                    for found in page
                    if expired.take(found["path"], found["last_modified"])
                ]
                if examined >= MAX_EXAMINED_OBJECTS:
                    break
        for start in range(0, len(old), MAX_CONCURRENT_DELETES):
            await self._remove_all(old[start : start + MAX_CONCURRENT_DELETES])
        self._cursor = last if examined >= MAX_EXAMINED_OBJECTS else None
        await asyncio.to_thread(self._spool.sweep, self._now())
        return len(old)

    async def check(self) -> None:
        """Prove that objects can be written and removed; the failure says what to do."""
        probe = f"koi-check-{uuid4().hex}"
        with self._track_call():
            await self._write(probe, b"koi", "text/plain")
            await self._store.delete_async(probe)

    async def identity(self) -> str:
        """Bucket, prefix and endpoint."""
        return self._identity

    async def close(self) -> None:
        """Wait until the library's threads are idle.

        A process that exits right after a failed call may be aborted by one of these threads; half
        a second without a call prevents it.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._idle.wait()
        await asyncio.sleep(max(self._last_call + DRAIN_S - time.monotonic(), 0))

    async def _keep(self, draft: SpooledDraft, examine: Examine) -> Picture:
        body = draft.in_memory
        await draft.seal()
        picture = examine() if body is not None else await finish_despite_cancel(examine)
        media_type = media_type_of(picture.name)
        if media_type is None:
            raise ValueError(f"{picture.name!r} does not name an image")
        with self._track_call():
            if body is None:
                await self._write(picture.name, map_draft(draft), media_type, self._large_store)
            else:
                await self._write(picture.name, body, media_type)
        return picture

    async def _write(
        self,
        path: str,
        body: "bytes | memoryview",
        media_type: str,
        store: "ObjectStore | None" = None,
    ) -> None:
        # One request: an unfinished multipart upload would stay in the bucket, unseen but paid for.
        attributes = {"Content-Type": media_type}
        store = store or self._store
        await store.put_async(path, body, attributes=attributes, use_multipart=False)

    async def _exists(self, name: str) -> bool:
        if IMAGE_NAME.fullmatch(name) is None:
            return False
        with suppress(FileNotFoundError), self._track_call():
            await self._store.head_async(name)
            return True
        return False

    async def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError), self._track_call():
            await self._store.delete_async(name)

    async def _remove_all(self, names: list[str]) -> None:
        outcomes = await asyncio.gather(*map(self._remove, names), return_exceptions=True)
        for failure in filter(None, outcomes):
            raise failure

    @contextmanager
    def _track_call(self) -> Iterator[None]:
        self._calls += 1
        self._idle.clear()
        try:
            yield
        except FileNotFoundError as error:
            # A missing bucket must not look like a missing image, which would be bought again.
            if is_bucket_missing(error):
                raise self._unavailable(error) from None
            raise
        except self._backend_errors as error:
            raise self._unavailable(error) from None
        finally:
            self._calls -= 1
            self._last_call = time.monotonic()
            if not self._calls:
                self._idle.set()

    def _unavailable(self, error: Exception) -> ImageStoreUnavailable:
        kind = type(error).__name__
        if is_bucket_missing(error):
            advice = "does not exist: create the bucket or correct KOI_IMAGE_STORE."
        elif kind in PERMISSION_ERRORS:
            advice = "refuses our credentials: they must be allowed to list, read, write, delete."
        else:
            advice = "cannot be reached: check its endpoint, its region and the network."
        return ImageStoreUnavailable(f"The image store {self._where} {advice}")
