"""Opening the adapters: each from the settings alone, each closed by the caller's exit stack."""

import hmac
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from app.adapters.embedded.store import EmbeddedStore
from app.adapters.images.fetch import HttpImageFetcher
from app.adapters.images.file import FileImageStore
from app.adapters.images.link_signer import LinkSigner
from app.adapters.images.reference_spool import DiskReferenceSpool
from app.adapters.journal.file import FileJournal
from app.adapters.journal.outbox import FileOutbox
from app.adapters.redis.audit_log import RedisAuditLog
from app.adapters.redis.backup_log import RedisBackupLog
from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.scripts import script_names
from app.adapters.redis.directory import RedisDirectory
from app.adapters.redis.invitations import RedisInvitations
from app.adapters.redis.job_tidier import JobTidier
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.registry import GatewayRegistry, JournalRegistry
from app.adapters.redis.rollup_writer import RollupWriter
from app.adapters.redis.rollups import RedisRollups
from app.adapters.redis.sessions import RedisSessions
from app.adapters.redis.spend_alerts import RedisSpendAlerts
from app.adapters.redis.task_list import RedisTaskList
from app.api.routes import ROUTE_TEMPLATES
from app.domain.backup import BackupDownloads
from app.domain.catalog import Catalog
from app.domain.catalog_providers import MAIN
from app.domain.ports import ImageStore
from app.domain.rebuild import RetentionTerms
from app.domain.sign_in import IdentityProvider
from app.recovery.download import LedgerDownloads
from app.settings import Settings
from app.telemetry.label_values import LabelValues
from app.telemetry.metrics import Metrics
from app.wiring.closed_months import MonthMover, MonthTerms
from app.wiring.deliveries import DeliveryAdapters, open_delivery
from app.wiring.disk_space import DiskSpaceMonitor
from app.wiring.edge import VERSION
from app.wiring.sign_in import open_identity_provider
from app.wiring.stores import (
    journal_directory,
    open_journal,
    open_ledger,
    open_scripts,
    open_store,
    refuse_other_data_version,
    store,
)
from app.wiring.upstreams import OpenUpstream, build_job_timings, open_upstreams

LOOP_NAMES = frozenset(
    {
        "poller", "signals", "governor", "drain", "census", "audit", "sweep", "heart", "work",
        "debts", "journal", "collector", "places", "callers", "receipts", "announcement",
        "room", "rollups", "months", "tidy", "deliveries", "notices",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Adapters:
    """Every adapter of a gateway process, open."""

    store: BatchingStore
    ledger: RedisLedger
    keyring: RedisKeyRing
    sessions: RedisSessions
    identity_provider: IdentityProvider | None
    audit_log: RedisAuditLog
    directory: RedisDirectory
    backups: RedisBackupLog
    downloaded_backups: BackupDownloads
    gone: Callable[[], bool]
    """Whether the embedded store's files were deleted while it runs."""
    disk_space: DiskSpaceMonitor
    journal: FileJournal
    journals: JournalRegistry
    gateways: GatewayRegistry
    spend_alerts: RedisSpendAlerts
    invitations: RedisInvitations
    delivery: DeliveryAdapters
    outbox: FileOutbox
    cache: RedisResultCache
    upstreams: tuple[OpenUpstream, ...]
    """The main provider first."""
    fetcher: HttpImageFetcher
    pictures: ImageStore
    references: DiskReferenceSpool
    links: LinkSigner
    listing: RedisTaskList
    rollups: RedisRollups
    rollup_writer: RollupWriter
    month_mover: MonthMover
    job_tidier: JobTidier
    metrics: Metrics


async def open_adapters(
    stack: AsyncExitStack,
    settings: Settings,
    catalog: Catalog,
    embedded: EmbeddedStore | None = None,
) -> Adapters:
    """Raises `UpstreamKeyMissing`, `CatalogError`, `DataVersionUnknown`. An unavailable store does
    not stop the start."""
    urls = stack.enter_context(store(settings, embedded))
    metrics = open_metrics(settings, catalog)
    stack.callback(metrics.close)
    opened = open_store(stack, settings, urls.ledger, metrics)
    cache_store = open_store(stack, settings, urls.cache, metrics, cache=True)
    upstreams = open_upstreams(stack, settings, catalog, opened, metrics)
    fetcher = open_fetcher(settings, [one.base_url for one in upstreams])
    stack.push_async_callback(fetcher.close)
    pictures = open_pictures(stack, settings)
    await pictures.check()
    journal = open_journal(stack, settings)
    disk_space = DiskSpaceMonitor(settings)
    scripts = open_scripts(
        opened, journal, settings, urls.gone, lambda: disk_space.full_directory is not None
    )
    await refuse_other_data_version(scripts)
    keyring = RedisKeyRing(scripts)
    return Adapters(
        store=opened,
        ledger=open_ledger(scripts, settings),
        keyring=keyring,
        invitations=RedisInvitations(scripts, keyring),
        sessions=RedisSessions(scripts),
        identity_provider=open_identity_provider(stack, settings),
        audit_log=RedisAuditLog(scripts),
        directory=RedisDirectory(scripts),
        backups=RedisBackupLog(scripts),
        downloaded_backups=LedgerDownloads(scripts, RedisBackupLog(scripts), VERSION),
        gone=urls.gone,
        disk_space=disk_space,
        journal=journal,
        journals=JournalRegistry(scripts),
        gateways=GatewayRegistry(scripts),
        spend_alerts=RedisSpendAlerts(scripts, keyring),
        delivery=open_delivery(stack, scripts, settings),
        outbox=FileOutbox(journal_directory(settings) / "owed"),
        cache=RedisResultCache(
            cache_store,
            ttl_s=settings.cache_ttl_s,
            variants=settings.cache_variants,
            lease_s=round(settings.task_deadline_s),
        ),
        upstreams=upstreams,
        fetcher=fetcher,
        pictures=pictures,
        references=open_references(stack, settings),
        links=LinkSigner(_derive_link_secret(settings), settings.link_ttl_s),
        listing=RedisTaskList(scripts),
        rollups=RedisRollups(scripts),
        rollup_writer=RollupWriter(scripts),
        month_mover=MonthMover(scripts, journal, build_month_terms(settings)),
        job_tidier=JobTidier(scripts, build_month_terms(settings).records),
        metrics=metrics,
    )


def _derive_link_secret(settings: Settings) -> bytes:
    """The same in every process with this upstream key, and stored nowhere (decision 13)."""
    digest: bytes = hmac.digest(
        (settings.upstream_key or "").encode(), b"koi picture links", "sha256"
    )
    return digest


def open_fetcher(settings: Settings, providers: Sequence[str]) -> HttpImageFetcher:
    """The hosts of these base URLs are trusted (decision 9)."""
    return HttpImageFetcher(
        trusted=providers,
        max_bytes=settings.image_max_mb << 20,
        plain=settings.allow_plain_pictures,
    )


def open_pictures(stack: AsyncExitStack, settings: Settings) -> ImageStore:
    if settings.image_store == "file":
        pictures = FileImageStore(settings.data_dir / "images")
        stack.push_async_callback(pictures.close)
        return pictures
    from app.adapters.images.s3 import ObjectImageStore  # noqa: PLC0415 - not for files

    secret = settings.s3_secret_access_key
    key = settings.s3_access_key_id
    objects = ObjectImageStore.open(
        settings.image_store,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key_id=key.get_secret_value() if key else None,
        secret_access_key=secret.get_secret_value() if secret else None,
        spool=settings.data_dir / "spool",
    )
    stack.push_async_callback(objects.close)
    return objects


def open_references(stack: AsyncExitStack, settings: Settings) -> DiskReferenceSpool:
    references = DiskReferenceSpool(settings.data_dir / "references")
    stack.callback(references.close)
    references.sweep(time.time())
    return references


def build_rebuild_terms(settings: Settings, catalog: Catalog) -> RetentionTerms:
    """How long restored records are kept: as long as the records that they replace; silent jobs as
    long as those of the slowest provider."""
    timings = build_job_timings(settings)
    slow = (build_job_timings(settings, section).silence_ms for section in catalog.providers)
    return RetentionTerms(
        reserved_ms=timings.lease_ms,
        silence_ms=max((timings.silence_ms, *slow)),
        hold_ms=round(settings.resolve_after_s * 1000),
        task_ms=settings.task_ttl_s * 1000,
        image_ms=round(settings.image_ttl_days * 86_400_000),
    )


def build_month_terms(settings: Settings) -> MonthTerms:
    longest_s = max(settings.task_ttl_s, settings.image_ttl_days * 86_400)
    return MonthTerms(
        months=settings.ledger_months,
        records=timedelta(seconds=longest_s),
        own_store=settings.redis_url is None,
    )


def open_metrics(settings: Settings, catalog: Catalog) -> Metrics:
    """Several workers count into shared files, a single one in memory."""
    label_values = LabelValues(
        models=frozenset(model.name for model in catalog.enabled),
        providers=frozenset({MAIN, *(section.name for section in catalog.providers)}),
        currency=catalog.currency,
        routes=ROUTE_TEMPLATES,
        scripts=frozenset(script_names()),
        loops=LOOP_NAMES,
        version=VERSION,
    )
    directory = settings.data_dir / "metrics" if settings.workers > 1 else None
    return Metrics(label_values, directory=directory)
