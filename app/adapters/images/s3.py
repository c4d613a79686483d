"""Images as objects of a bucket: S3 and its many likenesses, Google Cloud Storage, Azure."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from app.domain.media import IMAGE_NAME, ImageStoreUnavailable, StoredImage, media_type_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

MOST_EXAMINED = 5000
LIST_PAGE = 1000
DELETES_AT_ONCE = 16
DRAIN_S = 0.5
LAST_CALLS_S = 5.0

NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")
NOT_ALLOWED = ("PermissionDeniedError", "UnauthenticatedError")


class ObjectStoreMissing(RuntimeError):
    """The optional dependency behind `s3://`, `gs://` and `az://` is not installed."""


class ObjectImageStore:
    """Image store in a bucket, below an optional prefix; made by `open`.

    Every method but `close` raises `ImageStoreUnavailable` when the bucket cannot be used. Age is
    the object's modification time as the bucket tells it.
    """

    def __init__(
        self, store: "ObjectStore", where: str, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._where = where
        self._now = now
        self._cursor: str | None = None
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._last_call = float("-inf")
        self._failures = _failures()

    @classmethod
    def open(
        cls,
        url: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
    ) -> Self:
        """Open `s3://bucket/prefix`, `gs://…` or `az://…` without touching the network.

        Without keys the ambient credentials of this machine are used (environment, profile,
        instance role). `az://` reads the keys as account name and account key. Raises
        `ObjectStoreMissing`, or `ImageStoreUnavailable` when the settings make no sense.
        """
        misconfigured: tuple[type[Exception], ...] = (*_failures(), ValueError)
        from obstore.store import from_url  # noqa: PLC0415  an optional dependency

        scheme = url.partition("://")[0]
        given = _settings(scheme, endpoint, region, access_key_id, secret_access_key)
        # Anything slower than this holds up a finished picture (ecosystem study, section 2.1 a).
        retry: RetryConfig = {"max_retries": 1, "retry_timeout": timedelta(seconds=3)}
        client: ClientConfig = {
            "connect_timeout": timedelta(seconds=1),
            "timeout": timedelta(seconds=20),
            "allow_http": (endpoint or "").startswith("http://"),
            # There is no switch for "no proxy": one that is used for nothing keeps the library
            # from asking the environment for another (reliability study, S3).
            "proxy_url": "http://127.0.0.1:9",
            "proxy_excludes": "*,0.0.0.0/0,::/0",
        }
        config: Any = {key: value for key, value in given.items() if value is not None}
        try:
            store = from_url(url, config=config, client_options=client, retry_config=retry)
        except misconfigured as error:
            reason = str(error).partition("\n")[0]
            raise ImageStoreUnavailable(
                f"The image store {url} cannot be opened ({reason}): correct KOI_IMAGE_STORE."
            ) from None
        return cls(store, url)

    async def put(self, name: str, body: bytes, media_type: str) -> None:
        """Store durably; the same name again replaces. `ValueError` when no `IMAGE_NAME`."""
        if media_type_of(name) != media_type:
            raise ValueError(f"{name!r} does not name an image of type {media_type!r}")
        with self._asking():
            await self._write(name, body, media_type)

    async def get(self, name: str) -> StoredImage | None:
        """The image, or None when it was never stored or is gone."""
        media_type = media_type_of(name)
        if media_type is None:
            return None
        with suppress(FileNotFoundError), self._asking():
            answer = await self._store.get_async(name)
            return StoredImage(bytes(await answer.bytes_async()), media_type)
        return None

    async def delete(self, name: str) -> None:
        """Remove an image; nothing happens when there is none."""
        if IMAGE_NAME.fullmatch(name):
            await self._remove(name)

    async def sweep(self, older_than: timedelta) -> int:
        """Remove images older than that and say how many.

        One sweep examines at most 5000 objects; the next goes on where it ended.
        """
        cutoff = datetime.fromtimestamp(self._now(), UTC) - older_than
        old, examined, last = [], 0, None
        with self._asking():
            async for page in self._store.list(offset=self._cursor, chunk_size=LIST_PAGE):
                examined += len(page)
                last = page[-1]["path"]
                old += [
                    found["path"]
                    for found in page
                    if IMAGE_NAME.fullmatch(found["path"]) and found["last_modified"] < cutoff
                ]
                if examined >= MOST_EXAMINED:
                    break
        for start in range(0, len(old), DELETES_AT_ONCE):
            await self._remove_all(old[start : start + DELETES_AT_ONCE])
        self._cursor = last if examined >= MOST_EXAMINED else None
        return len(old)

    async def check(self) -> None:
        """Prove that objects can be written and removed; the failure says what to mend."""
        probe = f"koi-check-{uuid4().hex}"
        with self._asking():
            await self._write(probe, b"koi", "text/plain")
            await self._store.delete_async(probe)

    async def close(self) -> None:
        """Let the library's threads come to rest.

        A process that ends right after a failed call may be aborted by them (ecosystem study,
        section 2.1 b): half a second of peace prevents it.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), LAST_CALLS_S)
        await asyncio.sleep(max(self._last_call + DRAIN_S - time.monotonic(), 0))

    async def _write(self, path: str, body: bytes, media_type: str) -> None:
        # One request, since a half-made multipart upload would stay in the bucket unseen.
        attributes = {"Content-Type": media_type}
        await self._store.put_async(path, body, attributes=attributes, use_multipart=False)

    async def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError), self._asking():
            await self._store.delete_async(name)

    async def _remove_all(self, names: list[str]) -> None:
        outcomes = await asyncio.gather(*map(self._remove, names), return_exceptions=True)
        for failure in filter(None, outcomes):
            raise failure

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._calls += 1
        self._idle.clear()
        try:
            yield
        except FileNotFoundError as error:
            # An absent bucket is no absent image: the difference is a picture paid for twice.
            if _no_bucket(error):
                raise self._unavailable(error) from None
            raise
        except self._failures as error:
            raise self._unavailable(error) from None
        finally:
            self._calls -= 1
            self._last_call = time.monotonic()
            if not self._calls:
                self._idle.set()

    def _unavailable(self, error: Exception) -> ImageStoreUnavailable:
        kind = type(error).__name__
        if _no_bucket(error):
            advice = "does not exist: create the bucket or correct KOI_IMAGE_STORE."
        elif kind in NOT_ALLOWED:
            advice = "refuses our credentials: they must be allowed to list, read, write, delete."
        else:
            advice = "cannot be reached: check its endpoint, its region and the network."
        return ImageStoreUnavailable(f"The image store {self._where} {advice}")


def _no_bucket(error: Exception) -> bool:
    return any(code in str(error) for code in NO_BUCKET)


def _failures() -> tuple[type[Exception], ...]:
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415  an optional dependency
    except ModuleNotFoundError:
        raise ObjectStoreMissing(
            "KOI_IMAGE_STORE names a bucket, which needs one more package: "
            "pip install 'koi-gateway[s3]'"
        ) from None
    return (BaseError, OSError)


def _settings(
    scheme: str,
    endpoint: str | None,
    region: str | None,
    access_key_id: str | None,
    secret_access_key: str | None,
) -> dict[str, str | None]:
    if scheme == "s3":
        return {
            "endpoint": endpoint,
            "region": region,
            "access_key_id": access_key_id,
            "secret_access_key": secret_access_key,
        }
    if scheme == "az":
        return {
            "endpoint": endpoint,
            "account_name": access_key_id,
            "account_key": secret_access_key,
        }
    if scheme == "gs":
        if access_key_id or secret_access_key:
            raise ImageStoreUnavailable(
                "gs:// takes no keys: use the machine's Google credentials instead."
            )
        return {"base_url": endpoint}
    raise ImageStoreUnavailable(
        f"{scheme}:// is no image store Koi knows: use s3://, gs:// or az://, or a directory."
    )
