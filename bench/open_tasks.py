"""Thousands of open tasks at the provider: are they polled on time, and at what cost?"""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from bench.children import get_json, origin
from bench.cpu import cpu_split
from bench.generator import LoadGenerator
from bench.koi import Koi, Upstream
from bench.peers import start_stub
from bench.work import Caller

POLL_INTERVAL_S = 3.0
WANTED_GAP_S = POLL_INTERVAL_S * 4 / 3 * 0.9
"""The mean for tasks older than half a minute, which are the ones counted: the interval grows by a
third, and each gap is up to a fifth shorter at random."""

LONG_S = (600.0, 600.0)
SETTLING_S = 35.0


@dataclass(frozen=True, slots=True)
class OpenTasks:
    """`lag` is by how much the mean gap between polls exceeds the wanted one; CPU in cores."""

    tasks: int
    polls_per_s: float
    gap_mean_s: float | None
    gap_p99_s: float | None
    lag: float | None
    gateway_cores: float
    store_cores: float
    errors: int


def run_open_tasks(folder: Path, tasks: int, rate: float, window_s: float) -> OpenTasks:
    """Submit them at `rate` a second, wait until they are old, and watch for `window_s`."""
    with ExitStack() as stack:
        stub = start_stub(stack, folder)
        upstream = Upstream(urlsplit(stub.request.url).port or 0, "auto", POLL_INTERVAL_S)
        koi = Koi(stack, folder / "open-tasks", upstream)
        request = Caller(koi).generate("task-60kb", **{"async": True})
        generator = stack.enter_context(LoadGenerator())
        submitted = replace(request, waits=LONG_S, expected='"id"')
        seen = generator.do(submitted, duration_s=tasks / rate, rate=rate)
        time.sleep(SETTLING_S)
        get_json(f"{origin(stub.request.url)}/gaps")
        before, began = cpu_split(koi.pid), time.perf_counter()
        time.sleep(window_s)
        lasted_s = time.perf_counter() - began
        gaps = get_json(f"{origin(stub.request.url)}/gaps")
        spent = cpu_split(koi.pid).since(before)
        mean_s = gaps["mean_s"]
        return OpenTasks(
            seen["requests"],
            gaps["polls"] / lasted_s,
            mean_s,
            gaps["p99_s"],
            None if mean_s is None else mean_s / WANTED_GAP_S - 1,
            spent.gateway_s / lasted_s,
            spent.store_s / lasted_s,
            seen["errors"],
        )
