"""Lists of jobs that may be long, read in pages that hold up nobody, and their numbers."""

from app.adapters.redis.codec import read_job, unflatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.job import Job, JobState
from app.domain.ledger import OpenJobStats

PAGE_SIZE = 500


async def list_jobs(scripts: LedgerScripts, user: str, limit: int) -> list[Job]:
    """A user's jobs that still exist, newest first."""
    jobs: dict[str, Job] = {}
    ranks = 0
    while len(jobs) < limit:
        found = await scripts.run("list_jobs", user, limit - len(jobs), ranks)
        # Jobs that were opened meanwhile move the others back: some come twice.
        jobs |= {job.id: job for job in (read_job(unflatten(row)) for row in found["jobs"])}
        ranks += found["ranks"]
        if not found["ranks"]:
            break
    return list(jobs.values())


async def list_unfinished(scripts: LedgerScripts) -> list[str]:
    """The jobs that are open, then those with images pending, each by the time they are due."""
    return [*await _unfinished(scripts, "due"), *await _unfinished(scripts, "collect")]


async def _unfinished(scripts: LedgerScripts, family: str) -> list[str]:
    """Whoever is in the sorted set all the time, the lowest score first."""
    scores: dict[str, float] = {}
    following = "0"
    while True:
        page = await scripts.run("list_unfinished", family, following, PAGE_SIZE)
        members = page["members"]
        scores |= zip(members[::2], map(float, members[1::2]), strict=True)
        following = page["next"]
        if following == "0":
            return sorted(scores, key=lambda member: scores[member])


async def open_job_stats(scripts: LedgerScripts) -> OpenJobStats:
    stats = await scripts.run("open_job_stats")
    amounts = stats["images"], stats["micros"], stats["lag_ms"], stats["collecting"]
    jobs = {state: stats[state.value] for state in JobState if not state.terminal}
    return OpenJobStats(jobs, *amounts)
