"""Opens a gateway from its settings, and closes everything in reverse."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from app.adapters.embedded.store import EmbeddedStore
from app.adapters.redis.signals import RedisSignals
from app.api.settings import EdgeSettings
from app.domain.administration import ROOT, Actor, ActorKind
from app.domain.budget import MemoryBudget
from app.domain.catalog import Catalog
from app.service.admin_keys import AdminKeys
from app.service.authenticate import Authenticate
from app.service.background import BackgroundTasks, LoadLimiter
from app.service.caller_limits import KeyedSemaphore, KeyRateLimiter, WaitingCap
from app.service.callers import CallerRegistry
from app.service.concurrency_queue import ConcurrencyQueue
from app.service.dedup import Deduplicator
from app.service.download_image import DownloadImage
from app.service.downloads import ImageDownloader
from app.service.finish_job import JobFinisher
from app.service.gateway import Gateway
from app.service.generate import GenerateImages
from app.service.holder_keys import HolderKeys
from app.service.image_collector import ImageCollector
from app.service.keys import KeyAdmin
from app.service.lease import LeaseKeeper, SlotReclaimer
from app.service.poller import Poller
from app.service.run_job import RunJob
from app.service.servable_cache import ServableCache
from app.service.sessions import Sessions
from app.service.settle import JobSettler
from app.service.tasks import Tasks
from app.service.usage import UsageReports
from app.service.wait import JobWaiters
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring import loops
from app.wiring.adapters import (
    Adapters,
    build_edge_settings,
    build_job_timings,
    open_adapters,
)
from app.wiring.catalog_file import read_catalog
from app.wiring.journal_replication import JournalReplication
from app.wiring.readiness import ReadinessProbe
from app.wiring.registration import GatewayRegistration

CANCEL_RETRY_S = 1.0
ROOT_ACTOR = Actor(ActorKind.ADMIN_KEY, ROOT)
MAX_BASE64_ANSWERS, ANSWER_WAIT_S = 8, 30.0
"""How many base64 answers to one key are sent at once, as each keeps its pictures in memory, and
how long others wait."""
MAX_DOWNLOADS, DOWNLOAD_WAIT_S = 64, 10.0
"""How many downloads of one picture run at once, and how long others wait."""
MAX_INCOMING_BYTES = 32 << 20
MAX_ENCODING_BYTES = 64 << 20
MAX_SERVING_BYTES = 4 << 20
"""How much of one process's memory pictures may use while they are downloaded from the provider,
encoded as base64, and sent. Three budgets, so that slow hosts and readers hold up no answers."""


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """An open gateway, as `app.main` serves it."""

    gateway: Gateway
    edge_settings: EdgeSettings
    metrics: Metrics
    readiness: Callable[[], Awaitable[tuple[bool, dict[str, str]]]]
    is_alive: Callable[[], bool]


@asynccontextmanager
async def open_gateway(
    settings: Settings, embedded: EmbeddedStore | None = None
) -> AsyncIterator[RunningGateway]:
    """Everything a gateway process needs, opened in order and closed in reverse. The `embedded`
    store may have been started before."""
    async with AsyncExitStack() as stack:
        catalog = read_catalog(settings)
        adapters = await open_adapters(stack, settings, catalog, embedded)
        registration = GatewayRegistration(adapters.gateways, adapters.pictures, settings)
        stack.push_async_callback(registration.unregister)
        await registration.register()
        services = _build_services(adapters, settings, catalog)
        watchdog = loops.LoopWatchdog(adapters.metrics)
        loop_tasks = [
            asyncio.create_task(loops.run_forever(name, loop, adapters.metrics), name=name)
            for name, loop in (
                *_build_loops(adapters, services, watchdog, settings).items(),
                ("announcement", registration.send_heartbeats),
                ("room", adapters.disk_space.watch),
            )
        ]
        stack.push_async_callback(_stop, loop_tasks)
        stack.push_async_callback(
            services.gateway.background.wait_until_idle, settings.drain_timeout_s
        )
        stack.callback(services.gateway.background.start_draining)
        yield RunningGateway(
            gateway=services.gateway,
            edge_settings=build_edge_settings(settings, catalog),
            metrics=adapters.metrics,
            readiness=ReadinessProbe(adapters, services.gateway.background),
            is_alive=watchdog.is_alive,
        )


@dataclass(frozen=True, slots=True)
class _Services:
    gateway: Gateway
    settler: JobSettler
    poller: Poller
    collector: ImageCollector
    waiters: JobWaiters
    callers: CallerRegistry
    signals: RedisSignals


def _build_services(adapters: Adapters, settings: Settings, catalog: Catalog) -> _Services:
    """The use cases on top of open adapters."""
    timings, metrics = build_job_timings(settings), adapters.metrics
    background = BackgroundTasks(partial(loops.report_work_failure, metrics))
    signals = RedisSignals(adapters.store, heard=adapters.upstream_limiter.wake)
    callers = CallerRegistry(adapters.ledger, signals)
    waiters = JobWaiters(adapters.ledger)
    downloader = ImageDownloader(
        DownloadImage(
            adapters.fetcher, adapters.pictures, metrics, MemoryBudget(MAX_INCOMING_BYTES)
        ),
        expires=adapters.fetcher.expires_ms,
        on_failure=loops.report_download_failure,
    )
    settler = JobSettler(
        ledger=adapters.ledger,
        cache=adapters.cache,
        upstream_limiter=adapters.upstream_limiter,
        waiters=waiters,
        outbox=adapters.outbox,
        recorder=metrics,
        background=background,
        resolve_after_s=settings.resolve_after_s,
        recheck_s=timings.poll_interval_s,
    )
    finisher = JobFinisher(
        downloader=downloader, settler=settler, background=background, timings=timings.collection
    )
    jobs = RunJob(
        ledger=adapters.ledger,
        provider=adapters.provider,
        upstream_limiter=adapters.upstream_limiter,
        finisher=finisher,
        settler=settler,
        recorder=metrics,
        background=background,
        timings=timings,
    )
    poller = Poller(
        ledger=adapters.ledger,
        provider=adapters.provider,
        upstream_limiter=adapters.upstream_limiter,
        finisher=finisher,
        settler=settler,
        recorder=metrics,
        background=background,
        timings=timings,
        leases=LeaseKeeper(adapters.ledger),
    )
    collector = ImageCollector(
        ledger=adapters.ledger,
        provider=adapters.provider,
        upstream_limiter=adapters.upstream_limiter,
        downloader=downloader,
        settler=settler,
        recorder=metrics,
        background=background,
        timings=timings.collection,
        lifetime_ms=round(settings.collect_s * 1000),
    )
    deduplicator = Deduplicator(adapters.ledger, callers)
    generate = GenerateImages(
        catalog=catalog,
        ledger=adapters.ledger,
        deduplicator=deduplicator,
        cache=ServableCache(adapters.cache, adapters.pictures),
        jobs=jobs,
        waiters=waiters,
        recorder=metrics,
        background=background,
        load=LoadLimiter(background, settings.max_in_flight),
        slots=ConcurrencyQueue(deduplicator, waiters),
        collect_wait_s=settings.collect_wait_s,
    )
    keys = KeyAdmin(adapters.keyring, catalog, settings.default_limits, ROOT_ACTOR)
    gateway = Gateway(
        catalog=catalog,
        authenticate=Authenticate(adapters.keyring, settings.house_limits, settings.cache_policy),
        generate=generate,
        tasks=Tasks(
            adapters.ledger,
            adapters.listing,
            waiters,
            adapters.pictures,
            adapters.upstream_limiter,
            adapters.cache,
        ),
        usage=UsageReports(adapters.ledger, adapters.rollups),
        keys=keys,
        holder_keys=HolderKeys(keys, settings.holders_manage_keys),
        admin_keys=AdminKeys(adapters.keyring, adapters.keyring, ROOT_ACTOR),
        sessions=Sessions(adapters.sessions),
        audit_log=adapters.audit_log,
        notices=adapters.notices,
        house=settings.house_limits,
        pictures=adapters.pictures,
        budget=MemoryBudget(MAX_ENCODING_BYTES),
        serving=MemoryBudget(MAX_SERVING_BYTES),
        links=adapters.links,
        background=background,
        rate_limiter=KeyRateLimiter(
            settings.key_requests_per_second, settings.key_reads_per_second
        ),
        waiting_cap=WaitingCap(_max_waiting_per_key(settings)),
        answers=KeyedSemaphore(MAX_BASE64_ANSWERS, ANSWER_WAIT_S),
        downloads=KeyedSemaphore(MAX_DOWNLOADS, DOWNLOAD_WAIT_S),
    )
    return _Services(gateway, settler, poller, collector, waiters, callers, signals)


def _max_waiting_per_key(settings: Settings) -> int | None:
    """How many callers of one key may wait at once; a share of 1 means no limit of its own."""
    if settings.waiting_share == 1:
        return None
    return max(math.floor(settings.max_in_flight * settings.waiting_share), 1)


def _build_loops(
    adapters: Adapters, services: _Services, watchdog: loops.LoopWatchdog, settings: Settings
) -> dict[str, loops.LoopFunction]:
    ttl = timedelta(days=settings.image_ttl_days)
    return {
        "poller": services.poller.run,
        "collector": services.collector.run,
        "signals": partial(services.waiters.follow_signals, services.signals),
        "callers": services.callers.listen,
        "receipts": services.callers.send_receipts,
        "governor": adapters.upstream_limiter.run,
        "places": partial(
            loops.reclaim_slots, SlotReclaimer(adapters.ledger, adapters.upstream_limiter)
        ),
        "drain": partial(services.waiters.dismiss_on_drain, services.gateway.background),
        "census": partial(loops.publish_job_stats, adapters.ledger, adapters.metrics),
        "audit": partial(loops.publish_audit, adapters.ledger, adapters.metrics),
        "rollups": partial(loops.roll_up, adapters.rollup_writer),
        "debts": partial(loops.deliver_outbox, services.settler, adapters.outbox, adapters.metrics),
        "journal": partial(
            loops.maintain_journal,
            adapters.journal,
            JournalReplication(adapters.journal, adapters.journals),
            lambda: adapters.ledger.intact and not adapters.gone(),
            adapters.metrics,
            books=timedelta(days=settings.journal_days),
            jobs=ttl,
        ),
        "sweep": partial(loops.delete_expired_images, adapters.pictures, ttl),
        "heart": watchdog.watch,
    }


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel until all have ended, because a library may swallow a first cancellation."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_RETRY_S)
