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
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Any

from bench.children import ChildFailed
from bench.cpu import interpreter_ms, machine_busy_s
from bench.grid import number
from bench.readme import write_readme
from bench.run import Results, Run
from bench.sizes import lines_by_room, litellm_mb, locked_count, locked_mb, portkey_mb
from bench.table import (
    ladders_table,
    memory_table,
    rows_table,
    slow_lines,
    tasks_lines,
    verdicts_table,
)
from bench.verdicts import Measured, judge

RESULTS = Path(__file__).parent / "results" / "latest.json"
BUSY_SHARE = 0.1


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--no-litellm", action="store_true", help="neither install nor run it")
    parser.add_argument("--no-portkey", action="store_true", help="neither install nor run it")
    parser.add_argument("--no-profiled", action="store_true", help="this Python only")
    parser.add_argument("--no-koi", action="store_true", help="the peers alone")
    parser.add_argument("--no-ladder", action="store_true", help="skip the rates in time")
    parser.add_argument("--no-slow", action="store_true", help="skip the crowds of slow ones")
    parser.add_argument("--crowds", action="store_true", help="also 5,000 slow ones, 5,000 tasks")
    parser.add_argument("--crowds-only", action="store_true", help="these and nothing else")
    parser.add_argument("--readme", action="store_true", help="write table and plot into README")
    return parser.parse_args()


def report(results: Results) -> dict[str, Any]:
    """Print everything; returns it for the file."""
    rows = {row.target.name: row for row in results.rows}
    boots = {name: median(times) for name, times in results.boots.items()}
    sizes = {"Koi": locked_mb(), "LiteLLM": litellm_mb(), "Portkey": portkey_mb()}
    measured = Measured(
        rows,
        tuple(results.boots.get("Koi", ())),
        results.memory.get("Koi"),
        locked_mb(),
        locked_count(),
        results.crowd(),
        results.tasks,
    )
    verdicts = judge(measured)
    if results.rows:
        print("\nthe gateway and its store on one core, medians of all rounds\n")
        print(rows_table(results.rows), *results.skipped, sep="\n  ")
        print("\n" + ladders_table(results.ladders))
        print("\n" + memory_table(results.memory))
        print("\nstart to ready: " + _listed(boots, 2, "s"))
    for run in results.slow:
        print("\n" + slow_lines(run))
    if results.tasks:
        print("\n" + tasks_lines(results.tasks))
    print("\ninstalled: " + _listed(sizes, 0, "MB"))
    lines = lines_by_room()
    print("lines of code: " + ", ".join(f"{room} {count}" for room, count in lines.items()))
    print("\n" + verdicts_table(verdicts))
    return {
        "rows": {name: [asdict(sample) for sample in row.samples] for name, row in rows.items()},
        "ladders": [asdict(ladder) for ladder in results.ladders],
        "memory": {name: asdict(memory) for name, memory in results.memory.items()},
        "slow": [asdict(run) for run in results.slow],
        "tasks": asdict(results.tasks) if results.tasks else None,
        "boots_s": results.boots,
        "versions": results.versions,
        "sizes": sizes,
        "lines": lines,
        "skipped": results.skipped,
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
        try:
            results = Run(asked, Path(folder)).measure()
        except ChildFailed as failure:
            print(failure, file=sys.stderr)
            return 1
    lasted_s = time.perf_counter() - began
    busy_s = machine_busy_s() - busy_before
    machine["others_share"] = _others_share(busy_s, lasted_s, os.cpu_count() or 1)
    told = {"machine": machine, "lasted_s": lasted_s} | report(results)
    if machine["others_share"] > BUSY_SHARE:
        print(f"\nOther programs used {machine['others_share']:.0%} of this machine meanwhile: ")
        print("read the ratios, not the absolute numbers, and run again when it is quiet.")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(told, indent=2) + "\n")
    print(f"\n{lasted_s:.0f} s; details in bench/results/{RESULTS.name}")
    if asked.readme:
        write_readme(results, machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
