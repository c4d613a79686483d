"""Interleaved rounds: every target in turn, again and again, so that a busy moment of the machine
meets them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from bench.children import get_json
from bench.cpu import TreeCost, tree_cost
from bench.generator import LoadGenerator
from bench.target import Target

CROWD = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds, and the seconds of load for each target in a round."""

    rounds: int
    crowd_s: float
    alone_s: float
    warm_up_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One target in one round. CPU is milliseconds per good answer; None without a gateway."""

    rps: float
    p50_ms: float | None
    p99_ms: float | None
    alone_p50_ms: float | None
    cpu_ms: float | None
    store_cpu_ms: float | None
    rss_mb: float | None
    store_rss_mb: float | None
    requests: int
    errors: int
    posts: int
    """Generations that the stub was asked for during this sample, with both loads."""


@dataclass(frozen=True, slots=True)
class Row:
    """The samples of a target; `middle` is the median of one of their fields."""

    target: Target
    samples: tuple[Sample, ...]

    def middle(self, field: str) -> float | None:
        values = [getattr(sample, field) for sample in self.samples]
        known = [value for value in values if value is not None]
        return median(known) if known else None

    def total(self, field: str) -> int:
        return sum(getattr(sample, field) for sample in self.samples)


def ratio(ours: Row, theirs: Row, field: str) -> float | None:
    """The median of the ratios of each round, whose samples met the machine in the same state."""
    pairs = [
        (getattr(a, field), getattr(b, field))
        for a, b in zip(ours.samples, theirs.samples, strict=True)
    ]
    known = [a / b for a, b in pairs if a is not None and b]
    return median(known) if known else None


def compare(targets: Sequence[Target], stub: Target, plan: Plan) -> list[Row]:
    """Measure all targets in all rounds. The first load of each is a warm-up and not counted."""
    for target in targets:
        load(target, connections=CROWD, duration_s=plan.warm_up_s)
    samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds} ...", flush=True)
        for target in targets:
            samples[target.name].append(_sample(target, stub, plan))
    return [Row(target, tuple(samples[target.name])) for target in targets]


def load(
    target: Target, *, connections: int = 1, duration_s: float, rate: float = 0.0
) -> dict[str, Any]:
    """Run the load generator once; returns its report."""
    with LoadGenerator() as generator:
        return generator.do(
            target.request(), connections=connections, duration_s=duration_s, rate=rate
        )


def _sample(target: Target, stub: Target, plan: Plan) -> Sample:
    posts = _posts(stub)
    before = _cost(target)
    crowd = load(target, connections=CROWD, duration_s=plan.crowd_s)
    after = _cost(target)
    alone = load(target, connections=1, duration_s=plan.alone_s)
    requests = crowd["requests"]
    cpu_ms = store_cpu_ms = None
    if before and after and requests:
        cpu_ms = (after.gateway.cpu_s - before.gateway.cpu_s) / requests * 1000
        store_cpu_ms = (after.store.cpu_s - before.store.cpu_s) / requests * 1000
    return Sample(
        crowd["rps"],
        crowd["p50_ms"],
        crowd["p99_ms"],
        alone["p50_ms"],
        cpu_ms,
        store_cpu_ms,
        after.gateway.rss_mb if after else None,
        after.store.rss_mb if after else None,
        requests + alone["requests"],
        crowd["errors"] + alone["errors"],
        _posts(stub) - posts,
    )


def _cost(target: Target) -> TreeCost | None:
    return None if target.pid is None else tree_cost(target.pid)


def _posts(stub: Target) -> int:
    parts = urlsplit(stub.url)
    return int(get_json(f"http://{parts.netloc}/count")["posts"])
