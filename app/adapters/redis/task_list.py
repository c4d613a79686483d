"""A user's tasks in one cheap command: only what a list shows is read and decoded."""

from typing import Any

from app.adapters.redis.job_codec import read_job
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.job import Job
from app.domain.queries import TaskPage, TaskQuery

LISTED_FIELDS = (
    "status", "collecting", "id", "key", "user", "team", "pool", "model", "n", "size", "quality",
    "created", "state", "progress", "parts", "ended", "billed", "pictures", "failure",
)  # fmt: skip
"""Fields of a job's record; what the provider said of its parts is left out."""


class RedisTaskList:
    """`app.domain.ports.TaskList` on the ledger's own records."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def list_page(self, user: str, query: TaskQuery) -> TaskPage | None:
        status, *found = await self._scripts.run(
            "list_page",
            user,
            query.limit,
            query.after or "",
            "oldest" if query.ascending else "",
            query.status or "",
            *LISTED_FIELDS,
        )
        if status == "unknown":
            return None
        more, *rows = found
        return TaskPage([_job(row) for row in rows], bool(more))


def _job(row: list[Any]) -> Job:
    if len(row) == 1:
        return read_job(row[0])
    given = zip(LISTED_FIELDS, row, strict=True)
    return read_job([text for pair in given if pair[1] is not None for text in pair])
