"""All that is known of one job: its record while it lives, and its entries in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app.domain.job import Job
from app.domain.ledger import Entry, EntryKind

if TYPE_CHECKING:
    from app.domain.ports import Ledger

END_KINDS = (EntryKind.SETTLE, EntryKind.RELEASE)
MAX_ENTRIES_OF_ONE = 200_000


@dataclass(frozen=True, slots=True)
class JobStory:
    """The entries are the oldest first."""

    job: Job | None
    entries: Sequence[Entry] = field(default=())

    @property
    def end(self) -> Entry | None:
        return next((entry for entry in self.entries if entry.kind in END_KINDS), None)

    @property
    def team(self) -> str | None:
        """Whose user sent it."""
        known = self.job or self.end
        return None if known is None else known.team

    @property
    def images(self) -> int:
        """What it is charged by now, corrections included."""
        return sum(entry.images for entry in self.entries)

    @property
    def micros(self) -> int | None:
        amounts = [entry.micros for entry in self.entries if entry.kind is not EntryKind.DELIVERY]
        return None if None in amounts else sum(amount or 0 for amount in amounts)


async def read_story(
    ledger: "Ledger", job_id: str, since_ms: int = 0, most: int | None = MAX_ENTRIES_OF_ONE
) -> JobStory:
    """`since_ms` spares reading entries from before the job, once its record has expired; no more
    than the `most` newest entries are read (None: all)."""
    job = await ledger.job(job_id)
    start_ms = job.created_ms if job is not None else since_ms
    entries: list[Entry] = []
    read = 0
    async for entry in ledger.entries(start_ms, newest_first=True):
        read += 1
        if entry.job == job_id:
            entries.append(entry)
        if (entry.job == job_id and entry.kind in END_KINDS) or read == most:
            break
    return _complete(JobStory(job, entries[::-1]))


def _complete(story: JobStory) -> JobStory:
    """The record of a job that ended long ago leaves to its entry what that says, too."""
    job, end = story.job, story.end
    if job is None or end is None or job.dispatched_ms is not None:
        return story
    return replace(story, job=replace(job, dispatched_ms=end.dispatched_ms, calls=end.calls))
