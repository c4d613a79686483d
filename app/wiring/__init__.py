"""The composition root: settings in, a running gateway out, everything closed in reverse."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from app.adapters.redis.signals import RedisSignals
from app.api.settings import EdgeSettings
from app.domain.budget import ByteBudget
from app.domain.catalog import Catalog
from app.service.books import Books
from app.service.callers import Callers
from app.service.collect import Collect
from app.service.collector import Collector
from app.service.completions import Completions
from app.service.deliver import Deliver
from app.service.download import DownloadImage
from app.service.drain import Drain
from app.service.gateway import Gateway
from app.service.generate import GenerateImages
from app.service.identify import Identify
from app.service.jobs import RunJob
from app.service.keys import Keys
from app.service.load import Load
from app.service.pace import KeyPace
from app.service.places import Places
from app.service.poller import Poller
from app.service.repeats import Repeats
from app.service.servable import ServableCache
from app.service.shares import Turns, WaitingShare
from app.service.slots import SlotQueue
from app.service.tasks import Tasks
from app.service.usage import Usage
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.wiring import loops
from app.wiring.announcement import Announcement
from app.wiring.correspondence import Correspondence
from app.wiring.health import Readiness
from app.wiring.office import Office, open_office
from app.wiring.parts import (
    UpstreamKeyMissing,
    World,
    edge_of,
    open_world,
    pace_of,
    read_catalog,
)
from app.wiring.stores import (
    store,
)

__all__ = [
    "Office",
    "Running",
    "UpstreamKeyMissing",
    "open_gateway",
    "open_office",
    "read_catalog",
    "store",
]


STOP_AGAIN_S = 1.0
BASE64_ANSWERS, ANSWER_WAIT_S = 8, 30.0
"""Answers in base64 to one key at once, each of which holds its pictures; others wait so long."""
DOWNLOADS, DOWNLOAD_WAIT_S = 64, 10.0
"""Downloads of one picture at once; others wait so long."""
COMING_BYTES = 32 << 20
LEAVING_BYTES = 64 << 20
SERVING_BYTES = 2 << 20
"""What pictures may take of one process's memory: on their way in, while they are encoded, and in
large parts while they are served. Apart, so that slow hosts and readers do not hold up answers."""


@dataclass(frozen=True, slots=True)
class Running:
    """An open gateway, as `app.main` serves it."""

    gateway: Gateway
    edge: EdgeSettings
    metrics: Metrics
    readiness: Callable[[], Awaitable[tuple[bool, dict[str, str]]]]
    alive: Callable[[], bool]


@asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Running]:
    """Everything a gateway process needs, opened in order and closed in reverse."""
    async with AsyncExitStack() as stack:
        catalog = read_catalog(settings)
        world = await open_world(stack, settings, catalog)
        announcement = Announcement(world.gateways, world.pictures, settings)
        stack.push_async_callback(announcement.leave)
        await announcement.join()
        house = _house(world, settings, catalog)
        heart = loops.Heart(world.metrics)
        running = [
            asyncio.create_task(loops.keep_running(name, loop, world.metrics), name=name)
            for name, loop in (
                *_loops(world, house, heart, settings).items(),
                ("announcement", announcement.keep),
                ("room", world.room.watch),
            )
        ]
        stack.push_async_callback(_stop, running)
        stack.push_async_callback(house.gateway.drain.settled, settings.drain_timeout_s)
        stack.callback(house.gateway.drain.begin)
        yield Running(
            gateway=house.gateway,
            edge=edge_of(settings, catalog),
            metrics=world.metrics,
            readiness=Readiness(world, house.gateway.drain),
            alive=heart.alive,
        )


@dataclass(frozen=True, slots=True)
class _House:
    gateway: Gateway
    books: Books
    poller: Poller
    collector: Collector
    completions: Completions
    callers: Callers
    signals: RedisSignals


def _house(world: World, settings: Settings, catalog: Catalog) -> _House:
    """The use cases on top of an open world."""
    pace, metrics = pace_of(settings), world.metrics
    drain = Drain(partial(loops.work_failed, metrics))
    signals = RedisSignals(world.store, heard=world.governor.nudge)
    callers = Callers(world.ledger, signals)
    completions = Completions(world.ledger)
    collect = Collect(
        DownloadImage(world.fetcher, world.pictures, metrics, ByteBudget(COMING_BYTES)),
        expires=world.fetcher.expires_ms,
        tell=loops.download_failed,
    )
    books = Books(
        ledger=world.ledger,
        cache=world.cache,
        governor=world.governor,
        completions=completions,
        debts=world.debts,
        recorder=metrics,
        drain=drain,
        resolve_after_s=settings.resolve_after_s,
        look_s=pace.poll_interval_s,
    )
    deliver = Deliver(collect=collect, books=books, drain=drain, pace=pace.collecting)
    jobs = RunJob(
        ledger=world.ledger,
        provider=world.provider,
        governor=world.governor,
        deliver=deliver,
        books=books,
        recorder=metrics,
        drain=drain,
        pace=pace,
    )
    poller = Poller(
        ledger=world.ledger,
        provider=world.provider,
        governor=world.governor,
        deliver=deliver,
        books=books,
        recorder=metrics,
        drain=drain,
        pace=pace,
    )
    collector = Collector(
        ledger=world.ledger,
        provider=world.provider,
        governor=world.governor,
        collect=collect,
        books=books,
        recorder=metrics,
        drain=drain,
        pace=pace.collecting,
        lives_ms=round(settings.collect_s * 1000),
    )
    repeats = Repeats(world.ledger, callers)
    generate = GenerateImages(
        catalog=catalog,
        ledger=world.ledger,
        repeats=repeats,
        cache=ServableCache(world.cache, world.pictures),
        jobs=jobs,
        completions=completions,
        recorder=metrics,
        drain=drain,
        load=Load(drain, settings.max_in_flight),
        slots=SlotQueue(repeats, completions),
        collect_wait_s=settings.collect_wait_s,
    )
    gateway = Gateway(
        catalog=catalog,
        identify=Identify(world.keyring, settings.house_limits, settings.cache_policy),
        generate=generate,
        tasks=Tasks(world.ledger, world.listing, completions, world.pictures, world.governor),
        usage=Usage(world.ledger),
        keys=Keys(world.keyring, catalog, settings.default_limits),
        pictures=world.pictures,
        budget=ByteBudget(LEAVING_BYTES),
        serving=ByteBudget(SERVING_BYTES),
        links=world.links,
        drain=drain,
        pace=KeyPace(settings.key_requests_per_second, settings.key_reads_per_second),
        waiting=WaitingShare(_waiting_share(settings)),
        answers=Turns(BASE64_ANSWERS, ANSWER_WAIT_S),
        downloads=Turns(DOWNLOADS, DOWNLOAD_WAIT_S),
    )
    return _House(gateway, books, poller, collector, completions, callers, signals)


def _waiting_share(settings: Settings) -> int | None:
    """Callers of one key that may wait at once; the whole house is nobody's share."""
    if settings.waiting_share == 1:
        return None
    return max(math.floor(settings.max_in_flight * settings.waiting_share), 1)


def _loops(
    world: World, house: _House, heart: loops.Heart, settings: Settings
) -> dict[str, loops.Loop]:
    ttl = timedelta(days=settings.image_ttl_days)
    return {
        "poller": house.poller.run,
        "collector": house.collector.run,
        "signals": partial(house.completions.follow, house.signals),
        "callers": house.callers.listen,
        "receipts": house.callers.hand_in,
        "governor": world.governor.run,
        "places": partial(loops.free_places, Places(world.ledger, world.governor)),
        "drain": partial(house.completions.dismiss_on, house.gateway.drain),
        "census": partial(loops.publish_census, world.ledger, world.metrics),
        "audit": partial(loops.publish_audit, world.ledger, world.metrics),
        "debts": partial(loops.pay_debts, house.books, world.debts, world.metrics),
        "journal": partial(
            loops.keep_journal,
            world.journal,
            Correspondence(world.journal, world.journals),
            lambda: world.ledger.intact and not world.gone(),
            world.metrics,
            books=timedelta(days=settings.journal_days),
            jobs=ttl,
        ),
        "sweep": partial(loops.sweep_pictures, world.pictures, ttl),
        "heart": heart.beat,
    }


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel until they are gone: a library may swallow a first cancellation."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=STOP_AGAIN_S)
