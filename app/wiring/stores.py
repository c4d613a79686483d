"""The store, the journal beside it, and what is built on both."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from app.adapters.embedded.store import EmbeddedStore
from app.adapters.journal.file import FileJournal
from app.adapters.redis.book import Book
from app.adapters.redis.breaker import Breaker
from app.adapters.redis.connection import connect
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.store import Store
from app.domain.calendar import Calendar
from app.domain.refusals import Caps
from app.settings import Settings
from app.telemetry.metrics import Metrics

CACHE_TIMEOUT_S = 0.1


@dataclass(frozen=True, slots=True)
class StoreUrls:
    ledger: str
    cache: str


@contextmanager
def store(settings: Settings) -> Iterator[StoreUrls]:
    """The configured store, or the embedded one: started here, or attached to when it runs."""
    if settings.redis_url is not None:
        yield StoreUrls(settings.redis_url, settings.cache_redis_url or settings.redis_url)
        return
    with EmbeddedStore(settings.data_dir) as embedded:
        yield StoreUrls(embedded.url, settings.cache_redis_url or embedded.url)


def journal_directory(settings: Settings) -> Path:
    return settings.data_dir / "journal"


def open_book(stack: AsyncExitStack, opened: Store, settings: Settings) -> tuple[FileJournal, Book]:
    journal = FileJournal(journal_directory(settings))
    stack.callback(journal.close)
    return journal, Book(opened, Calendar(ZoneInfo(settings.timezone)), journal)


def open_ledger(book: Book, settings: Settings) -> RedisLedger:
    return RedisLedger(
        book,
        task_ttl_s=settings.task_ttl_s,
        image_ttl_s=round(settings.image_ttl_days * 86_400),
        caps=Caps(settings.replays_per_hour, settings.free_refusals_per_hour),
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
        opened = Store(client, name=name, timeout_s=timeout_s, replicas=settings.redis_replicas)
    else:
        opened = Store(
            client,
            name=name,
            timeout_s=timeout_s,
            observe=metrics.store_command,
            # The cache's state decides nothing.
            breaker=Breaker() if cache else Breaker(on_state=metrics.store_state),
            replicas=0 if cache else settings.redis_replicas,
        )
    stack.push_async_callback(opened.aclose)
    return opened
