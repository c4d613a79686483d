"""What retention takes out of the store: records of jobs that ended long ago, and closed months."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import islice
from pathlib import Path
from statistics import mean

import redis

from app.adapters.journal.file import FileJournal
from app.adapters.redis import keyspace
from app.adapters.redis.job_tidier import JobTidier
from app.settings import load_settings
from app.wiring.closed_months import MonthMover, MonthTerms
from app.wiring.operator import OperatorContext, open_operator_context

SAMPLE = 500
KEPT = timedelta(days=30)
MONTHS = 2


async def measure_retention(data: Path) -> None:
    """Of the store of a running gateway. It does the same by itself, a quarter of an hour after its
    start."""
    settings = load_settings(data_dir=data, upstream_api_key="sk-bench")
    async with open_operator_context(settings) as context:
        with redis.Redis(unix_socket_path=str(data / "store" / "store.sock")) as client:
            _row("a job that ended", f"{_job_bytes(client):8.0f} B")
            tidier = JobTidier(context.scripts, KEPT)
            _row("tidying", await _run(lambda: tidier.step(timedelta(0))))
            _row("a tidied job", f"{_job_bytes(client):8.0f} B")
            before = _stream_bytes(client)
            _row(f"months moved, {MONTHS} stay", await _move(context, data))
            _row(
                "entries in memory",
                f"{before / 1e6:8.1f} MB before {_stream_bytes(client) / 1e6:.1f}",
            )


async def _move(context: OperatorContext, data: Path) -> str:
    journal = FileJournal(data / "journal")
    try:
        mover = MonthMover(context.scripts, journal, MonthTerms(MONTHS, KEPT, own_store=True))
        return await _run(mover.step)
    finally:
        journal.close()


async def _run(step: Callable[[], Awaitable[bool]]) -> str:
    began, longest = time.monotonic(), 0.0
    while True:
        before = time.monotonic()
        if not await step():
            return f"{time.monotonic() - began:8.2f} s wall, longest step {longest * 1000:.0f} ms"
        longest = max(longest, time.monotonic() - before)


def _job_bytes(client: redis.Redis) -> float:
    keys = client.scan_iter(keyspace.key("job") + "*", count=1000)
    return mean(client.memory_usage(key, samples=0) for key in islice(keys, SAMPLE))


def _stream_bytes(client: redis.Redis) -> int:
    return int(client.memory_usage(keyspace.key("stream"), samples=0) or 0)


def _row(name: str, found: str) -> None:
    print(f"  {name:28} {found}", flush=True)
