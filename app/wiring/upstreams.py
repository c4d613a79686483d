"""The providers, opened: the main one from the settings, further ones from the catalog."""

import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

import structlog

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter
from app.adapters.upstream.client import DieyuyunProvider
from app.adapters.upstream.transport import open_transport
from app.domain.catalog import Catalog
from app.domain.catalog_providers import MAIN, ProviderSection
from app.provider_settings import FurtherProvider, open_further_providers
from app.service import poller
from app.service.timings import JobTimings
from app.service.upstreams import Upstream, Upstreams
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring.check_provider import ABSENT_FIX
from app.wiring.deliveries import LatestTraffic
from app.wiring.upstream_limiter import open_upstream_limiter

ABSENT_LOG_S = 60.0
"""How often the log says that a provider with open tasks is not configured."""

log = structlog.get_logger("koi.upstream")


class UpstreamKeyMissing(Exception):
    """There is no key for the provider; the message says what to do."""

    def __init__(self) -> None:
        super().__init__(
            "There is no upstream key: set KOI_UPSTREAM_API_KEY (or KOI_UPSTREAM_API_KEY_FILE), "
            "or try `koi demo`, which needs none."
        )


@dataclass(frozen=True, slots=True)
class OpenUpstream:
    """One provider, open. `name` is None for the main one; `base_url` is the API's root."""

    name: str | None
    base_url: str
    provider: DieyuyunProvider
    limiter: RedisUpstreamLimiter
    traffic: LatestTraffic
    timings: JobTimings

    @property
    def label(self) -> str:
        return self.name or MAIN


def open_upstreams(
    stack: AsyncExitStack,
    settings: Settings,
    catalog: Catalog,
    store: BatchingStore,
    metrics: Metrics,
) -> tuple[OpenUpstream, ...]:
    """The main one first. Raises `UpstreamKeyMissing`, `CatalogError`."""
    if settings.upstream_key is None:
        raise UpstreamKeyMissing
    further = open_further_providers(settings, catalog)
    return tuple(_open(stack, settings, store, metrics, one) for one in (None, *further))


def _open(
    stack: AsyncExitStack,
    settings: Settings,
    store: BatchingStore,
    metrics: Metrics,
    access: FurtherProvider | None,
) -> OpenUpstream:
    section = None if access is None else access.section
    name = None if access is None else access.name
    base_url = settings.upstream_base_url if access is None else access.base_url
    timings = build_job_timings(settings, section)
    provider = DieyuyunProvider(
        base_url,
        settings.upstream_key or "" if access is None else access.key,
        open_transport(settings.max_in_flight + poller.MAX_CONCURRENT_JOBS),
        timeout_s=timings.timeout_s,
        observe=metrics.upstream_event,
    )
    stack.push_async_callback(provider.close)
    traffic = LatestTraffic(partial(metrics.traffic, name or MAIN))
    limiter = open_upstream_limiter(store, settings, section, observe=traffic)
    return OpenUpstream(name, base_url, provider, limiter, traffic, timings)


def build_job_timings(settings: Settings, section: ProviderSection | None = None) -> JobTimings:
    """Of the main provider, or as a section of the catalog says otherwise."""
    timings = JobTimings(
        mode=settings.upstream_mode.value,
        timeout_s=settings.upstream_timeout_s,
        queue_s=settings.upstream_queue_s,
        poll_interval_s=settings.upstream_poll_interval_s,
        deadline_s=settings.task_deadline_s,
        moderation_charged=settings.moderation_charged,
    )
    if section is None:
        return timings
    return replace(
        timings,
        mode=section.mode or timings.mode,
        timeout_s=section.timeout_s or timings.timeout_s,
    )


def build_upstreams(opened: Iterable[OpenUpstream]) -> Upstreams:
    main, *further = (Upstream(o.name, o.provider, o.limiter, o.timings) for o in opened)
    return Upstreams(main, further, AbsentProviderLog())


class AbsentProviderLog:
    """Tells the operator now and then that a provider with open tasks is not configured."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __call__(self, name: str) -> None:
        now_s = time.monotonic()
        if now_s < self._told.get(name, float("-inf")) + ABSENT_LOG_S:
            return
        self._told[name] = now_s
        log.error("provider_not_configured", provider=name, fix=ABSENT_FIX)
