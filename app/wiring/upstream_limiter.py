"""The limiters of calls to the providers, opened from the settings and the catalog."""

from typing import Any

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter, UpstreamLimits
from app.domain.catalog import Catalog
from app.domain.catalog_providers import ProviderSection
from app.domain.upstream import UpstreamLimiter
from app.service.upstreams import Unlimited
from app.settings import Settings


def open_upstream_limiter(
    store: BatchingStore, settings: Settings, section: ProviderSection | None = None, **options: Any
) -> RedisUpstreamLimiter:
    """Of the main provider, or of the one of a `section` of the catalog, with keys of its own."""
    limits = UpstreamLimits(
        rpm=settings.upstream_rpm if section is None else section.rpm,
        burst=settings.upstream_burst if section is None else section.burst,
        concurrency=settings.upstream_concurrency if section is None else section.concurrency,
        queue_s=settings.upstream_queue_s,
        lease_s=settings.task_deadline_s,
    )
    name = None if section is None else section.name
    return RedisUpstreamLimiter(store, limits, provider=name, **options)


def find_limiter(
    store: BatchingStore, settings: Settings, catalog: Catalog, name: str | None
) -> UpstreamLimiter:
    """Of the provider of this name, never another one's: what a job holds at one that the catalog
    does not list lapses with its lease, as `Upstreams.of` has it."""
    section = next((one for one in catalog.providers if one.name == name), None)
    if name is not None and section is None:
        return Unlimited()
    return open_upstream_limiter(store, settings, section)
