"""A user's tasks in cheap scripts: only what a list shows is read and decoded."""

from typing import Any

from app.adapters.redis.codec import read_job, unflatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.replies import ErrorCode, Fields, ScriptError
from app.domain.job import Job
from app.domain.queries import TaskPage, TaskQuery

LISTED_FIELDS = (
    "status", "collecting", "id", "key", "user", "team", "pool", "model", "n", "size", "quality",
    "created", "state", "progress", "parts", "ended", "billed", "pictures", "failure", "unit",
    "deleted", "pics", "attribution",
)  # fmt: skip
"""Fields of a job's record; what the provider said of its parts is left out."""


class RedisTaskList:
    """`app.domain.ports.TaskList` on the ledger's own records."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def list_page(self, user: str, query: TaskQuery) -> TaskPage | None:
        rows: list[list[Any]] = []
        after: str | None = query.after or ""
        more = True
        while after is not None:
            page = await self._read(user, query, after, query.limit - len(rows))
            if page is None:
                # Unless it is the caller's, the task that was looked at last is gone meanwhile.
                return None if after == query.after else TaskPage([_job(row) for row in rows], more)
            rows += page["jobs"]
            more, after = bool(page["more"]), page.get("looked_up_to")
        return TaskPage([_job(row) for row in rows], more)

    async def _read(self, user: str, query: TaskQuery, after: str, limit: int) -> Fields | None:
        order, status = "oldest" if query.ascending else "", query.status or ""
        try:
            found: Fields = await self._scripts.run(
                "list_page", user, limit, after, order, status, query.since_ms, *LISTED_FIELDS
            )
        except ScriptError as error:
            if error.code is ErrorCode.TASK_UNKNOWN:
                return None
            raise
        return found


def _job(row: list[Any]) -> Job:
    if len(row) == 1:
        return read_job(unflatten(row[0]))
    given = zip(LISTED_FIELDS, row, strict=True)
    return read_job({field: text for field, text in given if text is not None})
