"""`python -m bench.drift`: has a hot path become more expensive? Judged by counts, never by time.

Every row is sent by one client, one request after another, to a gateway that counts its bytecode
instructions, while its store counts scripts, commands and bytes. What an idle gateway does in the
same time is subtracted. More than a tenth above `bench/baseline.json` fails."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from bench.children import ChildFailed
from bench.counted import SOCKET_VARIABLE, executed
from bench.generator import LoadGenerator
from bench.grid import grid, number
from bench.koi import Koi, Serve, Upstream
from bench.peers import start_stub
from bench.store_counters import store_counts
from bench.work import ROWS, Caller, Work

BASELINE = Path(__file__).with_name("baseline.json")
HOT = (
    *("generation", "generation-60kb", "miss", "hit", "poll", "picture-60kb"),
    *("429-rate", "429-quota", "401", "404", "404-task", "400"),
)
WORSE = 1.10
IDLE_S = 2.0
REQUESTS = 60
WARM_UP = 40
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
RENEW = "If that is the price of something wanted, `make bench-baseline` and commit the change."


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one request; `store_bytes` are those of the store's sockets, `log_bytes` of its log."""

    instructions: float
    scripts: float
    commands: float
    store_bytes: float
    log_bytes: float


ALLOWED = Counts(instructions=200, scripts=0.2, commands=1.5, store_bytes=100, log_bytes=50)
"""What a row may always gain: a tenth of almost nothing is not a regression."""


class Meter:
    """Counts what a gateway and its store do in some time, beyond what they do when idle."""

    def __init__(self, counter: str, store: Path) -> None:
        self._counter = counter
        self._store = store
        self._idle = [0.0] * len(fields(Counts))
        began = self.read()
        time.sleep(IDLE_S)
        self._idle = [count / IDLE_S for count in self.since(began, IDLE_S)]

    def read(self, *, on: bool = True) -> Counts:
        store = store_counts(self._store)
        instructions = executed(self._counter, on=on)
        traffic = store.bytes_in + store.bytes_out
        return Counts(instructions, store.scripts, store.commands, traffic, store.log_bytes)

    def since(self, began: Counts, lasted_s: float) -> list[float]:
        pairs = zip(astuple(self.read()), astuple(began), self._idle, strict=True)
        return [now - then - idle * lasted_s for now, then, idle in pairs]


class Gateway:
    """A gateway whose instructions are counted, before a stub."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        stub = start_stub(stack, folder, 0.0, "--image-kb", 5)
        counter = str(folder / "counter")
        serve = Serve(module="bench.counted", env=_environment(counter))
        koi = Koi(
            stack, folder / "koi", Upstream(urlsplit(stub.request.url).port or 0, "auto"), serve
        )
        self._caller = Caller(koi)
        self._generator = stack.enter_context(LoadGenerator())
        self._meter = Meter(counter, koi.socket)

    def count(self, work: Work) -> Counts:
        """The mean of one request. Raises `ChildFailed` when an answer is not the right one."""
        request = work.request(self._caller)
        self._meter.read(on=False)
        self._generator.do(request, requests=WARM_UP)
        began, clock = self._meter.read(), time.perf_counter()
        seen = self._generator.do(request, requests=REQUESTS)
        spent = self._meter.since(began, time.perf_counter() - clock)
        if seen["errors"]:
            raise ChildFailed(f"{work.name}: {seen['error_kinds']} instead of the right answer")
        return Counts(*(round(max(count, 0.0) / REQUESTS, 2) for count in spent))


def _environment(counter: str) -> dict[str, str]:
    root = str(Path(__file__).parent.parent)
    return {SOCKET_VARIABLE: counter, "PYTHONPATH": root, "PYTHONHASHSEED": "0"}


def measure(folder: Path) -> dict[str, Counts]:
    works = {work.name: work for work in ROWS}
    with ExitStack() as stack:
        gateway = Gateway(stack, folder)
        return {name: gateway.count(works[name]) for name in HOT}


def worse(name: str, now: Counts, before: Counts) -> list[str]:
    """A sentence for each count that grew by more than a tenth."""
    found = []
    for field in fields(Counts):
        new, old, slack = (getattr(each, field.name) for each in (now, before, ALLOWED))
        if new > old * WORSE and new > old + slack:
            share = f" ({new / old - 1:+.0%})" if old else ""
            found.append(f"{name}: {field.name} {old:,.1f} -> {new:,.1f} a request{share}")
    return found


def load_baseline() -> dict[str, dict[str, dict[str, float]]]:
    """Rows by Python version, since each compiles to other instructions."""
    if not BASELINE.exists():
        return {}
    kept: dict[str, dict[str, dict[str, float]]] = json.loads(BASELINE.read_text())
    return kept


def judge(rows: Mapping[str, Counts], baseline: Mapping[str, Mapping[str, float]]) -> list[str]:
    known = {name: Counts(**counts) for name, counts in baseline.items()}
    return [text for name in rows if name in known for text in worse(name, rows[name], known[name])]


def table(rows: Mapping[str, Counts], baseline: Mapping[str, Mapping[str, float]]) -> str:
    lines = [("row", *(field.name for field in fields(Counts)), "of baseline")]
    for name, counts in rows.items():
        before = baseline.get(name, {}).get("instructions")
        share = number(counts.instructions / before, 3) if before else "-"
        lines.append((name, *(number(count, 1) for count in astuple(counts)), share))
    return grid(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.drift", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="write the baseline anew")
    renew = parser.parse_args().renew
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="koi-drift-") as folder:
        try:
            rows = measure(Path(folder))
        except ChildFailed as failure:
            print(failure, file=sys.stderr)
            return 1
    kept = load_baseline()
    baseline = kept.get(PYTHON, {})
    print(table(rows, baseline))
    print(f"\nPython {PYTHON}, {time.perf_counter() - began:.0f} s")
    if renew:
        kept[PYTHON] = {name: asdict(counts) for name, counts in rows.items()}
        BASELINE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
        print(f"bench/{BASELINE.name} holds these counts now.")
        return 0
    if not baseline:
        print(f"bench/{BASELINE.name} has no counts for Python {PYTHON}: nothing is judged.")
    broken = judge(rows, baseline)
    if broken:
        print("\nA hot path became more expensive:", *broken, RENEW, sep="\n  ", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
