"""What the operator's console works with, on top of open adapters."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

from app.adapters.journal.job_changes import read_job_changes
from app.domain.administration import ROOT, Actor, ActorKind
from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.domain.journal import JobChange
from app.service.adjustments import Adjustments
from app.service.cancel_job import CancelJob
from app.service.job_search import JobSearch
from app.service.keys import KeyAdmin
from app.service.operations import Operations
from app.service.people import People
from app.service.upstreams import Upstreams
from app.service.wait import JobWaiters
from app.settings import Settings
from app.telemetry.recent_lines import lines_with
from app.wiring.adapters import Adapters
from app.wiring.bills import UploadedBills
from app.wiring.deployment import DeploymentView
from app.wiring.edge import VERSION
from app.wiring.focus import build_focus_terms
from app.wiring.health import HealthChecks
from app.wiring.stores import journal_directory

ROOT_ACTOR = Actor(ActorKind.ADMIN_KEY, ROOT)
MARGIN = timedelta(hours=1)


def build_operations(
    adapters: Adapters,
    upstreams: Upstreams,
    settings: Settings,
    catalog: Catalog,
    keys: KeyAdmin,
    waiters: JobWaiters,
) -> Operations:
    calendar = Calendar(ZoneInfo(settings.timezone))
    people = People(adapters.directory, keys)
    health = HealthChecks(adapters, upstreams, settings, catalog, people)
    return Operations(
        people=people,
        jobs=JobSearch(adapters.ledger),
        cancel=CancelJob(adapters.ledger, waiters, upstreams.limiter_of),
        adjustments=Adjustments(adapters.ledger, keys, catalog, calendar, ROOT_ACTOR),
        bills=UploadedBills(adapters.ledger, adapters.keyring, catalog, calendar),
        health=health,
        deployment=DeploymentView(
            settings, catalog, adapters.gateways, adapters.ledger.condition, VERSION
        ),
        audit=health.audit,
        calendar=calendar,
        focus=build_focus_terms(settings, catalog),
        resolve_after_s=settings.resolve_after_s,
        read_journal=partial(_read_journal, journal_directory(settings)),
        read_log=lines_with,
    )


async def _read_journal(
    directory: Path, job_id: str, since_ms: int, until_ms: int
) -> Sequence[JobChange]:
    """Files are named by the day in UTC; clocks of store and machine may differ a little."""
    first, last = (
        datetime.fromtimestamp(ms / 1000, UTC) + shift
        for ms, shift in ((since_ms, -MARGIN), (until_ms, MARGIN))
    )
    days = first.date().isoformat(), last.date().isoformat()
    return await asyncio.to_thread(read_job_changes, directory, job_id, *days)
