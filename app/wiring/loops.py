"""Background loops of one process: started with the gateway, never dead, stopped last."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any

import structlog

from app.adapters.journal.compress import compress_closed_days
from app.adapters.journal.file import FileJournal
from app.adapters.journal.outbox import FileOutbox
from app.adapters.redis.job_tidier import JobTidier
from app.adapters.redis.rollup_writer import RollupWriter
from app.domain.cancellation import raise_if_cancelled
from app.domain.errors import StoreUnavailable
from app.domain.media import ImageStoreUnavailable
from app.domain.notices import Notice, NoticeKind, Notices
from app.domain.ports import ImageStore, Ledger
from app.domain.principal import HOUSE
from app.service.downloads import FailedDownload
from app.service.lease import SlotReclaimer
from app.service.settle import JobSettler
from app.telemetry.metrics import Metrics
from app.wiring.closed_months import MonthMover
from app.wiring.journal_replication import JournalReplication

log = structlog.get_logger("koi")

LoopFunction = Callable[[], Coroutine[Any, Any, None]]

RESTART_DELAY_S = 1.0
JOB_STATS_INTERVAL_S = 5.0
JOURNAL_INTERVAL_S = 1.0
OUTBOX_INTERVAL_S = 0.5
SLOT_INTERVAL_S = 2.0
AUDIT_INTERVAL_S = 300.0
ROLLUP_INTERVAL_S = 30.0
ROLLUP_PAUSE_S = 0.005
MONTHS_INTERVAL_S = 900.0
MONTHS_PAUSE_S = 0.01
TIDY_PAUSE_S = 0.02
SWEEP_INTERVAL_S = 3600.0
WATCHDOG_INTERVAL_S = 0.5
STUCK_AFTER_S = 30.0


class LoopWatchdog:
    """Whether the event loop runs. Liveness checks nothing else, because restarting a process mends
    neither the store nor the provider."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last_run_s = time.monotonic()

    def is_alive(self) -> bool:
        return time.monotonic() - self._last_run_s < STUCK_AFTER_S

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(WATCHDOG_INTERVAL_S)
            now = time.monotonic()
            self._metrics.loop_stalled(max(now - self._last_run_s - WATCHDOG_INTERVAL_S, 0.0))
            self._last_run_s = now


async def run_forever(name: str, loop: LoopFunction, metrics: Metrics) -> None:
    """Run a loop for as long as the process lives. A crash is counted and logged, and the loop
    restarted."""
    while True:
        try:
            await loop()
        except StoreUnavailable:
            pass
        except Exception:
            metrics.loop_failed(name)
            log.exception("loop_failed", loop=name)
        raise_if_cancelled()
        await asyncio.sleep(RESTART_DELAY_S)


def report_work_failure(metrics: Metrics, name: str, error: BaseException) -> None:
    """A job's own work raised, which is a bug. The poller ends the job and answers its callers."""
    metrics.loop_failed("work")
    log.error("work_failed", work=name, exc_info=error)


def report_download_failure(failed: FailedDownload) -> None:
    """Log which host failed to send a picture, without the link, which is a secret."""
    log.warning(
        "download_failed",
        task_id=failed.job_id,
        host=failed.host,
        reason=failed.reason,
        status=failed.status,
        tries=failed.number,
    )


def report_preview_failure(name: str, reason: str) -> None:
    """The picture itself was sent instead."""
    log.warning("preview_failed", image=name, reason=reason)


async def publish_job_stats(ledger: Ledger, metrics: Metrics) -> None:
    while True:
        metrics.publish_job_stats(await ledger.open_job_stats())
        await asyncio.sleep(JOB_STATS_INTERVAL_S)


async def publish_audit(ledger: Ledger, metrics: Metrics, notices: Notices) -> None:
    while True:
        audit = await ledger.audit(full=await ledger.full_audit_due(), files=False)
        metrics.publish_audit(audit)
        if audit.difference:
            first = audit.differences[0]
            where = {"scope": first.scope, "window": first.window}
            data = {"difference": audit.difference} | where
            await notices.publish(Notice(NoticeKind.LEDGER_DIFFERENCE, HOUSE, data))
        await asyncio.sleep(AUDIT_INTERVAL_S)


async def roll_up(writer: RollupWriter) -> None:
    """Roll up hours, days and months as they end; a ledger without rollups from its beginning."""
    while True:
        more = await writer.step()
        # Of several processes one is enough: the others come back at other times.
        wait_s = ROLLUP_INTERVAL_S * (1 + random.random())  # noqa: S311 - no secret
        await asyncio.sleep(ROLLUP_PAUSE_S if more else wait_s)


async def move_months(mover: MonthMover) -> None:
    """Move closed months out of the store. Not at once: during a restart gateways of an earlier
    version may run, which know of entries in the store alone."""
    more = False
    while True:
        await asyncio.sleep(MONTHS_PAUSE_S if more else MONTHS_INTERVAL_S)
        more = False
        try:
            more = await mover.step()
        except OSError as error:
            log.warning("month_not_written", reason=str(error))


async def tidy_jobs(tidier: JobTidier) -> None:
    """Make records of jobs that ended long ago small; not at once, for the same reason."""
    more = False
    while True:
        await asyncio.sleep(TIDY_PAUSE_S if more else MONTHS_INTERVAL_S)
        more = await tidier.step()


async def run_together(loops: Sequence[LoopFunction]) -> None:
    """Loops of one kind as one; all end when one of them fails."""
    async with asyncio.TaskGroup() as group:
        for loop in loops:
            group.create_task(loop())


async def reclaim_slots(reclaimer: SlotReclaimer) -> None:
    """Free the provider slots of jobs that have ended, also those of processes that died."""
    while True:
        if freed := await reclaimer.reclaim():
            log.info("slots_freed", jobs=freed)
        await asyncio.sleep(SLOT_INTERVAL_S)


async def deliver_outbox(settler: JobSettler, outbox: FileOutbox, metrics: Metrics) -> None:
    """Deliver what the store could not be told, also for processes of this machine that died."""
    while True:
        metrics.publish_outbox(await settler.deliver_all(), outbox.count_dead_letters())
        await asyncio.sleep(OUTBOX_INTERVAL_S)


async def maintain_journal(
    journal: FileJournal,
    replication: JournalReplication,
    intact: Callable[[], bool],
    metrics: Metrics,
    *,
    books: timedelta,
    jobs: timedelta,
) -> None:
    swept_s = -SWEEP_INTERVAL_S
    while True:
        metrics.publish_health(intact=intact(), journal=journal.ready())
        try:
            await replication.replicate()
            await asyncio.to_thread(journal.sync)
            if time.monotonic() - swept_s > SWEEP_INTERVAL_S:
                swept_s = time.monotonic()
                await asyncio.to_thread(journal.sweep, books=books, jobs=jobs)
                await asyncio.to_thread(compress_closed_days, journal.directory)
        except OSError as error:
            log.warning("journal_not_synced", reason=error.strerror)
        await asyncio.sleep(JOURNAL_INTERVAL_S)


async def delete_expired_images(pictures: ImageStore, ttl: timedelta) -> None:
    while True:
        try:
            removed = await pictures.sweep(ttl)
        except ImageStoreUnavailable as error:
            log.warning("pictures_not_swept", reason=str(error))
        else:
            if removed:
                log.info("pictures_swept", removed=removed)
        await asyncio.sleep(SWEEP_INTERVAL_S)
