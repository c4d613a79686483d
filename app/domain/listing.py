"""A user's tasks as a list shows them, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.errors import FailureNote
from app.domain.images import Picture
from app.domain.job import TaskStatus


@dataclass(frozen=True, slots=True)
class PageQuery:
    """Which tasks: at most `limit` of them, those that follow the task `after` in this order
    (newest first, or oldest first when `ascending`), all or those of one status."""

    limit: int
    after: str | None = None
    ascending: bool = False
    status: TaskStatus | None = None


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """What a list shows of a job; the times are Unix milliseconds of the store's clock."""

    id: str
    status: TaskStatus
    progress: int
    created_ms: int
    model: str
    pictures: tuple[Picture, ...] = ()
    failure: FailureNote | None = None


@dataclass(frozen=True, slots=True)
class TaskPage:
    """`more` is true when tasks follow the last one of these."""

    tasks: Sequence[TaskSummary]
    more: bool
