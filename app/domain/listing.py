"""A user's tasks as a list shows them, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.job import Job, TaskStatus


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which tasks: at most `limit` of them, those that follow the task `after` in this order
    (newest first, or oldest first when `ascending`), all or those of one status."""

    limit: int
    after: str | None = None
    ascending: bool = False
    status: TaskStatus | None = None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Jobs without what the provider said of their parts; `more` is true when tasks follow the last
    one of these."""

    tasks: Sequence[Job]
    more: bool
