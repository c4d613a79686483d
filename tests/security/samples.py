"""Times of two kinds of call, told apart or not, on a machine that is busy with other things."""

import statistics
import time
from collections.abc import Callable, Sequence


def interleaved(calls: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Seconds that each call took, one after the other in turn, so that noise hits all alike."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
    return times


def gap(a: Sequence[float], b: Sequence[float]) -> float:
    """How far two medians lie apart, in units of the spread of both (half of all samples)."""
    low, _, high = statistics.quantiles([*a, *b], n=4)
    return abs(statistics.median(a) - statistics.median(b)) / max(high - low, 1e-6)


def welch_t(a: Sequence[float], b: Sequence[float]) -> float:
    """Welch's t, without the slowest twentieth of each: those are the machine's own."""
    a, b = _trimmed(a), _trimmed(b)
    spread = statistics.variance(a) / len(a) + statistics.variance(b) / len(b)
    return (statistics.fmean(a) - statistics.fmean(b)) / spread**0.5


def _trimmed(times: Sequence[float]) -> list[float]:
    return sorted(times)[: len(times) * 19 // 20]
