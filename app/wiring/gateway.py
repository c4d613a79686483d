"""Opens a gateway from its settings, and closes everything in reverse."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from app.adapters.embedded.store import EmbeddedStore
from app.api.settings import EdgeSettings
from app.service.gateway import Gateway
from app.service.lease import SlotReclaimer
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring import loops
from app.wiring.adapters import (
    Adapters,
    open_adapters,
)
from app.wiring.catalog_file import read_catalog
from app.wiring.deliveries import build_notice_watch
from app.wiring.edge import build_edge_settings
from app.wiring.journal_replication import JournalReplication
from app.wiring.readiness import ReadinessProbe
from app.wiring.registration import GatewayRegistration
from app.wiring.services import Services, build_services

CANCEL_RETRY_S = 1.0


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
        services = build_services(adapters, settings, catalog)
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


def _build_loops(
    adapters: Adapters, services: Services, watchdog: loops.LoopWatchdog, settings: Settings
) -> dict[str, loops.LoopFunction]:
    ttl = timedelta(days=settings.image_ttl_days)
    limiters = [one.limiter for one in adapters.upstreams]
    return {
        "poller": services.poller.run,
        "collector": services.collector.run,
        "signals": partial(services.waiters.follow_signals, services.signals),
        "callers": services.callers.listen,
        "deliveries": services.sender.run,
        "notices": build_notice_watch(adapters, settings).run,
        "receipts": services.callers.send_receipts,
        "governor": partial(loops.run_together, [limiter.run for limiter in limiters]),
        "places": partial(loops.reclaim_slots, SlotReclaimer(adapters.ledger, limiters)),
        "drain": partial(services.waiters.dismiss_on_drain, services.gateway.background),
        "census": partial(loops.publish_job_stats, adapters.ledger, adapters.metrics),
        "audit": partial(
            loops.publish_audit, adapters.ledger, adapters.metrics, adapters.delivery.notices
        ),
        "rollups": partial(loops.roll_up, adapters.rollup_writer),
        "tidy": partial(loops.tidy_jobs, adapters.job_tidier),
        "months": partial(loops.move_months, adapters.month_mover),
        "debts": partial(loops.deliver_outbox, services.settler, adapters.outbox, adapters.metrics),
        "journal": partial(
            loops.maintain_journal,
            adapters.journal,
            JournalReplication(adapters.journal, adapters.journals),
            lambda: adapters.ledger.condition.intact and not adapters.gone(),
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
