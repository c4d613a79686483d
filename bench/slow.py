"""Crowds of slow generations in flight at once on one worker."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from bench.cpu import cpu_split, tree_cost
from bench.generator import LoadGenerator, Request
from bench.koi import Koi, Upstream
from bench.peers import start_stub
from bench.target import generation
from bench.work import Caller

CONTROL_RATE = 2.0
LIVEZ_RATE = 20.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """Requests per second for some seconds, each taking between `waits` seconds at the provider."""

    name: str
    rate: float
    seconds: float
    waits: tuple[float, float]


@dataclass(frozen=True, slots=True)
class SlowRun:
    """Added times come on top of the provider's; `control` are requests to the stub alone."""

    name: str
    requests: int
    errors: int
    error_kinds: dict[str, int]
    most_in_flight: int
    added_p50_ms: float | None
    added_p99_ms: float | None
    added_max_ms: float | None
    control_added_p99_ms: float | None
    livez_p99_ms: float | None
    rss_mb: float
    store_rss_mb: float
    kb_each: float
    cpu_ms: float
    store_cpu_ms: float


def run_slow(folder: Path, crowd: Crowd) -> SlowRun:
    """Start a stub and a gateway before it, load them, stop them. Memory is the peak."""
    with ExitStack() as stack:
        stub = start_stub(stack, folder)
        place = folder / crowd.name.replace(" ", "-").replace(",", "")
        koi = Koi(stack, place, Upstream(urlsplit(stub.request.url).port or 0))
        slow = _slow(Caller(koi).generate("picture-5kb"), crowd)
        load, control, livez = (stack.enter_context(LoadGenerator()) for _ in range(3))
        load.do(_quick(slow), requests=20)
        direct = _slow(generation(stub.request.url, "none"), crowd)
        idle, before = tree_cost(koi.pid), cpu_split(koi.pid)
        load.begin(slow, duration_s=crowd.seconds, rate=crowd.rate)
        control.begin(direct, duration_s=crowd.seconds, rate=CONTROL_RATE)
        alive_s = crowd.seconds + crowd.waits[0]
        livez.begin(Request(f"{koi.url}/livez"), duration_s=alive_s, rate=LIVEZ_RATE)
        seen, alive, alone = load.report(), livez.report(), control.report()
        after, spent = tree_cost(koi.pid), cpu_split(koi.pid).since(before)
        answers, most = max(seen["requests"], 1), max(seen["most_in_flight"], 1)
        return SlowRun(
            crowd.name,
            seen["requests"],
            seen["errors"],
            seen["error_kinds"],
            seen["most_in_flight"],
            seen["p50_ms"],
            seen["p99_ms"],
            seen["max_ms"],
            alone["p99_ms"],
            alive["p99_ms"],
            after.gateway.peak_mb,
            after.store.peak_mb,
            (after.gateway.peak_mb - idle.gateway.rss_mb) * 1024 / most,
            spent.gateway_s / answers * 1000,
            spent.store_s / answers * 1000,
        )


def _slow(request: Request, crowd: Crowd) -> Request:
    return replace(request, waits=crowd.waits)


def _quick(request: Request) -> Request:
    return replace(request, waits=None)
