"""How many requests a second a gateway answers in time: an open loop at rising rates.

Requests start when they are due, whether or not earlier ones are answered, and latency counts from
that moment, so that a gateway which stalls cannot slow the load down (no coordinated omission)."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.generator import LoadGenerator
from bench.target import Target

BOUNDS_MS = (5.0, 10.0, 50.0, 100.0)
SHARES = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
MOST = 6000.0
"""The load generator itself keeps its due times up to here."""
TRIES = 2
SAMPLES = 60
LONGEST_S = 3.0
HOPELESS_MS = 300.0


@dataclass(frozen=True, slots=True)
class Rung:
    """The better of some tries at one rate: a busy moment of the machine is not the gateway's."""

    rate: float
    p99_ms: float | None
    """None when requests failed."""


@dataclass(frozen=True, slots=True)
class Ladder:
    name: str
    rungs: tuple[Rung, ...]

    def best(self, bound_ms: float) -> float:
        """The highest rate whose p99 is within the bound; 0 when not even the lowest is."""
        kept = [r.rate for r in self.rungs if r.p99_ms is not None and r.p99_ms <= bound_ms]
        return max(kept, default=0.0)


def climb(
    target: Target, most: float, seconds: float, generator: LoadGenerator, *, finer: bool
) -> Ladder:
    """`most` is the rate of a closed loop, which no open loop exceeds; `finer` also tries the
    middle between the best rate and the next."""
    rungs: list[Rung] = []
    rates = [share * min(most, MOST) for share in SHARES]
    for rate in rates:
        rungs.append(_rung(target, rate, seconds, generator))
        if _lost(rungs):
            break
    between = _midpoints(rungs) if finer else []
    rungs += [_rung(target, rate, seconds, generator) for rate in between]
    return Ladder(target.name, tuple(sorted(rungs, key=lambda rung: rung.rate)))


def _rung(target: Target, rate: float, seconds: float, generator: LoadGenerator) -> Rung:
    best: float | None = None
    for _ in range(TRIES):
        duration_s = min(max(seconds, SAMPLES / rate), LONGEST_S)
        seen = generator.do(target.request, rate=rate, duration_s=duration_s)
        p99_ms = None if seen["errors"] else seen["p99_ms"]
        if p99_ms is not None and (best is None or p99_ms < best):
            best = p99_ms
        if best is not None and not BOUNDS_MS[0] < best < HOPELESS_MS:
            break
    return Rung(rate, best)


def _lost(rungs: Sequence[Rung]) -> bool:
    """Far beyond the last bound, or twice beyond it: more load only makes a longer queue."""
    ms = [HOPELESS_MS if rung.p99_ms is None else rung.p99_ms for rung in rungs[-2:]]
    return ms[-1] >= HOPELESS_MS or (len(ms) > 1 and min(ms) > BOUNDS_MS[-1])


def _midpoints(rungs: Sequence[Rung]) -> list[float]:
    """Between the best rate within each bound and the next one that was measured."""
    found = set()
    for bound in BOUNDS_MS:
        kept = [i for i, r in enumerate(rungs) if r.p99_ms is not None and r.p99_ms <= bound]
        best = max(kept, default=-1)
        if best + 1 < len(rungs):
            below = rungs[best].rate if best >= 0 else 0.0
            found.add((below + rungs[best + 1].rate) / 2)
    return sorted(found)
