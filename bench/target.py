"""A target of the load generator."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A URL with a key. `pid` is the gateway's process, None for the stub."""

    name: str
    url: str
    key: str = "none"
    pid: int | None = None
    same: bool = False
    """Every request is the same, so that a cache can answer it."""
