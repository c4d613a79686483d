"""The limiter of calls to the provider, opened from the settings."""

from typing import Any

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.upstream_limiter import RedisUpstreamLimiter, UpstreamLimits
from app.settings import Settings


def open_upstream_limiter(
    store: BatchingStore, settings: Settings, **options: Any
) -> RedisUpstreamLimiter:
    limits = UpstreamLimits(
        rpm=settings.upstream_rpm,
        burst=settings.upstream_burst,
        concurrency=settings.upstream_concurrency,
        queue_s=settings.upstream_queue_s,
        lease_s=settings.task_deadline_s,
    )
    return RedisUpstreamLimiter(store, limits, **options)
