"""`python -m bench.paired BASE NEW`: two checkouts of Koi side by side, row by row, in CPU time.

Both are loaded at the same moment, on the same core, before one stub: whatever else the machine
does slows both alike. Each needs a .venv of its own with Koi installed."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

from bench.children import ChildFailed
from bench.cpu import CpuSplit, cpu_split
from bench.generator import LoadGenerator, Request
from bench.grid import grid, number
from bench.koi import Koi, Serve, Upstream
from bench.peers import start_stub
from bench.store_counters import StoreCounts, store_counts
from bench.work import ROWS, Caller, Work, prepared

POLLS = 3
POLL_INTERVAL_S = 0.2
WARM_UP_S = 0.6
FEW_ROWS = 4
HEADINGS = (
    "row",
    "base ms",
    "main+thr+store",
    "new ms",
    "main+thr+store",
    "new/base",
    "quartiles",
    "scripts",
    "commands",
    "KB in",
    "KB out",
    "log KB",
    "errors",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One checkout in one round of one row. CPU in milliseconds per good answer."""

    main_ms: float
    threads_ms: float
    store_ms: float
    counts: StoreCounts
    errors: int

    @property
    def whole_ms(self) -> float:
        return self.main_ms + self.threads_ms + self.store_ms


class Side:
    """One checkout that serves."""

    def __init__(self, stack: ExitStack, checkout: Path, folder: Path, port: int) -> None:
        python = checkout.resolve() / ".venv" / "bin" / "python"
        if not python.exists():
            raise ChildFailed(f"{checkout} has no .venv")
        upstream = Upstream(port, "auto", POLL_INTERVAL_S)
        self._koi = Koi(stack, folder, upstream, Serve(str(python)))
        self._generator = stack.enter_context(LoadGenerator())
        self._before = (StoreCounts(), CpuSplit())
        self._requests: dict[str, Request] = {}

    def prepare(self, works: Sequence[Work]) -> None:
        """Make users, keys and pictures, and see every kind of answer once."""
        caller = Caller(self._koi)
        for work in works:
            self._requests[work.name] = prepared(work, caller, self._generator, WARM_UP_S)

    def begin(self, work: Work, seconds: float) -> None:
        self._before = (store_counts(self._koi.socket), cpu_split(self._koi.pid))
        request = self._requests[work.name]
        self._generator.begin(request, connections=work.connections, duration_s=seconds)

    def end(self, work: Work) -> Sample:
        seen = self._generator.report()
        counts, cpu = self._before
        spent = cpu_split(self._koi.pid).since(cpu)
        answers = seen["requests"]
        each = store_counts(self._koi.socket).each(counts, answers)
        if not answers:
            raise ChildFailed(f"{work.name}: no right answer, {seen['error_kinds']}")
        times = (spent.main_s, spent.threads_s, spent.store_s)
        return Sample(*(seconds / answers * 1000 for seconds in times), each, seen["errors"])


def measure(
    sides: Sequence[Side], works: Sequence[Work], rounds: int, seconds: float
) -> dict[str, list[list[Sample]]]:
    """Samples by row, then by side."""
    samples: dict[str, list[list[Sample]]] = {work.name: [[] for _ in sides] for work in works}
    for number_ in range(rounds):
        for work in works:
            for side in sides:
                side.begin(work, seconds)
            for side, kept in zip(sides, samples[work.name], strict=True):
                kept.append(side.end(work))
        print(f"round {number_ + 1} of {rounds}", file=sys.stderr, flush=True)
    return samples


def line(name: str, base: Sequence[Sample], new: Sequence[Sample]) -> tuple[str, ...]:
    ratios = [ours.whole_ms / theirs.whole_ms for ours, theirs in zip(new, base, strict=True)]
    low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return (
        name,
        *_times(base),
        *_times(new),
        number(median(ratios), 3),
        f"{low:.3f}-{high:.3f}",
        *(
            _both(base, new, field)
            for field in (
                lambda sample: sample.counts.scripts,
                lambda sample: sample.counts.commands,
                lambda sample: sample.counts.bytes_in / 1024,
                lambda sample: sample.counts.bytes_out / 1024,
                lambda sample: sample.counts.log_bytes / 1024,
            )
        ),
        f"{sum(t.errors for t in base)}>{sum(t.errors for t in new)}",
    )


def _times(samples: Sequence[Sample]) -> tuple[str, str]:
    parts = [
        median(parts)
        for parts in zip(*((t.main_ms, t.threads_ms, t.store_ms) for t in samples), strict=True)
    ]
    whole = median(sample.whole_ms for sample in samples)
    return number(whole, 3), "+".join(f"{part:.2f}" for part in parts)


def _both(base: Sequence[Sample], new: Sequence[Sample], field: Callable[[Sample], float]) -> str:
    return f"{median(map(field, base)):.1f}>{median(map(field, new)):.1f}"


def options() -> argparse.Namespace:
    names = ", ".join(work.name for work in ROWS)
    parser = argparse.ArgumentParser(prog="python -m bench.paired", description=__doc__)
    parser.add_argument("base", type=Path, help="checkout to compare with")
    parser.add_argument("new", type=Path, help="checkout that changed")
    parser.add_argument("--rows", help=f"comma separated, or all of: {names}")
    parser.add_argument("--rounds", type=int, help="default: 20 for up to four rows, else 8")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    asked = parser.parse_args()
    wanted = asked.rows.split(",") if asked.rows else [work.name for work in ROWS]
    if unknown := set(wanted) - {work.name for work in ROWS}:
        parser.error(f"unknown rows {', '.join(sorted(unknown))}; there are: {names}")
    asked.works = [work for work in ROWS if work.name in wanted]
    if asked.rounds is None:
        asked.rounds = 20 if len(asked.works) <= FEW_ROWS else 8
    return asked


def run(asked: argparse.Namespace, folder: Path) -> dict[str, list[list[Sample]]]:
    with ExitStack() as stack:
        stub = start_stub(stack, folder, 0.0, "--polls", POLLS, "--image-kb", 5)
        port = urlsplit(stub.request.url).port or 0

        # Started here and not in the threads, since a child ends with the thread that started it.
        sides = [Side(stack, getattr(asked, name), folder / name, port) for name in ("base", "new")]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda side: side.prepare(asked.works), sides))
        return measure(sides, asked.works, asked.rounds, asked.seconds)


def main() -> int:
    asked = options()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="koi-paired-") as folder:
        try:
            samples = run(asked, Path(folder))
        except ChildFailed as failure:
            print(failure, file=sys.stderr)
            return 1
    print(f"\nCPU milliseconds per request, medians of {asked.rounds} rounds, base > new\n")
    print(grid([HEADINGS, *(line(name, *sides) for name, sides in samples.items())]))
    print(f"\n{time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
