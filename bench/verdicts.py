"""The goals of the project, compared with what was measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from bench.gateways import GENERATION, HIT, POLL, REFUSALS, TASK
from bench.litellm import LITELLM
from bench.memory import Memory
from bench.open_tasks import OpenTasks
from bench.portkey import PORTKEY
from bench.rounds import Row, ratio
from bench.slow import SlowRun


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that a goal may need; None or nothing where it was not measured."""

    rows: Mapping[str, Row]
    boots_s: tuple[float, ...]
    memory: Memory | None
    installed_mb: float
    distributions: int
    crowd: SlowRun | None
    tasks: OpenTasks | None


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


def _cpu(*names: str) -> Callable[[Measured], float | None]:
    """CPU of a request, store included; of several rows the most expensive."""

    def of(measured: Measured) -> float | None:
        found = [measured.rows[name].middle("cpu_ms") for name in names if name in measured.rows]
        return max((value for value in found if value is not None), default=None)

    return of


def _times(ours: str, theirs: str) -> Callable[[Measured], float | None]:
    """How many times our CPU a request of theirs takes."""

    def of(measured: Measured) -> float | None:
        rows = measured.rows
        if ours not in rows or theirs not in rows:
            return None
        return ratio(rows[theirs], rows[ours], "cpu_ms")

    return of


def _posts(name: str) -> Callable[[Measured], float | None]:
    return lambda measured: measured.rows[name].posts_each if name in measured.rows else None


def _crowd(field: str) -> Callable[[Measured], float | None]:
    return lambda measured: getattr(measured.crowd, field) if measured.crowd else None


def _tasks(field: str) -> Callable[[Measured], float | None]:
    return lambda measured: getattr(measured.tasks, field) if measured.tasks else None


def _cores(measured: Measured) -> float | None:
    tasks = measured.tasks
    return tasks.gateway_cores + tasks.store_cores if tasks else None


CROWD = "5,000 x 20-100 s in flight"
TASKS = "5,000 open tasks"
GOALS = (
    Goal("generation, 60 KB kept, with store", "<=", 0.8, "ms", _cpu(GENERATION)),
    Goal("generation: LiteLLM's CPU", ">=", 11, "x", _times(GENERATION, LITELLM)),
    Goal("generation: Portkey's CPU", ">=", 3, "x", _times(GENERATION, PORTKEY)),
    Goal("generation: provider calls", "<=", 1, "", _posts(GENERATION)),
    Goal("cache hit, with store", "<=", 0.3, "ms", _cpu(HIT)),
    Goal("cache hit: LiteLLM's CPU", ">=", 25, "x", _times(HIT, LITELLM)),
    Goal("provider's task, 3 polls, 60 KB", "<=", 2.2, "ms", _cpu(TASK)),
    Goal("the dearest refusal", "<=", 0.15, "ms", _cpu(*REFUSALS.values())),
    Goal("client's poll", "<=", 0.25, "ms", _cpu(POLL)),
    Goal("client's poll: provider calls", "<=", 0, "", _posts(POLL)),
    Goal(
        "start to ready",
        "<",
        0.8,
        "s",
        lambda measured: median(measured.boots_s) if measured.boots_s else None,
    ),
    Goal(
        "idle, without store",
        "<",
        75,
        "MB",
        lambda measured: measured.memory.idle_mb if measured.memory else None,
    ),
    Goal("production install", "<", 90, "MB", lambda measured: measured.installed_mb),
    Goal("distributions", "<=", 40, "", lambda measured: float(measured.distributions)),
    Goal(f"{CROWD}: errors", "<=", 0, "", _crowd("errors")),
    Goal(f"{CROWD}: added p99", "<", 150, "ms", _crowd("added_p99_ms")),
    Goal(f"{CROWD}: each", "<=", 35, "KB", _crowd("kb_each")),
    Goal(f"{CROWD}: /livez p99", "<", 50, "ms", _crowd("livez_p99_ms")),
    Goal(f"{TASKS}: lag of polls", "<", 0.1, "", _tasks("lag")),
    Goal(f"{TASKS}: CPU", "<", 0.5, "cores", _cores),
)


def judge(measured: Measured) -> list[Verdict]:
    return [goal.judge(measured) for goal in GOALS]
