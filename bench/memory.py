"""Resident memory of a gateway: idle, under load, and after it."""

from dataclasses import dataclass

from bench.cpu import tree_cost


@dataclass(slots=True)
class Memory:
    """MiB of the gateway's processes, and of its store when it has one."""

    pid: int
    idle_mb: float = 0.0
    loaded_mb: float = 0.0
    recovered_mb: float = 0.0
    store_mb: float = 0.0
    """The store's, at the end."""

    def note_idle(self) -> None:
        self.idle_mb = tree_cost(self.pid).gateway.rss_mb

    def note_end(self) -> None:
        """The peak so far, and what is left now that others have been loaded meanwhile."""
        cost = tree_cost(self.pid)
        self.loaded_mb, self.recovered_mb = cost.gateway.peak_mb, cost.gateway.rss_mb
        self.store_mb = cost.store.rss_mb
