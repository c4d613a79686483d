"""A thousand generations of twenty seconds in flight at once on one worker."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.cpu import tree_cost
from bench.generator import LoadGenerator
from bench.koi import Koi, Upstream
from bench.peers import start_stub
from bench.rounds import load

LATENCY_S = 20.0
CONTROL_RATE = 2.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Requests per second for some seconds; at most rate x 20 of them are in flight."""

    rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class SlowRun:
    """Added times come on top of the twenty seconds; `control` are requests to the stub alone."""

    requests: int
    errors: int
    error_kinds: dict[str, int]
    most_in_flight: int
    added_p50_ms: float | None
    added_p99_ms: float | None
    added_max_ms: float | None
    control_added_p99_ms: float | None
    rss_mb: float
    store_rss_mb: float
    cpu_ms: float
    store_cpu_ms: float


def run_slow(folder: Path, crowd: Crowd, mode: str) -> SlowRun:
    """Start a stub and a gateway before it, load them, stop them. Memory is the peak."""
    with ExitStack() as stack:
        stub = start_stub(stack, folder, LATENCY_S)
        koi = Koi(stack, folder / "slow", Upstream(urlsplit(stub.url).port or 0, mode))
        koi.team()
        caller = koi.caller("slow", "off")
        control = stack.enter_context(LoadGenerator())
        control.begin(stub.request(), duration_s=crowd.seconds, rate=CONTROL_RATE)
        before = tree_cost(koi.pid)
        answers = load(caller, duration_s=crowd.seconds, rate=crowd.rate)
        after = tree_cost(koi.pid)
        requests = answers["requests"]
        return SlowRun(
            requests,
            answers["errors"],
            answers["error_kinds"],
            answers["most_in_flight"],
            _added(answers["p50_ms"]),
            _added(answers["p99_ms"]),
            _added(answers["max_ms"]),
            _added(control.report()["p99_ms"]),
            after.gateway.peak_mb,
            after.store.peak_mb,
            (after.gateway.cpu_s - before.gateway.cpu_s) / max(requests, 1) * 1000,
            (after.store.cpu_s - before.store.cpu_s) / max(requests, 1) * 1000,
        )


def _added(total_ms: float | None) -> float | None:
    return None if total_ms is None else total_ms - LATENCY_S * 1000
