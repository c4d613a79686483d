"""Tasks as far back as the ledger goes: their records while these live, its entries beyond."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.cli.out import money, time_text
from app.cli.records import job_record
from app.cli.whose import Names
from app.domain.job import Job, TaskStatus
from app.domain.ledger import Entry, EntryKind

if TYPE_CHECKING:
    from app.wiring import Office

ENDS = (EntryKind.SETTLE, EntryKind.RELEASE)
READ_AT_MOST = 100_000
"""Entries of the ledger that one list may read, newest first: some seconds."""
RECORDS = 200
"""Of so many of a user's newest records those that are wanted are looked for. Older ones are found
in the ledger, and where they are still open, in its index of these; not those that were cancelled
before they were sent, which left no entry."""
UNREAD_ENTRIES = f"Read {READ_AT_MOST} entries of the ledger; name --since to look at fewer."
UNREAD_RECORDS = (
    "Older tasks that were cancelled before they were sent may be missing; a higher --limit reads "
    "more records, a later --since needs fewer."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which tasks, and how many at most."""

    status: str | None
    since_ms: int
    limit: int
    whose: Names

    def owns(self, user: str, team: str | None, key: str) -> bool:
        whose = self.whose
        pairs = ((whose.users, user), (whose.teams, team), (whose.keys, key))
        return all(not names or name in names for names, name in pairs)

    def job(self, job: Job) -> bool:
        fits = self.status is None or job.status == self.status
        since = job.created_ms >= self.since_ms
        return fits and since and self.owns(job.user, job.team, job.key_id)

    def entry(self, entry: Entry) -> bool:
        """Whether this is the end of a job that is wanted: every job has one such entry."""
        ended = entry.kind in ENDS and entry.job != ""
        fits = self.status is None or _status(entry) == self.status
        return ended and fits and self.owns(entry.user, entry.team, entry.key)


async def found_tasks(office: "Office", wanted: Wanted) -> tuple[list[dict[str, Any]], list[str]]:
    """Records as JSON, newest first, and what may be missing from them, in sentences."""
    currency = office.catalog.currency
    records = await _records(office, wanted)
    jobs = {job.id: job for job in [*records.jobs, *await _unended(office, records.jobs)]}
    kept = [job for job in jobs.values() if wanted.job(job)]
    dated = [(job.created_ms, job_record(job, currency)) for job in kept]
    over = Reading(office, wanted, frozenset(jobs))
    if wanted.status is None or TaskStatus(wanted.status).terminal:
        dated += [(_began_ms(e), _entry_record(e, currency)) async for e in over.ends()]
    dated.sort(key=lambda pair: pair[0], reverse=True)
    found = dated[: wanted.limit]
    oldest_ms = found[-1][0] if len(found) == wanted.limit else 0
    notes = [] if over.whole else [UNREAD_ENTRIES]
    notes += [UNREAD_RECORDS] if max(oldest_ms, wanted.since_ms) < records.unread_ms else []
    return [record for _, record in found], notes


async def expired_task(office: "Office", task_id: str) -> dict[str, Any] | None:
    """What the ledger knows of a task whose record is over; None when it never heard of it."""
    async for entry in office.ledger.entries(newest_first=True):
        if entry.job == task_id and entry.kind in ENDS:
            return _entry_record(entry, office.catalog.currency)
    return None


class Reading:
    """One reading of the ledger, newest entries first, for tasks that are not `known`."""

    def __init__(self, office: "Office", wanted: Wanted, known: frozenset[str]) -> None:
        self._office, self._wanted, self._known = office, wanted, known
        self.whole = True

    async def ends(self) -> AsyncIterator[Entry]:
        entries = self._office.ledger.entries(self._wanted.since_ms, newest_first=True)
        read = found = 0
        async for entry in entries:
            read += 1
            if self._wanted.entry(entry) and entry.job not in self._known:
                found += 1
                yield entry
            if found == self._wanted.limit:
                return
            if read == READ_AT_MOST:
                self.whole = False
                return


@dataclass(frozen=True, slots=True)
class Records:
    """Users' newest records; of some user those from before `unread_ms` were not read."""

    jobs: list[Job]
    unread_ms: int


async def _records(office: "Office", wanted: Wanted) -> Records:
    """Those of deleted users too."""
    names = wanted.whose.users or [user.name for user in await office.keyring.users()]
    many = wanted.status is not None or wanted.whose.teams or wanted.whose.keys
    most = max(RECORDS, wanted.limit) if many else wanted.limit
    jobs: list[Job] = []
    unread_ms = 0
    for name in sorted(names):
        read = await office.ledger.jobs_of(name, most)
        jobs += read
        if len(read) == most:
            unread_ms = max(unread_ms, read[-1].created_ms)
    return Records(jobs, unread_ms)


async def _unended(office: "Office", known: list[Job]) -> list[Job]:
    """The records of all others that are open, or have pictures pending."""
    read = {job.id for job in known}
    wanted = [job_id for job_id in await office.ledger.unended() if job_id not in read]
    found = [await office.ledger.job(job_id) for job_id in wanted]
    return [job for job in found if job is not None]


def _status(entry: Entry) -> str:
    failed = entry.kind is EntryKind.RELEASE or entry.code is not None
    return (TaskStatus.FAILED if failed else TaskStatus.COMPLETED).value


def _began_ms(entry: Entry) -> int:
    return entry.at_ms if entry.dispatched_ms is None else entry.dispatched_ms


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
        "status": _status(entry),
        "state": "settled" if entry.kind is EntryKind.SETTLE else "released",
        "user": entry.user,
        "team": entry.team,
        "model": entry.model,
        "n": entry.asked,
        "size": entry.size,
        "quality": entry.quality,
        "progress": None,
        "billed": entry.images,
        "cost": money(entry.micros, currency),
        "created_at": time_text(_began_ms(entry)),
        "dispatched_at": time_text(entry.dispatched_ms),
        "ended_at": time_text(entry.at_ms),
        "pictures": [],
        "error": failed or None,
        "upstream": [],
        "calls": list(entry.calls),
        "request_id": None,
    }
