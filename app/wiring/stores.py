"""Opening the store, the journal, and the ledger on top of both."""

from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from app.adapters.embedded.store import EmbeddedStore
from app.adapters.journal.file import DelegatedJournal, FileJournal
from app.adapters.journal.months import FileMonths
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.breaker import CircuitBreaker
from app.adapters.redis.client.connection import connect
from app.adapters.redis.deliveries import RedisNotices
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.registry import JournalRegistry
from app.domain.calendar import Calendar
from app.domain.errors import LedgerUnavailable
from app.domain.journal import Journal
from app.domain.limits import FreeUseCaps
from app.domain.other_store import DataVersionUnknown
from app.settings import Settings
from app.wiring.journal_replication import has_live_journal

if TYPE_CHECKING:
    from app.telemetry.metrics import Metrics

CACHE_TIMEOUT_S = 0.1


@dataclass(frozen=True, slots=True)
class StoreUrls:
    """`gone` says whether the embedded store's files were deleted while it runs."""

    ledger: str
    cache: str
    gone: Callable[[], bool] = lambda: False


@contextmanager
def store(settings: Settings, embedded: EmbeddedStore | None = None) -> Iterator[StoreUrls]:
    """The configured store, or the embedded one: started here unless it was before, or attached to
    when it runs."""
    if settings.redis_url is not None:
        yield StoreUrls(settings.redis_url, settings.cache_redis_url or settings.redis_url)
        return
    with embedded or EmbeddedStore(settings.data_dir) as opened:
        cache = settings.cache_redis_url or opened.url
        yield StoreUrls(opened.url, cache, lambda: opened.gone)


def journal_directory(settings: Settings) -> Path:
    return settings.data_dir / "journal"


def open_journal(stack: AsyncExitStack, settings: Settings) -> FileJournal:
    journal = FileJournal(journal_directory(settings))
    stack.callback(journal.close)
    return journal


async def open_operator_journal(
    stack: AsyncExitStack, opened: BatchingStore, settings: Settings
) -> FileJournal | DelegatedJournal:
    """Where a command's changes are recorded: in the journal of this data directory if it is used;
    otherwise, on a shared store, by the running gateways, or here when there are none."""
    if settings.redis_url is not None:
        elsewhere = DelegatedJournal()
        journals = JournalRegistry(open_scripts(opened, elsewhere, settings))
        with suppress(LedgerUnavailable):
            at_work = has_live_journal(await journals.known(), await journals.now_ms())
            if at_work and not any(journal_directory(settings).glob("*.jsonl")):
                return elsewhere
    return open_journal(stack, settings)


def open_scripts(
    opened: BatchingStore,
    journal: Journal,
    settings: Settings,
    gone: Callable[[], bool] = lambda: False,
    full: Callable[[], bool] = lambda: False,
) -> LedgerScripts:
    scripts = LedgerScripts(
        opened, Calendar(ZoneInfo(settings.timezone)), journal, gone=gone, full=full
    )
    scripts.months = FileMonths(journal_directory(settings))
    return scripts


def open_ledger(scripts: LedgerScripts, settings: Settings) -> RedisLedger:
    return RedisLedger(
        scripts,
        task_ttl_s=settings.task_ttl_s,
        image_ttl_s=round(settings.image_ttl_days * 86_400),
        caps=FreeUseCaps(settings.replays_per_hour, settings.free_refusals_per_hour),
        attributed=settings.attributed_values,
    )


def open_notices(scripts: LedgerScripts, settings: Settings) -> RedisNotices:
    lifetime_ms = round(settings.webhook_lifetime_s * 1000)
    return RedisNotices(scripts, sent=settings.notice_webhook is not None, lifetime_ms=lifetime_ms)


def open_store(
    stack: AsyncExitStack,
    settings: Settings,
    url: str,
    metrics: "Metrics | None" = None,
    *,
    cache: bool = False,
) -> BatchingStore:
    name = "cache" if cache else "ledger"
    timeout_s = settings.redis_timeout_ms / 1000
    if cache and settings.cache_redis_url is not None:
        timeout_s = min(timeout_s, CACHE_TIMEOUT_S)
    client = connect(url, timeout_s=timeout_s, pool_size=settings.redis_connections)
    if metrics is None:
        opened = BatchingStore(
            client, name=name, timeout_s=timeout_s, replicas=settings.redis_replicas
        )
    else:
        opened = BatchingStore(
            client,
            name=name,
            timeout_s=timeout_s,
            observe=metrics.store_command,
            # The cache's state decides nothing.
            breaker=CircuitBreaker() if cache else CircuitBreaker(on_state=metrics.store_state),
            replicas=0 if cache else settings.redis_replicas,
        )
    opened.fix = _say_what_to_check(settings, cache=cache)
    stack.push_async_callback(opened.aclose)
    return opened


def _say_what_to_check(settings: Settings, *, cache: bool) -> str:
    own_cache = cache and settings.cache_redis_url is not None
    setting = "KOI_CACHE_REDIS_URL" if own_cache else "KOI_REDIS_URL"
    if not own_cache and settings.redis_url is None:
        return "Koi's own store does not answer: run `koi doctor`."
    return f"Check {setting}, its server and password; `koi doctor` says more."


async def refuse_other_data_version(scripts: LedgerScripts) -> None:
    """Raises `DataVersionUnknown`. A store that does not answer is asked by the first write."""
    try:
        await scripts.check_version()
    except DataVersionUnknown:
        raise
    except LedgerUnavailable:
        return
