"""Background loops of one process: started with the gateway, never dead, stopped last."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import structlog

from app.adapters.journal.debts import FileDebts
from app.adapters.journal.file import FileJournal
from app.domain.errors import LedgerUnavailable
from app.domain.media import ImageStoreUnavailable
from app.domain.ports import ImageStore, Ledger
from app.service.books import Books
from app.service.collect import FailedTry
from app.service.places import Places
from app.telemetry.metrics import Metrics
from app.wiring.correspondence import Correspondence

log = structlog.get_logger("koi")

Loop = Callable[[], Coroutine[Any, Any, None]]

PAUSE_S = 1.0
CENSUS_S = 5.0
SYNC_S = 1.0
PAY_S = 0.5
PLACES_S = 2.0
AUDIT_S = 300.0
SWEEP_S = 3600.0
BEAT_S = 0.5
STUCK_S = 30.0


class Heart:
    """Whether the event loop turns; liveness asks nothing else (reliability study, section 12)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._beat_s = time.monotonic()

    def alive(self) -> bool:
        return time.monotonic() - self._beat_s < STUCK_S

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            now = time.monotonic()
            self._metrics.loop_stalled(max(now - self._beat_s - BEAT_S, 0.0))
            self._beat_s = now


async def keep_running(name: str, loop: Loop, metrics: Metrics) -> None:
    """Run a loop for as long as the process lives; a crash is counted, told and followed on."""
    while True:
        try:
            await loop()
        except LedgerUnavailable:
            pass
        except Exception:
            metrics.loop_failed(name)
            log.exception("loop_failed", loop=name)
        await asyncio.sleep(PAUSE_S)


def work_failed(metrics: Metrics, name: str, error: BaseException) -> None:
    """A job's own work broke: a bug. The poller resolves the job; nobody is left in the dark."""
    metrics.loop_failed("work")
    log.error("work_failed", work=name, exc_info=error)


def download_failed(failed: FailedTry) -> None:
    """Where the provider's pictures fail to come from; the link itself is a secret."""
    log.warning(
        "download_failed",
        task_id=failed.job_id,
        host=failed.host,
        reason=failed.reason,
        status=failed.status,
        tries=failed.number,
    )


async def publish_census(ledger: Ledger, metrics: Metrics) -> None:
    while True:
        metrics.publish(await ledger.census())
        await asyncio.sleep(CENSUS_S)


async def publish_audit(ledger: Ledger, metrics: Metrics) -> None:
    while True:
        metrics.publish_audit(await ledger.audit())
        await asyncio.sleep(AUDIT_S)


async def free_places(places: Places) -> None:
    """Free the provider's places of jobs that are over, also of processes that died."""
    while True:
        if freed := await places.reconcile():
            log.info("places_freed", jobs=freed)
        await asyncio.sleep(PLACES_S)


async def pay_debts(books: Books, debts: FileDebts, metrics: Metrics) -> None:
    """Tell the store what it could not be told, also for processes that died (fault F71)."""
    while True:
        metrics.publish_owed(await books.pay_all(), debts.damaged())
        await asyncio.sleep(PAY_S)


async def keep_journal(
    journal: FileJournal,
    correspondence: Correspondence,
    intact: Callable[[], bool],
    metrics: Metrics,
    *,
    books: timedelta,
    jobs: timedelta,
) -> None:
    swept_s = -SWEEP_S
    while True:
        metrics.publish_books(intact=intact(), journal=journal.ready())
        try:
            await correspondence.turn()
            await asyncio.to_thread(journal.sync)
            if time.monotonic() - swept_s > SWEEP_S:
                swept_s = time.monotonic()
                await asyncio.to_thread(journal.sweep, books=books, jobs=jobs)
        except OSError as error:
            log.warning("journal_not_synced", reason=error.strerror)
        await asyncio.sleep(SYNC_S)


async def sweep_pictures(pictures: ImageStore, ttl: timedelta) -> None:
    while True:
        try:
            removed = await pictures.sweep(ttl)
        except ImageStoreUnavailable as error:
            log.warning("pictures_not_swept", reason=str(error))
        else:
            if removed:
                log.info("pictures_swept", removed=removed)
        await asyncio.sleep(SWEEP_S)
