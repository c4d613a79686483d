"""`python -m bench`: measure, print, and write bench/results/latest.json."""

import argparse
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from bench.children import ChildFailed
from bench.cpu import interpreter_ms, machine_busy_s
from bench.koi import Koi, Upstream, hits_of
from bench.peers import start_litellm, start_nginx, start_stub
from bench.rounds import Plan, Row, compare
from bench.sizes import lines_by_room, litellm_mb, locked_mb
from bench.slow import Crowd, SlowRun, run_slow
from bench.table import number, rows_table, slow_lines, verdicts_table
from bench.target import Target
from bench.verdicts import Measured, judge

RESULTS = Path(__file__).parent / "results" / "latest.json"
FULL = Plan(rounds=5, crowd_s=3.0, alone_s=1.5, warm_up_s=1.5)
QUICK = Plan(rounds=2, crowd_s=1.8, alone_s=0.4, warm_up_s=0.7)
FULL_CROWD = Crowd(rate=50, seconds=40)
QUICK_CROWD = Crowd(rate=100, seconds=10)
BUSY_SHARE = 0.1


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, < 90 s")
    parser.add_argument("--no-litellm", action="store_true", help="neither install nor run it")
    parser.add_argument("--no-koi", action="store_true", help="the peers alone")
    parser.add_argument("--no-slow", action="store_true", help="skip 1,000 x 20 s in flight")
    parser.add_argument("--mode", choices=("sync", "async", "auto"), default="sync")
    return parser.parse_args()


class Run:
    """One benchmark from start to report."""

    def __init__(self, asked: argparse.Namespace, folder: Path) -> None:
        self._asked = asked
        self._folder = folder
        self._plan = QUICK if asked.quick else FULL
        self._boots: dict[str, list[float]] = {}
        self._skipped: list[str] = []

    def measure(self) -> tuple[list[Row], SlowRun | None]:
        if not self._asked.no_koi:
            self._boot_koi(times=1 if self._asked.quick else 2)
        with ExitStack() as stack:
            stub = start_stub(stack, self._folder)
            rows = compare(self._targets(stack, stub), stub, self._plan)
        if self._asked.no_koi or self._asked.no_slow:
            return rows, None
        crowd = QUICK_CROWD if self._asked.quick else FULL_CROWD
        print("1,000 generations of 20 s in flight ...", flush=True)
        return rows, run_slow(self._folder, crowd, self._asked.mode)

    def _boot_koi(self, times: int) -> None:
        """Measure starts, each on a new directory, apart from the gateway under load."""
        for number_ in range(times):
            with ExitStack() as stack:
                koi = Koi(stack, self._folder / f"boot-{number_}", Upstream(1))
                self._boots.setdefault("Koi", []).append(koi.boot_s)

    def _targets(self, stack: ExitStack, stub: Target) -> list[Target]:
        port = urlsplit(stub.url).port or 0
        targets = [stub]
        peers = {"nginx": start_nginx, "LiteLLM": start_litellm}
        if self._asked.no_litellm:
            del peers["LiteLLM"]
            self._skipped.append("LiteLLM: skipped as asked")
        for name, start in peers.items():
            try:
                target, boot_s = start(stack, self._folder, port)
            except ChildFailed as failure:
                self._skipped.append(f"{name}: {failure}")
                continue
            targets.append(target)
            self._boots[name] = [boot_s]
        return targets if self._asked.no_koi else targets + self._koi_targets(stack, port)

    def _koi_targets(self, stack: ExitStack, port: int) -> list[Target]:
        koi = Koi(stack, self._folder / "koi", Upstream(port, self._asked.mode))
        self._boots.setdefault("Koi", []).append(koi.boot_s)
        koi.team()
        plain, cached = koi.caller("generation", "off"), koi.caller("cache miss", "private")
        return [plain, hits_of(cached)] if self._asked.quick else [plain, cached, hits_of(cached)]

    def report(self, rows: list[Row], slow: SlowRun | None) -> dict[str, Any]:
        boots = {name: median(times) for name, times in self._boots.items()}
        by_name = {row.target.name: row for row in rows}
        measured = Measured(by_name, tuple(self._boots.get("Koi", ())), boots.get("Koi"), slow)
        verdicts = judge(measured)
        sizes = {"Koi": locked_mb(), "LiteLLM": litellm_mb()}
        lines = lines_by_room()
        print(f"\n64 clients, one core for the gateway, medians of {self._plan.rounds} rounds\n")
        print(rows_table(rows))
        for sentence in self._skipped:
            print(f"  {sentence}")
        if slow is not None:
            print(f"\n1,000 generations of 20 s in flight, one worker\n{slow_lines(slow)}")
        print("\nstart to ready: " + _listed(boots, 2, "s"))
        print("installed: " + _listed(sizes, 0, "MB"))
        print("lines of code: " + ", ".join(f"{room} {count}" for room, count in lines.items()))
        print("\n" + verdicts_table(verdicts))
        return {
            "mode": self._asked.mode,
            "plan": asdict(self._plan),
            "rows": {
                row.target.name: {"samples": [asdict(sample) for sample in row.samples]}
                for row in rows
            },
            "slow": asdict(slow) if slow else None,
            "boots_s": self._boots,
            "sizes": sizes,
            "lines": lines,
            "skipped": self._skipped,
            "verdicts": [asdict(verdict) for verdict in verdicts],
        }


def _listed(values: dict[str, float] | dict[str, float | None], digits: int, unit: str) -> str:
    return ", ".join(f"{name} {number(value, digits)} {unit}" for name, value in values.items())


def _machine() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0))
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "interpreter_ms": interpreter_ms(),
        "cores": cores,
        "load_average": os.getloadavg(),
        "koi": version("koi-gateway"),
    }


def _others_share(busy_s: float, lasted_s: float, cores: int) -> float:
    """The share of the machine that other processes used meanwhile."""
    ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    ours_s = sum(usage.ru_utime + usage.ru_stime for usage in ours)
    return max(busy_s - ours_s, 0.0) / (lasted_s * cores)


def _stop(number_: int, _: FrameType | None) -> None:
    sys.exit(128 + number_)


def main() -> int:
    if not sys.platform.startswith("linux"):
        print("The benchmark reads /proc and pins cores: it needs Linux.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _stop)
    asked = options()
    machine = _machine()
    if machine["cores"] < 2:
        print("Warning: one core for gateway, stub and load; only the ratios mean anything.")
    began, busy_before = time.perf_counter(), machine_busy_s()
    with tempfile.TemporaryDirectory(prefix="koi-bench-") as folder:
        run = Run(asked, Path(folder))
        try:
            rows, slow = run.measure()
        except ChildFailed as failure:
            print(failure, file=sys.stderr)
            return 1
    lasted_s = time.perf_counter() - began
    machine["others_share"] = _others_share(
        machine_busy_s() - busy_before, lasted_s, os.cpu_count() or 1
    )
    report = {"machine": machine, "lasted_s": lasted_s} | run.report(rows, slow)
    if machine["others_share"] > BUSY_SHARE:
        print(f"\nOther programs used {machine['others_share']:.0%} of this machine meanwhile: ")
        print("read the ratios, not the absolute numbers, and run again when it is quiet.")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{lasted_s:.0f} s; details in bench/results/{RESULTS.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
