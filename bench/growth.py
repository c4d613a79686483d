"""What time costs: `python -m bench.growth 10000 100000` fills a data directory with that many
settled jobs, spread over `--days`, and measures the commands and sizes that grow with them.

The store is filled by `koi ledger rebuild` from a journal of copies of one real job. Times are CPU
seconds (user and system) of the command and the embedded store together, and wall seconds.
"""

import argparse
import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.domain.queries import UsageQuery
from app.settings import load_settings
from app.wiring.operator import open_operator_context
from bench.growth_journal import record_template, write_journal
from bench.growth_retention import measure_retention

READY_TIMEOUT_S = 300.0
GROUPINGS = ("user", "key", "team,model", "model,size", "day")


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds; `cpu` of the process and of the store that it started."""

    wall: float
    cpu: float
    output: str = ""

    def __str__(self) -> str:
        return f"{self.wall:8.2f} s wall  {self.cpu:8.2f} s CPU"


def run(data: Path, *words: str) -> Cost:
    """One command of the operator's on the data directory."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *words], env=_environment(data), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    wall = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"koi {' '.join(words)}: {done.stdout}{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, done.stdout)


def _environment(data: Path) -> dict[str, str]:
    return {
        **os.environ,
        "KOI_DATA_DIR": str(data),
        "KOI_UPSTREAM_API_KEY": os.environ.get("KOI_UPSTREAM_API_KEY", "sk-bench"),
        "KOI_PORT": "18977",
        "KOI_LOG_LEVEL": "error",
    }


@contextmanager
def gateway(data: Path) -> Iterator[float]:
    """A running gateway; gives the seconds it took until it was ready."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "serve"], env=_environment(data),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not _is_ready():
            if process.poll() is not None or time.monotonic() - began > READY_TIMEOUT_S:
                raise SystemExit("the gateway did not start")
            time.sleep(0.02)
        yield time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _is_ready() -> bool:
    try:
        with urllib.request.urlopen("http://127.0.0.1:18977/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def measure(jobs: int, days: int, rest_s: float) -> None:
    with tempfile.TemporaryDirectory(prefix="koi-growth") as directory:
        data, scratch = Path(directory) / "data", Path(directory) / "scratch"
        settings = load_settings(data_dir=scratch, upstream_api_key="sk-bench")
        template = asyncio.run(record_template(settings))
        shutil.rmtree(scratch)
        write_journal(data / "journal", template, jobs, days)
        print(f"\n{jobs:,} settled jobs in {days} days")
        _row("journal as written", _size(data / "journal", jobs))
        _row("rebuild", run(data, "ledger", "rebuild"))
        _row("store on disk", _size(data / "store", jobs))
        with gateway(data) as ready_s:
            _row("start, first time", f"{ready_s:8.2f} s wall")
            time.sleep(rest_s)
        with gateway(data) as ready_s:
            _row("start", f"{ready_s:8.2f} s wall")
            asyncio.run(_measure_reports(data))
            _measure_commands(data)
            asyncio.run(measure_retention(data))
        _row("journal", _size(data / "journal", jobs))
        _row("store on disk", _size(data / "store", jobs))


async def _measure_reports(data: Path) -> None:
    """What a gateway's reports take, without starting a command: the best of three."""
    async with open_operator_context(
        load_settings(data_dir=data, upstream_api_key="sk-bench")
    ) as context:
        now_ms = int(time.time() * 1000)
        for by in GROUPINGS:
            query = UsageQuery(0, now_ms, tuple(by.split(",")))
            costs = []
            for _ in range(3):
                before, began = time.process_time(), time.monotonic()
                await context.usage.report(query)
                costs.append((time.monotonic() - began, time.process_time() - before))
            wall, cpu = min(costs)
            _row(f"report by {by}", f"{wall * 1000:8.0f} ms wall {cpu * 1000:8.0f} ms CPU")


def _measure_commands(data: Path) -> None:
    _row(
        "koi usage of no time", run(data, "usage", "--since", "2000-01-01", "--until", "2000-01-02")
    )
    _row("koi usage of all time", run(data, "usage", "--since", "2000-01-01"))
    checked = run(data, "ledger", "check", "--json")
    _row("koi ledger check", checked)
    told = json.loads(checked.output)
    print(f"  {'':28} difference {told['difference']}, {told['entries']:,} entries")
    _row("koi ledger check --full", run(data, "ledger", "check", "--full"))


def _size(directory: Path, jobs: int) -> str:
    size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
    return f"{size / 1e6:8.1f} MB       {size / jobs:8.0f} B a job"


def _row(name: str, found: object) -> None:
    print(f"  {name:28} {found}", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("jobs", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--rest", type=float, default=20, help="Seconds for background work.")
    asked = parser.parse_args(words)
    for jobs in asked.jobs:
        measure(jobs, asked.days, asked.rest)


if __name__ == "__main__":
    main()
