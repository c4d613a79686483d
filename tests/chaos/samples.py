"""What grows: processes, store and data directory, looked at again and again (Linux)."""

import csv
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from statistics import median

import redis

from app.adapters.files import TEMPORARY_PREFIX
from app.domain.job import JobState
from app.domain.ledger import OpenJobStats
from tests.chaos.gateways import Deployment, children_of

LIVED_S = 300.0
"""A younger process cannot be called flat or not."""


LEAKS = (("rss_mb", 1.1, 6), ("fds", 1, 8), ("threads", 1, 4))
"""What a process must not gain: factor, and so much more."""
KEEPERS = ("store", "harness")
"""They keep what they are told for as long as a run lasts: the ledger, the provider's bill. Their
memory is not judged; the store's is reported for each entry of the ledger."""
LOADS = ("reserved", "dispatched", "unknown", "held_images", "files_in_flight", "outbox")
"""What comes and goes with the load."""


@dataclass(frozen=True)
class Seen:
    """One process at one moment."""

    at_s: float
    name: str
    pid: int
    rss_mb: float
    fds: int
    threads: int


@dataclass(frozen=True)
class Sample:
    """Everything else at that moment. `files_in_flight` are half written, `outbox` counts
    settlements on disk that the store has not taken yet."""

    at_s: float
    store_mb: float
    reserved: int
    dispatched: int
    unknown: int
    held_images: int
    files_in_flight: int
    outbox: int
    journal_mb: float


@dataclass
class Samples:
    path: Path
    began: float = field(default_factory=time.monotonic)
    processes: list[Seen] = field(default_factory=list)
    load: list[Sample] = field(default_factory=list)

    def take(self, deployment: Deployment, server: redis.Redis, stats: OpenJobStats) -> None:
        """Look once and append it to the CSV file: one line for each process."""
        at_s = round(time.monotonic() - self.began, 1)
        seen = [one for name, pid in _living(deployment) if (one := _look(at_s, name, pid))]
        sample = Sample(
            at_s,
            round(server.info("memory")["used_memory"] / 2**20, 2),
            *(stats.jobs[s] for s in (JobState.RESERVED, JobState.DISPATCHED, JobState.UNKNOWN)),
            stats.held_images,
            *_on_disk(deployment.koi.settings.data_dir),
        )
        self.processes += seen
        self.load.append(sample)
        self._append(seen, sample)

    def _append(self, seen: Sequence[Seen], sample: Sample) -> None:
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow([f.name for f in (*fields(Seen), *fields(Sample)[1:])])
            writer.writerows([*astuple(one), *astuple(sample)[1:]] for one in seen)

    def grown(self) -> list[str]:
        """What is not flat: the last quarter of a process's life against its second, by medians.

        The first quarter is warming up. A process may gain a tenth and 6 MB, 8 descriptors and 4
        threads; open jobs and held images, which come and go with the load, may double and 10.
        """
        found = []
        for (name, pid), life in self.lives().items():
            for what, times, plus in LEAKS[1:] if name in KEEPERS else LEAKS:
                early, late = quarters([getattr(one, what) for one in life])
                if late > early * times + plus:
                    found.append(f"{name} ({pid}): {what} grew from {early} to {late}")
        for what in LOADS:
            early, late = quarters([getattr(one, what) for one in self.load])
            if late > early * 2 + 10:
                found.append(f"{what} grew from {early} to {late}")
        return found

    def lives(self) -> dict[tuple[str, int], list[Seen]]:
        """The samples of each process that lived long enough to be judged."""
        lives: dict[tuple[str, int], list[Seen]] = defaultdict(list)
        for one in self.processes:
            lives[one.name, one.pid].append(one)
        return {who: life for who, life in lives.items() if life[-1].at_s - life[0].at_s >= LIVED_S}

    def report(self) -> Iterator[str]:
        """One line for each process that was judged, one for the store."""
        for (name, pid), life in self.lives().items():
            lived_s = life[-1].at_s - life[0].at_s
            told = _told(life, "rss_mb", "fds", "threads")
            yield f"  {name} pid={pid} lived={lived_s:.0f}s {told}"
        told = _told(self.load, *LOADS, "store_mb", "journal_mb")
        yield f"  load {told}"

    def store_kb(self) -> float:
        """What the store gained."""
        return 1024 * (self.load[-1].store_mb - self.load[0].store_mb)

    def now(self) -> str:
        """The last look in short."""
        if not self.load:
            return "no sample yet"
        last = self.load[-1]
        seen = [one for one in self.processes if one.at_s == last.at_s]
        told = [f"{one.name}={one.rss_mb:.0f}MB/{one.fds}fd/{one.threads}t" for one in seen]
        return (
            f"R={last.reserved} D={last.dispatched} U={last.unknown} held={last.held_images} "
            f"store={last.store_mb}MB journal={last.journal_mb}MB files={last.files_in_flight} "
            f"outbox={last.outbox} {' '.join(told)}"
        )


def _told(looks: Sequence[Seen] | Sequence[Sample], *names: str) -> str:
    """Each number's medians: second quarter -> last quarter."""
    medians = {name: quarters([getattr(one, name) for one in looks]) for name in names}
    return " ".join(f"{name} {early}->{late}" for name, (early, late) in medians.items())


def quarters(numbers: Sequence[float]) -> tuple[float, float]:
    """The medians of the second and the last quarter."""
    size = max(len(numbers) // 4, 1)
    return median(numbers[size : 2 * size] or numbers), median(numbers[-size:])


def outbox_size(data_dir: Path) -> int:
    return sum(1 for _ in (data_dir / "journal" / "owed").glob("*.json"))


def _on_disk(data_dir: Path) -> tuple[int, int, float]:
    half = sum(1 for _ in (data_dir / "images").glob(f"*/{TEMPORARY_PREFIX}*"))
    pages = sum(page.stat().st_size for page in (data_dir / "journal").glob("*.jsonl"))
    return half, outbox_size(data_dir), round(pages / 2**20, 2)


def _living(deployment: Deployment) -> Iterator[tuple[str, int]]:
    for gateway in deployment.gateways:
        if gateway.alive:
            yield gateway.log.stem, gateway.pid
            yield from ((f"{gateway.log.stem}-worker", pid) for pid in children_of(gateway.pid))
    with suppress(ValueError):  # it is just being restarted
        yield "store", deployment.the_store()
    yield "harness", os.getpid()


def _look(at_s: float, name: str, pid: int) -> Seen | None:
    """None when it died meanwhile."""
    with suppress(OSError, KeyError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        fds = len(os.listdir(f"/proc/{pid}/fd"))
        rss_mb = round(int(status["VmRSS"].split()[0]) / 1024, 1)
        return Seen(at_s, name, pid, rss_mb, fds, int(status["Threads"]))
    return None
