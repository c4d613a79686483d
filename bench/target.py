"""What the load generator can be pointed at."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway as one kind of caller sees it. `pid` None: nothing to account for."""

    name: str
    url: str
    key: str = "none"
    pid: int | None = None
    same: bool = False
    """Every request asks the same, so that a cache can answer."""
