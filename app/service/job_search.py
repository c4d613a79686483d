"""Jobs of everybody, also beyond their records' lives: from the records, later from the ledger."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from app.domain.attribution import NOTHING_SAID, Attribution
from app.domain.job import Job, JobState, TaskStatus
from app.domain.ledger import Entry, EntryKind
from app.domain.queries import NOBODY
from app.domain.team_bounds import TeamBounds
from app.service.job_story import END_KINDS, JobStory, read_story

if TYPE_CHECKING:
    from app.domain.ports import Ledger

UNKNOWN_STATE = JobState.UNKNOWN.name.lower()
"""Not a status: callers see such a task as `processing`, or failed."""
ENDED_STATUSES = frozenset(status.value for status in TaskStatus if status.terminal)
STATUSES = (*(status.value for status in TaskStatus), UNKNOWN_STATE)
MAX_OPEN_READ = 500
MAX_ENTRIES_READ = 20_000
"""Records of open jobs and entries of the ledger that one page may read: a fraction of a second.
A page that finds little has a next one."""
OPEN_PREFIX, ENTRY_PREFIX = "open-", "entry-"
NEWEST = 2**53


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs; empty sets and None let everything through. Times are Unix milliseconds of the
    sending, `until_ms` exclusive. `code` is what a failed one failed with."""

    status: str | None = None
    since_ms: int = 0
    until_ms: int | None = None
    users: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    end_users: frozenset[str] = frozenset()

    def matches_job(self, job: Job) -> bool:
        code = None if job.failure is None else job.failure.code
        return (
            self.status in (None, job.status, job.state.name.lower())
            and self._in_time(job.created_ms)
            and self._matches(job.user, job.team, job.key_id, job.model, code)
            and self._was_said(job.attribution)
        )

    def matches_entry(self, entry: Entry) -> bool:
        """Whether this is the end of a job that is wanted: every job has one such entry."""
        return (
            entry.kind in END_KINDS
            and entry.job != ""
            and self.status in (None, entry_status(entry))
            and self._in_time(sent_ms(entry))
            and self._matches(entry.user, entry.team, entry.key, entry.model, entry.code)
            and self._was_said(entry.attribution)
        )

    @property
    def asks_what_was_said(self) -> bool:
        return bool(self.projects or self.tags or self.end_users)

    @property
    def wants_ended(self) -> bool:
        return self.status is None or self.status in ENDED_STATUSES

    @property
    def wants_open(self) -> bool:
        return not self.codes and (self.status is None or self.status not in ENDED_STATUSES)

    def _in_time(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)

    def _was_said(self, said: Attribution | None) -> bool:
        said = said or NOTHING_SAID
        pairs = (
            (self.projects, said.project), (self.tags, said.tag), (self.end_users, said.end_user),
        )  # fmt: skip
        return all(not names or (name or NOBODY) in names for names, name in pairs)

    def _matches(self, user: str, team: str | None, key: str, model: str, code: str | None) -> bool:
        pairs = (
            (self.users, user), (self.teams, team), (self.keys, key),
            (self.models, model), (self.codes, code),
        )  # fmt: skip
        return all(not names or name in names for names, name in pairs)


@dataclass(frozen=True, slots=True)
class FoundJob:
    """A job by its record, or by its end in the ledger once the record has expired, or by both."""

    job: Job | None
    end: Entry | None


@dataclass(frozen=True, slots=True)
class JobPage:
    """`cursor` continues; None when there is nothing more."""

    found: Sequence[FoundJob]
    cursor: str | None


class CursorInvalid(ValueError):
    """A cursor that no page of this list gave."""


class JobSearch:
    def __init__(self, ledger: "Ledger", bounds: TeamBounds | None = None) -> None:
        self._ledger, self._bounds = ledger, bounds

    def held_to(self, bounds: TeamBounds) -> "JobSearch":
        """Those that one team's users sent."""
        return JobSearch(self._ledger, bounds)

    async def page(self, wanted: JobFilter, limit: int, cursor: str | None = None) -> JobPage:
        """Open jobs by the time they are due, then ended ones, the newest first. Those that were
        cancelled before they were sent have no entry and are not found. Raises `CursorInvalid`."""
        if self._bounds is not None:
            wanted = replace(wanted, teams=self._bounds.narrow(wanted.teams))
        if cursor is None or cursor.startswith(OPEN_PREFIX):
            start = _number(cursor, OPEN_PREFIX) if cursor else 0
            page = await self._page_of_open(wanted, limit, start)
            if page.cursor is not None or not wanted.wants_ended:
                return page
            if len(page.found) == limit:
                return JobPage(page.found, f"{ENTRY_PREFIX}{NEWEST}")
            ended = await self._page_of_ended(wanted, limit - len(page.found), NEWEST)
            return JobPage([*page.found, *ended.found], ended.cursor)
        return await self._page_of_ended(wanted, limit, _number(cursor, ENTRY_PREFIX))

    async def story(self, job_id: str, since_ms: int = 0) -> JobStory | None:
        """None when nobody knows it. `since_ms` spares reading entries from before the job."""
        story = await read_story(self._ledger, job_id, since_ms)
        if self._bounds is not None and not self._bounds.covers(story.team):
            return None
        return story if story.job is not None or story.entries else None

    async def _page_of_open(self, wanted: JobFilter, limit: int, start: int) -> JobPage:
        if not wanted.wants_open:
            return JobPage([], None)
        ids = await self._ledger.list_unfinished()
        found: list[FoundJob] = []
        for place, job_id in enumerate(ids[start : start + MAX_OPEN_READ], start):
            if len(found) == limit:
                return JobPage(found, f"{OPEN_PREFIX}{place}")
            job = await self._ledger.job(job_id)
            if job is not None and wanted.matches_job(job):
                found.append(FoundJob(job, None))
        ends = start + MAX_OPEN_READ
        return JobPage(found, f"{OPEN_PREFIX}{ends}" if len(ids) > ends else None)

    async def _page_of_ended(self, wanted: JobFilter, limit: int, before_ms: int) -> JobPage:
        """Ended before a moment. A page ends between two milliseconds, so that none is lost."""
        found: list[Entry] = []
        read, last_ms = 0, None
        async for entry in self._entries_before(wanted, before_ms):
            full = len(found) >= limit or read >= MAX_ENTRIES_READ
            if full and entry.at_ms != last_ms:
                return JobPage(await self._join(wanted, found), f"{ENTRY_PREFIX}{last_ms}")
            read, last_ms = read + 1, entry.at_ms
            if wanted.matches_entry(entry):
                found.append(entry)
        return JobPage(await self._join(wanted, found), None)

    async def _join(self, wanted: JobFilter, ends: Sequence[Entry]) -> list[FoundJob]:
        """With their records. A job that is collecting pictures was among the open ones."""
        jobs = [FoundJob(await self._ledger.job(end.job), end) for end in ends]
        return [
            one
            for one in jobs
            if not wanted.wants_open or one.job is None or one.job.status.terminal
        ]

    def _entries_before(self, wanted: JobFilter, before_ms: int) -> AsyncIterator[Entry]:
        until_ms = None if before_ms == NEWEST else before_ms
        return self._ledger.entries(wanted.since_ms, until_ms, newest_first=True)


def entry_status(entry: Entry) -> str:
    failed = entry.kind is EntryKind.RELEASE or entry.code is not None
    return (TaskStatus.FAILED if failed else TaskStatus.COMPLETED).value


def sent_ms(entry: Entry) -> int:
    return entry.at_ms if entry.dispatched_ms is None else entry.dispatched_ms


def _number(cursor: str, prefix: str) -> int:
    digits = cursor.removeprefix(prefix)
    if not cursor.startswith(prefix) or not digits.isascii() or not digits.isdigit():
        raise CursorInvalid
    if len(digits) > len(str(NEWEST)):
        raise CursorInvalid
    return int(digits)
