"""Opening a bucket of S3 (or a compatible store), Google Cloud Storage or Azure."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from app.domain.media import ImageStoreUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

SMALL_REQUEST_TIMEOUT_S = 20.0
LARGE_REQUEST_TIMEOUT_S = 300.0
"""For one request; large bodies are given the longer one."""
BUCKET_MISSING_CODES = ("NoSuchBucket", "ContainerNotFound")


class ObjectStoreNotInstalled(RuntimeError):
    """The optional dependency behind `s3://`, `gs://` and `az://` is not installed."""


def open_bucket(url: str, given: Mapping[str, str | None], *, timeout_s: float) -> "ObjectStore":
    """The bucket, without touching the network; raises as `ObjectImageStore.open` does."""
    misconfigured: tuple[type[Exception], ...] = (*backend_errors(), ValueError)
    from obstore.store import from_url  # noqa: PLC0415  an optional dependency

    # By default the library retries for three minutes, while a finished picture waits.
    retry: RetryConfig = {"max_retries": 1, "retry_timeout": timedelta(seconds=3)}
    endpoint = given.get("endpoint") or given.get("base_url") or ""
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=1),
        "timeout": timedelta(seconds=timeout_s),
        "allow_http": endpoint.startswith("http://"),
        # The library has no switch for "no proxy". A proxy that is used for no address keeps it
        # from taking one from the environment (S3).
        "proxy_url": "http://127.0.0.1:9",
        "proxy_excludes": "*,0.0.0.0/0,::/0",
    }
    config: Any = {key: value for key, value in given.items() if value is not None}
    try:
        return from_url(url, config=config, client_options=client, retry_config=retry)
    except misconfigured as error:
        reason = str(error).partition("\n")[0]
        raise ImageStoreUnavailable(
            f"The image store {url} cannot be opened ({reason}): correct KOI_IMAGE_STORE."
        ) from None


def bucket_identity(url: str, endpoint: str | None) -> str:
    """A text that is equal for equal buckets and holds no secret: neither a default port nor a
    slash at the end makes a difference."""
    place = url.rstrip("/")
    if not endpoint:
        return place
    parts = urlsplit(endpoint)
    port = parts.port or (80 if parts.scheme == "http" else 443)
    return f"{place} at {parts.hostname or endpoint}:{port}"


def is_bucket_missing(error: Exception) -> bool:
    return any(code in str(error) for code in BUCKET_MISSING_CODES)


def backend_errors() -> tuple[type[Exception], ...]:
    try:
        from obstore.exceptions import BaseError  # noqa: PLC0415  an optional dependency
    except ModuleNotFoundError:
        raise ObjectStoreNotInstalled(
            "KOI_IMAGE_STORE names a bucket, which needs one more package: "
            "pip install '.[s3]' in Koi's checkout, or build the image with "
            "--build-arg LOCK=requirements-s3.lock."
        ) from None
    return (BaseError, OSError)


def backend_config(
    url: str,
    endpoint: str | None,
    region: str | None,
    access_key_id: str | None,
    secret_access_key: str | None,
) -> dict[str, str | None]:
    scheme = url.partition("://")[0]
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
        f"Koi knows no image store {scheme}://: use s3://, gs:// or az://, or a directory."
    )
