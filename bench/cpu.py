"""CPU seconds and memory of a tree of processes, read from /proc."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")
STORE_NAMES = ("valkey", "redis-server")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds since the start of the processes; memory in MiB, now and at its peak."""

    cpu_s: float = 0.0
    rss_mb: float = 0.0
    peak_mb: float = 0.0

    def plus(self, other: "Cost") -> "Cost":
        return Cost(
            self.cpu_s + other.cpu_s, self.rss_mb + other.rss_mb, self.peak_mb + other.peak_mb
        )


@dataclass(frozen=True, slots=True)
class TreeCost:
    """The cost of a gateway's processes and, separately, of the store that it started."""

    gateway: Cost
    store: Cost


def tree_cost(root: int) -> TreeCost:
    """The cost of `root` and all its living descendants."""
    gateway, store = Cost(), Cost()
    for pid in descendants(root):
        try:
            cost = process_cost(pid)
            name = (PROC / str(pid) / "comm").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if name.startswith(STORE_NAMES):
            store = store.plus(cost)
        else:
            gateway = gateway.plus(cost)
    return TreeCost(gateway, store)


def process_cost(pid: int) -> Cost:
    """One process with all its threads."""
    ticks = sum(map(int, _stat(pid)[11:13]))
    status = dict(
        line.split(":", 1) for line in (PROC / str(pid) / "status").read_text().splitlines()
    )
    rss, peak = (int(status.get(field, "0 kB").split()[0]) / 1024 for field in ("VmRSS", "VmHWM"))
    return Cost(ticks / TICKS_PER_S, rss, peak)


def descendants(root: int) -> Iterator[int]:
    """`root` first, then all its descendants."""
    below: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                below.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting += below.get(pid, [])


@dataclass(frozen=True, slots=True)
class CpuSplit:
    """CPU seconds of a gateway: its main threads, its other threads, its store."""

    main_s: float = 0.0
    threads_s: float = 0.0
    store_s: float = 0.0

    @property
    def gateway_s(self) -> float:
        return self.main_s + self.threads_s

    def since(self, before: "CpuSplit") -> "CpuSplit":
        return CpuSplit(
            self.main_s - before.main_s,
            self.threads_s - before.threads_s,
            self.store_s - before.store_s,
        )


def cpu_split(root: int) -> CpuSplit:
    """Of `root` and its living descendants, to the nanosecond, without threads that ended."""
    main_s = threads_s = store_s = 0.0
    for pid in descendants(root):
        try:
            is_store = (PROC / str(pid) / "comm").read_text().startswith(STORE_NAMES)
            main, others = _thread_seconds(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        if is_store:
            store_s += main + others
        else:
            main_s, threads_s = main_s + main, threads_s + others
    return CpuSplit(main_s, threads_s, store_s)


def _thread_seconds(pid: int) -> tuple[float, float]:
    """CPU seconds of the main thread and of all others."""
    main = others = 0.0
    for task in (PROC / str(pid) / "task").iterdir():
        try:
            seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):
            continue
        if task.name == str(pid):
            main = seconds
        else:
            others += seconds
    return main, others


def machine_busy_s() -> float:
    """CPU seconds of all cores together since boot, except idle ones."""
    fields = list(map(int, (PROC / "stat").read_text().split("\n", 1)[0].split()[1:9]))
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / TICKS_PER_S


def interpreter_ms() -> float:
    """CPU milliseconds of a fixed loop, the best of five. It shows how Python was built: without
    profile-guided optimisation it takes half as long again."""
    best_s = float("inf")
    for _ in range(5):
        began_s = time.process_time()
        names: dict[int, str] = {}
        for number in range(100_000):
            names[number & 255] = str(number)
            [number, len(names)].append(number)
        best_s = min(best_s, time.process_time() - began_s)
    return best_s * 1000


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on (the name before them may hold anything)."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
