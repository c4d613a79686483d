"""Tasks as far back as the ledger goes: from their records, later from its entries."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.cli.entry_records import said_record
from app.cli.output import format_time, money_record
from app.cli.records import job_record
from app.domain.job import Job
from app.domain.ledger import Entry, EntryKind
from app.service.job_search import JobFilter, entry_status, sent_ms
from app.service.job_story import END_KINDS

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

MAX_ENTRIES_READ = 100_000
"""Entries of the ledger that one list may read, newest first: some seconds."""
MIN_RECORDS_READ = 200
"""How many of a user's newest records are searched at least. Older tasks are found in the ledger
or its index of open jobs; not those that were cancelled before they were sent: these have no
entry."""
UNREAD_ENTRIES = f"Read {MAX_ENTRIES_READ} entries of the ledger; name --since to look at fewer."
UNREAD_RECORDS = (
    "Older tasks that were cancelled before they were sent may be missing; a higher --limit reads "
    "more records, a later --since needs fewer."
)


@dataclass(frozen=True, slots=True)
class TaskFilter(JobFilter):
    """Which tasks, and how many at most."""

    limit: int = 20


async def find_tasks(
    context: "OperatorContext", wanted: TaskFilter
) -> tuple[list[dict[str, Any]], list[str]]:
    """Records as JSON, newest first, and sentences about what may be missing."""
    currency = context.catalog.currency
    records = await _newest_jobs(context, wanted)
    jobs = {job.id: job for job in [*records.jobs, *await _open_jobs(context, records.jobs)]}
    kept = [job for job in jobs.values() if wanted.matches_job(job)]
    dated = [(job.created_ms, job_record(job, currency)) for job in kept]
    scan = LedgerScan(context, wanted, frozenset(jobs))
    if wanted.wants_ended:
        dated += [(sent_ms(e), _entry_record(e, currency)) async for e in scan.matching_ends()]
    dated.sort(key=lambda pair: pair[0], reverse=True)
    found = dated[: wanted.limit]
    oldest_ms = found[-1][0] if len(found) == wanted.limit else 0
    notes = [] if scan.complete else [UNREAD_ENTRIES]
    notes += [UNREAD_RECORDS] if max(oldest_ms, wanted.since_ms) < records.unread_ms else []
    return [record for _, record in found], notes


async def find_expired_task(context: "OperatorContext", task_id: str) -> dict[str, Any] | None:
    """What the ledger knows of a task whose record has expired; None when it knows nothing."""
    async for entry in context.ledger.entries(newest_first=True):
        if entry.job == task_id and entry.kind in END_KINDS:
            return _entry_record(entry, context.catalog.currency)
    return None


class LedgerScan:
    """Reads the ledger once, newest entries first, for tasks that are not `known`."""

    def __init__(
        self, context: "OperatorContext", wanted: TaskFilter, known: frozenset[str]
    ) -> None:
        self._context, self._wanted, self._known = context, wanted, known
        self.complete = True

    async def matching_ends(self) -> AsyncIterator[Entry]:
        entries = self._context.ledger.entries(self._wanted.since_ms, newest_first=True)
        read = found = 0
        async for entry in entries:
            read += 1
            if self._wanted.matches_entry(entry) and entry.job not in self._known:
                found += 1
                yield entry
            if found == self._wanted.limit:
                return
            if read == MAX_ENTRIES_READ:
                self.complete = False
                return


@dataclass(frozen=True, slots=True)
class NewestJobs:
    """Users' newest records; of some user those from before `unread_ms` were not read."""

    jobs: list[Job]
    unread_ms: int


async def _newest_jobs(context: "OperatorContext", wanted: TaskFilter) -> NewestJobs:
    """Those of deleted users too."""
    names = wanted.users or [user.name for user in await context.keyring.users()]
    many = wanted.status is not None or wanted.teams or wanted.keys or wanted.asks_what_was_said
    most = max(MIN_RECORDS_READ, wanted.limit) if many else wanted.limit
    jobs: list[Job] = []
    unread_ms = 0
    for name in sorted(names):
        read = await context.ledger.list_jobs(name, most)
        jobs += read
        if len(read) == most:
            unread_ms = max(unread_ms, read[-1].created_ms)
    return NewestJobs(jobs, unread_ms)


async def _open_jobs(context: "OperatorContext", known: list[Job]) -> list[Job]:
    """The records of all others that are open, or have pictures pending."""
    read = {job.id for job in known}
    wanted = [job_id for job_id in await context.ledger.list_unfinished() if job_id not in read]
    found = [await context.ledger.job(job_id) for job_id in wanted]
    return [job for job in found if job is not None]


def _entry_record(entry: Entry, currency: str) -> dict[str, Any]:
    """The same fields as a record has; what the ledger does not keep is null or empty."""
    failed = entry.code and {
        "code": entry.code,
        "message": None,
        "retryable": None,
        "charged": entry.images > 0,
    }
    return {
        "id": entry.job,
        "status": entry_status(entry),
        "state": "settled" if entry.kind is EntryKind.SETTLE else "released",
        "user": entry.user,
        "team": entry.team,
        "model": entry.model,
        "n": entry.asked,
        "size": entry.size,
        "quality": entry.quality,
        "progress": None,
        "billed": entry.images,
        "cost": money_record(entry.micros, currency),
        "held": None,
        "created_at": format_time(sent_ms(entry)),
        "dispatched_at": format_time(entry.dispatched_ms),
        "ended_at": format_time(entry.at_ms),
        "pictures": [],
        "error": failed or None,
        "upstream": [],
        "calls": list(entry.calls),
        "request_id": None,
        **said_record(entry.attribution),
    }
