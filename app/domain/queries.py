"""Queries and their results: pages of a user's tasks, and sums of what was used."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.job import Job, TaskStatus


@dataclass(frozen=True, slots=True)
class TaskQuery:
    """Which tasks to list: at most `limit`, those after the task `after` in this order (newest
    first, or oldest first when `ascending`), all or those of one status, none from before
    `since_ms`."""

    limit: int
    after: str | None = None
    ascending: bool = False
    status: TaskStatus | None = None
    since_ms: int = 0


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Jobs without their parts' results; `more` is true when more tasks follow."""

    tasks: Sequence[Job]
    more: bool


NOBODY = "-"
"""Stands for none in a filter and on paper: what nothing was said of, what the deployment pays."""
USAGE_DIMENSIONS = ("user", "team", "key", "model", "size", "day", "project", "tag", "end_user")


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which ledger entries to add up. Times are Unix milliseconds, `until_ms` exclusive.

    `by` names dimensions (`USAGE_DIMENSIONS`) to group by, of which `project`, `tag` and `end_user`
    are what callers say; `bucket_ms` cuts time into equal spans
    counted from `since_ms`, or None for one span. Empty filters let everything through.
    """

    since_ms: int
    until_ms: int
    by: tuple[str, ...] = ()
    bucket_ms: int | None = None
    users: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    sizes: frozenset[str] = frozenset()
    projects: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    end_users: frozenset[str] = frozenset()

    @property
    def filters(self) -> dict[str, frozenset[str]]:
        """What each dimension may be; empty: anything."""
        return {
            "user": self.users,
            "team": self.teams,
            "key": self.keys,
            "model": self.models,
            "size": self.sizes,
            "project": self.projects,
            "tag": self.tags,
            "end_user": self.end_users,
        }

    @property
    def dimensions(self) -> frozenset[str]:
        """The dimensions that the answer depends on."""
        return frozenset(self.by) | {name for name, allowed in self.filters.items() if allowed}


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of one group. Ungrouped dimensions are None.

    `images` are charged, of which `presumed` without evidence; `delivered` are in our store or
    still downloaded; `surplus` were made beyond what was asked and are charged to the house;
    `requests` are jobs. `micros` is None when one image of the group had no price. What the house
    pays for has no user, team or key.
    """

    images: int = 0
    delivered: int = 0
    presumed: int = 0
    surplus: int = 0
    requests: int = 0
    micros: int | None = 0
    user: str | None = None
    team: str | None = None
    key: str | None = None
    model: str | None = None
    size: str | None = None
    day: str | None = None
    project: str | None = None
    tag: str | None = None
    end_user: str | None = None


@dataclass(frozen=True, slots=True)
class UsageBucket:
    starts_ms: int
    ends_ms: int
    rows: tuple[UsageRow, ...]
