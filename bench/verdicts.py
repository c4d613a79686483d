"""The goals of the project, compared with what was measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.rounds import Row, ratio
from bench.slow import SlowRun

GENERATION, HIT, LITELLM = "Koi, generation", "Koi, cache hit", "LiteLLM proxy"


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that a goal may need; None where it was not measured."""

    rows: Mapping[str, Row]
    boots_s: tuple[float, ...]
    boot_s: float | None
    slow: SlowRun | None


@dataclass(frozen=True, slots=True)
class Verdict:
    target: str
    wanted: str
    measured: float | None
    unit: str
    met: bool | None
    """None: not measured in this run."""


@dataclass(frozen=True, slots=True)
class Goal:
    target: str
    sign: str
    bound: float
    unit: str
    of: Callable[[Measured], float | None]

    def judge(self, measured: Measured) -> Verdict:
        value = self.of(measured)
        met = None if value is None else self._holds(value)
        wanted = f"{self.sign} {self.bound:g} {self.unit}".strip()
        return Verdict(self.target, wanted, value, self.unit, met)

    def _holds(self, value: float) -> bool:
        if self.sign == "<":
            return value < self.bound
        return value <= self.bound if self.sign == "<=" else value >= self.bound


def _cpu_ms(measured: Measured) -> float | None:
    row = measured.rows.get(GENERATION)
    return row.middle("cpu_ms") if row else None


def _times(ours: str, theirs: str) -> Callable[[Measured], float | None]:
    def of(measured: Measured) -> float | None:
        rows = measured.rows
        if ours not in rows or theirs not in rows:
            return None
        return ratio(rows[ours], rows[theirs], "rps")

    return of


def _posts(measured: Measured) -> float | None:
    row = measured.rows.get(GENERATION)
    return row.total("posts") / max(row.total("requests"), 1) if row else None


def _slow(field: str) -> Callable[[Measured], float | None]:
    return lambda measured: getattr(measured.slow, field) if measured.slow else None


GOALS = (
    Goal("CPU per generation, gateway process", "<=", 0.8, "ms", _cpu_ms),
    Goal("requests per core beside LiteLLM", ">=", 12, "x", _times(GENERATION, LITELLM)),
    Goal("cache hits beside generations", ">=", 2, "x", _times(HIT, GENERATION)),
    Goal("provider calls per generation", "<=", 1, "", _posts),
    Goal("start to ready", "<", 1.5, "s", lambda measured: measured.boot_s),
    Goal("1,000 x 20 s in flight: added p99", "<", 250, "ms", _slow("added_p99_ms")),
    Goal("1,000 x 20 s in flight: gateway RSS", "<", 150, "MB", _slow("rss_mb")),
    Goal("1,000 x 20 s in flight: errors", "<=", 0, "", _slow("errors")),
)


def judge(measured: Measured) -> list[Verdict]:
    return [goal.judge(measured) for goal in GOALS]
