"""The use cases on top of open adapters."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from zoneinfo import ZoneInfo

from app.adapters.images.previews import PreviewWorkers
from app.adapters.redis.signals import RedisSignals
from app.domain.budget import MemoryBudget
from app.domain.catalog import Catalog
from app.service.admin_keys import AdminKeys
from app.service.authenticate import Authenticate
from app.service.background import BackgroundTasks, LoadLimiter
from app.service.caller_limits import KeyedSemaphore, KeyRateLimiter, WaitingCap
from app.service.callers import CallerRegistry
from app.service.concurrency_queue import ConcurrencyQueue
from app.service.dedup import Deduplicator
from app.service.delivery_sender import DeliverySender
from app.service.download_image import DownloadImage
from app.service.downloads import ImageDownloader
from app.service.due_jobs import DueJobs
from app.service.estimate import EstimateGeneration
from app.service.finish_job import JobFinisher
from app.service.gateway import Gateway
from app.service.generate import GenerateImages
from app.service.holder_keys import HolderKeys
from app.service.image_collector import ImageCollector
from app.service.invitations import Invitations
from app.service.keys import KeyAdmin
from app.service.lease import LeaseKeeper
from app.service.poller import Poller
from app.service.previews import Previews
from app.service.run_job import RunJob
from app.service.servable_cache import ServableCache
from app.service.sessions import Sessions
from app.service.settle import JobSettler
from app.service.spend_alerts import SpendAlertAdmin
from app.service.tasks import Tasks
from app.service.usage import UsageReports
from app.service.used_up_limits import UsedUpLimits
from app.service.wait import JobWaiters
from app.settings import Settings
from app.wiring import loops
from app.wiring.adapters import Adapters
from app.wiring.deliveries import build_delivery_sender, build_webhooks
from app.wiring.operations import ROOT_ACTOR, build_operations
from app.wiring.sign_in import build_sign_in
from app.wiring.upstreams import OpenUpstream, build_upstreams

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
class Services:
    gateway: Gateway
    settler: JobSettler
    poller: Poller
    collector: ImageCollector
    waiters: JobWaiters
    callers: CallerRegistry
    signals: RedisSignals
    sender: DeliverySender


def build_services(adapters: Adapters, settings: Settings, catalog: Catalog) -> Services:
    """The use cases on top of open adapters."""
    upstreams, metrics = build_upstreams(adapters.upstreams), adapters.metrics
    timings = upstreams.main.timings
    background = BackgroundTasks(partial(loops.report_work_failure, metrics))
    signals = RedisSignals(adapters.store, heard=_wake_all(adapters.upstreams))
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
        upstreams=upstreams,
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
        upstreams=upstreams,
        finisher=finisher,
        settler=settler,
        recorder=metrics,
        background=background,
        timings=timings,
    )
    poller = Poller(
        ledger=adapters.ledger,
        upstreams=upstreams,
        due=DueJobs(adapters.ledger, upstreams, metrics),
        finisher=finisher,
        settler=settler,
        recorder=metrics,
        background=background,
        timings=timings,
        leases=LeaseKeeper(adapters.ledger),
    )
    collector = ImageCollector(
        ledger=adapters.ledger,
        upstreams=upstreams,
        downloader=downloader,
        settler=settler,
        recorder=metrics,
        background=background,
        timings=timings.collection,
        lifetime_ms=round(settings.collect_s * 1000),
    )
    deduplicator = Deduplicator(adapters.ledger, callers)
    cache = ServableCache(adapters.cache, adapters.pictures)
    generate = GenerateImages(
        catalog=catalog,
        ledger=adapters.ledger,
        deduplicator=deduplicator,
        cache=cache,
        used_up=UsedUpLimits(adapters.ledger, cache),
        jobs=jobs,
        waiters=waiters,
        recorder=metrics,
        background=background,
        load=LoadLimiter(background, settings.max_in_flight),
        slots=ConcurrencyQueue(deduplicator, waiters),
        collect_wait_s=settings.collect_wait_s,
    )
    keys = KeyAdmin(adapters.keyring, catalog, settings.default_limits, ROOT_ACTOR)
    sessions = Sessions(adapters.sessions)
    gateway = Gateway(
        catalog=catalog,
        authenticate=Authenticate(adapters.keyring, settings.house_limits, settings.cache_policy),
        generate=generate,
        estimate=EstimateGeneration(catalog, adapters.ledger, generate.cache),
        tasks=Tasks(
            adapters.ledger,
            adapters.listing,
            waiters,
            adapters.pictures,
            upstreams,
            adapters.cache,
        ),
        usage=UsageReports(adapters.ledger, adapters.rollups),
        keys=keys,
        invitations=Invitations(adapters.invitations, adapters.keyring, keys, ROOT_ACTOR),
        admin_keys=AdminKeys(adapters.keyring, adapters.keyring, ROOT_ACTOR),
        holder_keys=HolderKeys(keys, adapters.directory, settings.holders_manage_keys),
        sessions=sessions,
        sign_in=build_sign_in(
            adapters.identity_provider, settings, adapters.keyring, keys, sessions
        ),
        audit_log=adapters.audit_log,
        operations=build_operations(adapters, upstreams, settings, catalog, keys, waiters),
        backups=adapters.backups,
        downloaded_backups=adapters.downloaded_backups,
        notices=adapters.delivery.notices,
        webhooks=build_webhooks(adapters, settings),
        spend_alerts=SpendAlertAdmin(adapters.spend_alerts, adapters.keyring, catalog, ROOT_ACTOR),
        house=settings.house_limits,
        zone=ZoneInfo(settings.timezone),
        pictures=adapters.pictures,
        previews=Previews(
            adapters.pictures, PreviewWorkers(settings.data_dir), loops.report_preview_failure
        ),
        references=adapters.references,
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
    sender = build_delivery_sender(adapters, settings, background)
    return Services(gateway, settler, poller, collector, waiters, callers, signals, sender)


def _wake_all(opened: Sequence[OpenUpstream]) -> Callable[[str], None]:
    """Whoever waits for a slot at any provider hears of a job's end."""
    main, *further = (one.limiter.wake for one in opened)
    if not further:
        return main

    def wake(job_id: str) -> None:
        for each in (main, *further):
            each(job_id)

    return wake


def _max_waiting_per_key(settings: Settings) -> int | None:
    """How many callers of one key may wait at once; a share of 1 means no limit of its own."""
    if settings.waiting_share == 1:
        return None
    return max(math.floor(settings.max_in_flight * settings.waiting_share), 1)
