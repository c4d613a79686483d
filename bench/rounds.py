"""Interleaved rounds: every target in turn, again and again, so that a busy moment of the machine
meets them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.children import get_json, origin
from bench.cpu import CpuSplit, cpu_split
from bench.generator import LoadGenerator
from bench.target import Target


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
    main_ms: float | None
    threads_ms: float | None
    store_ms: float | None
    requests: int
    errors: int
    posts: int
    """Generations that the stub was asked for during this sample, with both loads."""

    @property
    def cpu_ms(self) -> float | None:
        """The gateway's processes and their store."""
        parts = (self.main_ms, self.threads_ms, self.store_ms)
        known = [part for part in parts if part is not None]
        return sum(known) if known else None


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

    @property
    def posts_each(self) -> float | None:
        requests = self.total("requests")
        return self.total("posts") / requests if requests else None


def ratio(ours: Row, theirs: Row, field: str) -> float | None:
    """The median of the ratios of each round, whose samples met the machine in the same state."""
    pairs = [
        (getattr(a, field), getattr(b, field))
        for a, b in zip(ours.samples, theirs.samples, strict=True)
    ]
    known = [a / b for a, b in pairs if a is not None and b]
    return median(known) if known else None


def compare(
    targets: Sequence[Target], stub: Target, plan: Plan, generator: LoadGenerator
) -> list[Row]:
    """Measure all targets in all rounds. The first load of each is a warm-up and not counted."""
    for target in targets:
        generator.do(target.request, connections=target.connections, duration_s=plan.warm_up_s)
    samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
    for number in range(plan.rounds):
        print(f"round {number + 1} of {plan.rounds} ...", flush=True)
        for target in targets:
            samples[target.name].append(_sample(target, stub, plan, generator))
    return [Row(target, tuple(samples[target.name])) for target in targets]


def _sample(target: Target, stub: Target, plan: Plan, generator: LoadGenerator) -> Sample:
    posts = _posts(stub)
    before = cpu_split(target.pid) if target.pid else CpuSplit()
    crowd = generator.do(target.request, connections=target.connections, duration_s=plan.crowd_s)
    after = cpu_split(target.pid) if target.pid else CpuSplit()
    seen = [crowd]
    if target.alone:
        seen.append(generator.do(target.request, connections=1, duration_s=plan.alone_s))
    spent, answers = after.since(before), crowd["requests"]
    known = target.pid is not None and answers
    times = (spent.main_s, spent.threads_s, spent.store_s)
    return Sample(
        crowd["rps"],
        crowd["p50_ms"],
        crowd["p99_ms"],
        seen[1]["p50_ms"] if target.alone else None,
        *(time_s / answers * 1000 if known else None for time_s in times),
        sum(report["requests"] for report in seen),
        sum(report["errors"] for report in seen),
        _posts(stub) - posts,
    )


def _posts(stub: Target) -> int:
    return int(get_json(f"{origin(stub.request.url)}/count")["posts"])
