"""Opening the parts: each from the settings alone, each closed by the caller's exit stack."""

import hmac
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from app.adapters.embedded.store import EmbeddedStore
from app.adapters.images.fetch import ImageFetcher
from app.adapters.images.file import FileImageStore
from app.adapters.images.links import LinkSigner
from app.adapters.images.s3 import ObjectImageStore
from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.connection import connect
from app.adapters.redis.governor import RedisGovernor
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.loader import script_names
from app.adapters.redis.store import Store
from app.adapters.upstream.client import DieyuyunProvider
from app.adapters.upstream.transport import AiohttpTransport
from app.api.routes import TEMPLATES
from app.api.settings import EdgeSettings, body_cap
from app.domain.calendar import Calendar
from app.domain.catalog import Catalog, parse_catalog
from app.domain.errors import LedgerUnavailable
from app.domain.ports import ImageStore
from app.service.drain import Drain
from app.service.jobs import Pace
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.vocabulary import Vocabulary

SHIPPED_CATALOG = Path(__file__).parent.parent / "catalog.toml"
LOOPS = frozenset({"poller", "signals", "drain", "census", "audit", "sweep", "heart", "work"})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
CACHE_TIMEOUT_S = 0.1
POLLS_AT_ONCE = 64
VERSION = version("koi-gateway")


class UpstreamKeyMissing(Exception):
    """No key for the provider; the message says what to do."""

    def __init__(self) -> None:
        super().__init__(
            "There is no upstream key: set KOI_UPSTREAM_API_KEY (or KOI_UPSTREAM_API_KEY_FILE), "
            "or try `koi demo`, which needs none."
        )


@dataclass(frozen=True, slots=True)
class World:
    """Every adapter of a gateway process, open."""

    store: Store
    ledger: RedisLedger
    keyring: RedisKeyRing
    cache: RedisResultCache
    governor: RedisGovernor
    provider: DieyuyunProvider
    fetcher: ImageFetcher
    pictures: ImageStore
    links: LinkSigner
    metrics: Metrics


async def open_world(stack: AsyncExitStack, settings: Settings, catalog: Catalog) -> World:
    """Raises `UpstreamKeyMissing`; a store that is away does not stop the start."""
    urls = stack.enter_context(store(settings))
    metrics = open_metrics(settings, catalog)
    stack.callback(metrics.close)
    opened = open_store(stack, settings, urls.ledger, metrics)
    cache_store = open_store(stack, settings, urls.cache, metrics, cache=True)
    provider = open_provider(settings, metrics)
    stack.push_async_callback(provider.close)
    fetcher = ImageFetcher(trusted=[settings.upstream_base_url])
    stack.push_async_callback(fetcher.close)
    pictures = open_pictures(stack, settings)
    await pictures.check()
    return World(
        store=opened,
        ledger=open_ledger(opened, settings),
        keyring=RedisKeyRing(opened),
        cache=RedisResultCache(
            cache_store,
            ttl_s=settings.cache_ttl_s,
            variants=settings.cache_variants,
            lease_s=round(settings.task_deadline_s),
        ),
        governor=RedisGovernor(
            opened,
            rpm=settings.upstream_rpm,
            concurrency=settings.upstream_concurrency,
            lease_s=round(settings.task_deadline_s),
        ),
        provider=provider,
        fetcher=fetcher,
        pictures=pictures,
        links=LinkSigner(_link_secret(settings), settings.link_ttl_s),
        metrics=metrics,
    )


def _link_secret(settings: Settings) -> bytes:
    """The same in every process that holds the upstream key, and kept nowhere (decision 13)."""
    digest: bytes = hmac.digest(
        (settings.upstream_key or "").encode(), b"koi picture links", "sha256"
    )
    return digest


@dataclass(frozen=True, slots=True)
class StoreUrls:
    ledger: str
    cache: str


def read_catalog(settings: Settings) -> Catalog:
    """Raises `CatalogInvalid`."""
    path = settings.catalog or SHIPPED_CATALOG
    return parse_catalog(path.read_text(encoding="utf-8"))


@contextmanager
def store(settings: Settings) -> Iterator[StoreUrls]:
    """The configured store, or the embedded one: started here, or attached to when it runs."""
    if settings.redis_url is not None:
        yield StoreUrls(settings.redis_url, settings.cache_redis_url or settings.redis_url)
        return
    with EmbeddedStore(settings.data_dir) as embedded:
        yield StoreUrls(embedded.url, settings.cache_redis_url or embedded.url)


def open_ledger(opened: Store, settings: Settings) -> RedisLedger:
    return RedisLedger(
        opened,
        calendar=Calendar(ZoneInfo(settings.timezone)),
        task_ttl_s=settings.task_ttl_s,
        image_ttl_s=round(settings.image_ttl_days * 86_400),
    )


def open_store(
    stack: AsyncExitStack,
    settings: Settings,
    url: str,
    metrics: Metrics | None = None,
    *,
    cache: bool = False,
) -> Store:
    name = "cache" if cache else "ledger"
    timeout_s = settings.redis_timeout_ms / 1000
    if cache and settings.cache_redis_url is not None:
        timeout_s = min(timeout_s, CACHE_TIMEOUT_S)
    client = connect(url, timeout_s=timeout_s, pool_size=settings.redis_connections)
    if metrics is None:
        opened = Store(client, name=name, timeout_s=timeout_s)
    else:
        opened = Store(
            client,
            name=name,
            timeout_s=timeout_s,
            observe=metrics.store_command,
            on_state=_ignore if cache else metrics.store_state,
        )
    stack.push_async_callback(opened.aclose)
    return opened


def _ignore(_: str) -> None:
    """The cache's state decides nothing."""


def open_pictures(stack: AsyncExitStack, settings: Settings) -> ImageStore:
    if settings.image_store == "file":
        pictures = FileImageStore(settings.data_dir / "images")
        stack.push_async_callback(pictures.close)
        return pictures
    secret = settings.s3_secret_access_key
    key = settings.s3_access_key_id
    objects = ObjectImageStore.open(
        settings.image_store,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key_id=key.get_secret_value() if key else None,
        secret_access_key=secret.get_secret_value() if secret else None,
    )
    stack.push_async_callback(objects.close)
    return objects


def open_provider(settings: Settings, metrics: Metrics) -> DieyuyunProvider:
    """Raises `UpstreamKeyMissing`."""
    key = settings.upstream_key
    if key is None:
        raise UpstreamKeyMissing
    return DieyuyunProvider(
        settings.upstream_base_url,
        key,
        AiohttpTransport(connections=settings.max_in_flight + POLLS_AT_ONCE),
        timeout_s=settings.upstream_timeout_s,
        observe=metrics.upstream_event,
    )


def pace_of(settings: Settings) -> Pace:
    return Pace(
        mode=settings.upstream_mode.value,
        timeout_s=settings.upstream_timeout_s,
        queue_s=settings.upstream_queue_s,
        poll_interval_s=settings.upstream_poll_interval_s,
        deadline_s=settings.task_deadline_s,
        moderation_charged=settings.moderation_charged,
    )


def open_metrics(settings: Settings, catalog: Catalog) -> Metrics:
    """Several workers count into shared files; one counts in memory."""
    vocabulary = Vocabulary(
        models=frozenset(model.name for model in catalog.enabled),
        currency=catalog.currency,
        routes=TEMPLATES,
        scripts=frozenset(script_names()),
        loops=LOOPS,
        version=VERSION,
    )
    directory = settings.data_dir / "metrics" if settings.workers > 1 else None
    return Metrics(vocabulary, directory=directory)


def edge_of(settings: Settings, catalog: Catalog) -> EdgeSettings:
    prompts = max(model.max_prompt_chars for model in catalog.enabled)
    return EdgeSettings(
        strict=settings.strict,
        max_images=settings.max_images,
        sync_wait_s=settings.sync_wait_s,
        heartbeat_after_s=settings.heartbeat_after_s,
        public_url=settings.public_url,
        allowed_hosts=_words(settings.allowed_hosts),
        cors_origins=_words(settings.cors_origins),
        admin_key=_secret(settings.admin_key),
        metrics_token=_secret(settings.metrics_token),
        loopback_only=settings.host in LOOPBACK,
        max_body_bytes=body_cap(prompts),
        link_ttl_s=settings.link_ttl_s,
        version=VERSION,
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _secret(secret: SecretStr | None) -> bytes | None:
    return None if secret is None else secret.get_secret_value().encode()


async def readiness(opened: Store, drain: Drain) -> tuple[bool, dict[str, str]]:
    """Ready unless leaving or without a ledger; the provider's health decides nothing here."""
    try:
        await opened.ping()
        ledger = "ok"
    except LedgerUnavailable:
        ledger = "unavailable"
    words = {"ledger": ledger, "gateway": "draining" if drain.leaving else "ok"}
    return ledger == "ok" and not drain.leaving, words
