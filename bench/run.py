"""One comparison from start to end."""

import argparse
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.gateways import GENERATION, HIT, PROFILED, START, Gateways
from bench.generator import LoadGenerator
from bench.koi import Koi, Upstream
from bench.ladder import Ladder, climb
from bench.litellm import LITELLM
from bench.memory import Memory
from bench.open_tasks import OpenTasks, run_open_tasks
from bench.peers import start_stub
from bench.portkey import PORTKEY
from bench.rounds import Plan, Row, compare
from bench.slow import Crowd, SlowRun, run_slow

FULL = Plan(rounds=5, crowd_s=2.0, alone_s=0.8, warm_up_s=0.7)
QUICK = Plan(rounds=2, crowd_s=1.0, alone_s=0.4, warm_up_s=0.3)
RUNG_S = {FULL: 1.2, QUICK: 0.6}
RECOVERY_S = 5.0
CLIMBING = (
    "nginx, forwarding",
    LITELLM,
    PORTKEY,
    GENERATION,
    HIT,
    GENERATION + PROFILED,
)
THOUSAND = Crowd("1,000 generations of 20 s", 50, 40, (20, 20))
THOUSAND_QUICK = Crowd("1,000 generations of 20 s", 100, 10, (20, 20))
FIVE_THOUSAND = Crowd("5,000 generations of 20-100 s", 80, 110, (20, 100))
OPEN_TASKS = (5_000, 100.0, 25.0)


@dataclass(slots=True)
class Results:
    rows: list[Row] = field(default_factory=list)
    ladders: list[Ladder] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)
    boots: dict[str, list[float]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    slow: list[SlowRun] = field(default_factory=list)
    tasks: OpenTasks | None = None

    def crowd(self) -> SlowRun | None:
        return next((run for run in self.slow if run.name == FIVE_THOUSAND.name), None)


class Run:
    """Measures what was asked for."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self._asked = asked
        self._folder = folder
        self._plan = QUICK if asked.quick else FULL
        self.results = Results()

    def measure(self) -> Results:
        if not self._asked.crowds_only:
            self._compare()
        if not self._asked.no_koi and not self._asked.no_slow:
            self._crowds()
        return self.results

    def _compare(self) -> None:
        results, asked = self.results, self._asked
        if not asked.no_koi:
            results.boots["Koi"] = [self._boot(i) for i in range(1 if asked.quick else 2)]
        with ExitStack() as stack:
            stub = start_stub(stack, self._folder, 0.0, "--polls", 3, "--image-kb", 5)
            gateways = Gateways(stack, self._folder, stub)
            self._start(gateways)
            generator = stack.enter_context(LoadGenerator())
            results.rows = compare(gateways.targets, stub, self._plan, generator)
            if not asked.no_ladder:
                results.ladders = self._climb(generator)
            time.sleep(RECOVERY_S)
            for memory in gateways.memory.values():
                memory.note_end()
            results.memory, results.versions = gateways.memory, gateways.versions
            results.skipped = gateways.skipped
            for name, boots in gateways.boots.items():
                results.boots.setdefault(name, []).extend(boots)

    def _boot(self, number: int) -> float:
        """Measure a start on a new directory, apart from the gateway under load."""
        with ExitStack() as stack:
            return Koi(stack, self._folder / f"boot-{number}", Upstream(1)).boot_s

    def _start(self, gateways: Gateways) -> None:
        unwanted = {"LiteLLM": self._asked.no_litellm, "Portkey": self._asked.no_portkey}
        gateways.add_peers([name for name in START if not unwanted.get(name)])
        gateways.skipped += [f"{name}: skipped as asked" for name, left in unwanted.items() if left]
        if not self._asked.no_koi:
            gateways.add_koi(profiled=not self._asked.no_profiled)

    def _climb(self, generator: LoadGenerator) -> list[Ladder]:
        ladders = []
        for row in self.results.rows:
            if row.target.name in CLIMBING:
                print(f"rates in time of {row.target.name} ...", flush=True)
                most, seconds = row.middle("rps") or 1.0, RUNG_S[self._plan]
                finer = self._plan == FULL
                ladders.append(climb(row.target, most, seconds, generator, finer=finer))
        return ladders

    def _crowds(self) -> None:
        asked, results = self._asked, self.results
        if not asked.crowds_only:
            print(f"{THOUSAND.name} in flight ...", flush=True)
            crowd = THOUSAND_QUICK if asked.quick else THOUSAND
            results.slow.append(run_slow(self._folder, crowd))
        if asked.crowds or asked.crowds_only:
            print(f"{FIVE_THOUSAND.name} in flight (4 minutes) ...", flush=True)
            results.slow.append(run_slow(self._folder, FIVE_THOUSAND))
            print("5,000 open tasks (2 minutes) ...", flush=True)
            results.tasks = run_open_tasks(self._folder, *OPEN_TASKS)
