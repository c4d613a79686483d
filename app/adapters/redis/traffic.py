"""What the provider grants this deployment, and how the traffic to it stood a moment ago."""

import time
from dataclasses import dataclass, replace

import orjson

from app.domain.upstream import UpstreamTraffic


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """What the provider grants this deployment; None: no limit that we know of.

    `burst` is requests per second. `queue_s` is how long a job may wait for its permit. `lease_s`
    frees the slot of a process that died with a job at the provider. After a 429 the rate rises
    every `step_s`, longer than a generation takes; an open breaker lets a probe through after
    `probe_s`, later ones after up to a minute.
    """

    rpm: int | None = None
    burst: int | None = None
    concurrency: int | None = None
    queue_s: float = 60
    lease_s: float = 900
    step_s: float = 30
    probe_s: float = 10

    @property
    def text(self) -> bytes:
        """As the scripts read them."""
        given = {
            "rpm": self.rpm,
            "burst": self.burst,
            "slots": self.concurrency,
            "lease_ms": round(self.lease_s * 1000),
            "step_ms": round(self.step_s * 1000),
            "probe_ms": round(self.probe_s * 1000),
        }
        return orjson.dumps({name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True)
class TrafficView:
    """What a script said about the traffic at a moment of this process's clock. The fields are
    those of `traffic_view` in the scripts' prelude."""

    at_s: float = 0.0
    queued: int = 0
    busy: int = 0
    held_ms: int = 0
    next_ms: int = 0
    pause_ms: int = 0
    share: int = 1000
    refused: str = ""
    fails: int = 0
    probe_ms: int = 0

    def after_permits(self, *, queued: int, busy: int, next_ms: int) -> "TrafficView":
        """The same with what a script said of permits just now."""
        ago_ms = round(1000 * (time.monotonic() - self.at_s))
        return replace(self, queued=queued, busy=busy, next_ms=next_ms + ago_ms)

    @property
    def next_s(self) -> float:
        return self.next_ms / 1000 - (time.monotonic() - self.at_s)

    @property
    def throttled(self) -> bool:
        return self.share < 1000 or self.pause_ms / 1000 > time.monotonic() - self.at_s

    @property
    def traffic(self) -> UpstreamTraffic:
        return UpstreamTraffic(
            self.queued, self.busy, self.share / 1000, self.pause_ms / 1000, self.refused or None
        )
