"""A user's tasks in one cheap command: only what a list shows is read and decoded."""

from collections.abc import Sequence

import orjson

from app.adapters.redis.book import Book
from app.adapters.redis.jobs import read_pictures
from app.domain.errors import FailureNote
from app.domain.job import TaskStatus
from app.domain.listing import PageQuery, TaskPage, TaskSummary


class RedisTaskList:
    """`app.domain.ports.TaskList` on the ledger's own records."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def page(self, user: str, query: PageQuery) -> TaskPage | None:
        status, *found = await self._book.read(
            "page",
            user,
            query.limit,
            query.after or "",
            "oldest" if query.ascending else "",
            query.status or "",
        )
        if status == "unknown":
            return None
        more, *rows = found
        return TaskPage([_summary(row) for row in rows], bool(more))


def _summary(row: Sequence[str | None]) -> TaskSummary:
    id, status, progress, created, model, pictures, failure = row
    return TaskSummary(
        id=id or "",
        status=TaskStatus(status or ""),
        progress=int(progress or 0),
        created_ms=int(created or 0),
        model=model or "",
        pictures=read_pictures(orjson.loads(pictures or "[]")),
        failure=None if failure is None else FailureNote(**orjson.loads(failure)),
    )
