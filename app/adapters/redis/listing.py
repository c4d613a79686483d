"""A user's tasks in one cheap command: only what a list shows is read and decoded."""

from app.adapters.redis.book import Book
from app.adapters.redis.jobs import read_job
from app.domain.listing import PageQuery, TaskPage


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
        return TaskPage([read_job(row) for row in rows], bool(more))
