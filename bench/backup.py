"""The drill of backup and restore: `python -m bench.backup 200000` fills a data directory with that
many settled jobs, backs it up while a gateway runs and spends, restores the file into the embedded
store and into a Redis server, and checks both.

Peak memory is of the command alone; the stores are processes of their own.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.sandbox.server import Sandbox
from app.settings import load_settings
from app.wiring.operator import open_operator_context
from bench.growth import gateway
from bench.growth_journal import record_template, write_journal

SPENDERS = 4
SETTLE_S = 2.0
DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
URL = "http://127.0.0.1:18977/v1/images/generations"


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds and the command's peak memory."""

    wall: float
    cpu: float
    peak_mb: float
    output: str

    def __str__(self) -> str:
        return f"{self.wall:8.1f} s wall  {self.cpu:8.1f} s CPU  {self.peak_mb:6.0f} MB at most"


def run(data: Path, *words: str, **settings: str) -> Cost:
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", *words],
        env={**os.environ, "KOI_DATA_DIR": str(data), "KOI_LOG_LEVEL": "error", **settings},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    output = process.stdout.read().decode()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"koi {' '.join(words)}: {output}")
    wall = time.monotonic() - began
    return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, output)


async def issue_key(data: Path) -> str:
    async with open_operator_context(load_settings(data_dir=data, upstream_api_key="sk")) as found:
        return (await found.keys.issue("drill")).secret


@contextmanager
def spending(key: str) -> Iterator[list[int]]:
    """Callers that generate, one picture after the other; the statuses they got."""
    stop, statuses = threading.Event(), list[int]()

    def spend(number: int) -> None:
        made = 0
        while not stop.is_set():
            made += 1
            body = json.dumps({"model": "grok-imagine", "prompt": f"koi {number}.{made}"}).encode()
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            asked = urllib.request.Request(URL, body, headers)
            try:
                with urllib.request.urlopen(asked, timeout=30) as answer:
                    statuses.append(answer.status)
            except urllib.error.HTTPError as refused:
                statuses.append(refused.code)
                time.sleep(0.1)

    threads = [threading.Thread(target=spend, args=[number]) for number in range(SPENDERS)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise SystemExit("no redis-server on this machine")
    directory.mkdir()
    socket = directory / "s"
    process = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", str(socket), "--dir", str(directory), *DURABLE],
        stdout=subprocess.DEVNULL,
    )
    try:
        while not socket.exists():
            time.sleep(0.05)
        yield f"unix://{socket}"
    finally:
        process.kill()
        process.wait()


def drill(jobs: int, days: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="koi-drill") as directory,
        Sandbox(time_scale=0.01) as sandbox,
    ):
        place = Path(directory)
        data, file = place / "data", place / "koi.gz"
        fill(data, place / "scratch", jobs, days)
        os.environ |= {
            "KOI_UPSTREAM_BASE_URL": sandbox.url,
            "KOI_UPSTREAM_API_KEY": "sk-sandbox",
            "KOI_UPSTREAM_RPM": "6000",
            "KOI_DEFAULT_REQUESTS_PER_MINUTE": "100000",
        }
        key = asyncio.run(issue_key(data))
        with gateway(data), spending(key) as statuses:
            time.sleep(SETTLE_S)
            made = run(data, "backup", str(file), "--json")
        row("backup", made)
        told = json.loads(made.output)
        row("its file", f"{told['bytes'] / 1e6:8.1f} MB for {told['entries']:,} entries")
        row("answers meanwhile", f"{len(statuses)}, all {set(statuses)}")
        row("check of the file", run(data, "backup", "--check", str(file), "--json"))
        restore(place / "embedded", file)
        with redis_server(place / "redis") as url:
            restore(place / "server", file, KOI_REDIS_URL=url)


def fill(data: Path, scratch: Path, jobs: int, days: int) -> None:
    template = asyncio.run(record_template(load_settings(data_dir=scratch, upstream_api_key="sk")))
    shutil.rmtree(scratch)
    write_journal(data / "journal", template, jobs, days)
    run(data, "ledger", "rebuild")
    print(f"\n{jobs:,} settled jobs in {days} days")


def restore(data: Path, file: Path, **settings: str) -> None:
    kind = "server" if settings else "embedded"
    done = run(data, "restore", str(file), "--json", **settings)
    row(f"restore ({kind})", done)
    checked = run(data, "ledger", "check", "--full", "--json", **settings)
    row("ledger check --full", checked)
    restored, audit = json.loads(done.output), json.loads(checked.output)
    row("difference", f"{restored['difference']} and {audit['difference']}")


def row(name: str, found: object) -> None:
    print(f"  {name:24} {found}", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("jobs", nargs="?", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=365)
    asked = parser.parse_args(words)
    drill(asked.jobs, asked.days)


if __name__ == "__main__":
    main()
