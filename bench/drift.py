"""`python -m bench.drift`: has a hot path become more expensive? Judged by counts, never by time.

Every row is sent by one client, one request after another, to a gateway that counts its bytecode
instructions, while its store counts scripts, commands and bytes. The lowest but one of the requests
leaves out what the gateway does by itself meanwhile. More than a tenth above `bench/baseline.json`
fails."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, astuple, dataclass, fields
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from bench.children import ChildFailed, origin
from bench.counted import SOCKET_VARIABLE, executed
from bench.generator import Request
from bench.grid import grid, number
from bench.koi import Koi, Serve, Upstream
from bench.load import MARK
from bench.peers import start_stub
from bench.store_counters import store_counts
from bench.work import ROWS, Caller, Work

BASELINE = Path(__file__).with_name("baseline.json")
HOT = (
    *("generation-60kb", "miss", "hit", "poll", "picture-60kb"),
    *("429-rate", "429-quota", "401", "404", "404-task", "400"),
)
WORSE = 1.10
REQUESTS = 41
WARM_UP = 40
OWN_READS = 6
REST_S = 0.003
PATIENCE = 20
URGENT = -10
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


ALLOWED = Counts(instructions=200, scripts=1, commands=1.5, store_bytes=100, log_bytes=50)
"""What a row may always gain: a tenth of almost nothing is not a regression."""


class Meter:
    """Reads the counts of a gateway and its store."""

    def __init__(self, counter: str, store: Path) -> None:
        self._counter = counter
        self._store = store
        self._own = [0.0] * len(fields(Counts))

    def settle(self) -> None:
        """Learn what a read costs by now."""
        self._own = [0.0] * len(fields(Counts))
        self._own = lowest([self.read() for _ in range(OWN_READS)], self)

    def read(self) -> Counts:
        """Once the gateway has come to rest. A read is itself some work of the store."""
        instructions = executed(self._counter)
        for _ in range(PATIENCE):
            time.sleep(REST_S)
            now = executed(self._counter)
            if now == instructions:
                break
            instructions = now
        store = store_counts(self._store)
        traffic = store.bytes_in + store.bytes_out
        return Counts(instructions, store.scripts, store.commands, traffic, store.log_bytes)

    def between(self, first: Counts, second: Counts) -> list[float]:
        """What happened between two reads, without the work of reading."""
        triples = zip(astuple(first), astuple(second), self._own, strict=True)
        return [after - before - own for before, after, own in triples]

    def pause(self) -> None:
        executed(self._counter, on=False)


def lowest(reads: list[Counts], meter: Meter) -> list[float]:
    each = [meter.between(first, second) for first, second in pairwise(reads)]
    return [sorted(counts)[1] for counts in zip(*each, strict=True)]


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
        self._link = HTTPConnection(urlsplit(koi.url).netloc, timeout=60)
        self._sent = 0
        self._meter = Meter(counter, koi.socket)

    def count(self, work: Work) -> Counts:
        """The lowest but one of the requests. Raises `ChildFailed` when an answer is wrong."""
        request = work.request(self._caller)
        self._meter.pause()
        for _ in range(WARM_UP):
            self._send(request)
        self._meter.settle()
        reads = [self._meter.read()]
        for _ in range(REQUESTS):
            self._send(request)
            reads.append(self._meter.read())
        return Counts(*lowest(reads, self._meter))

    def _send(self, request: Request) -> None:
        self._sent += 1
        path = request.url.removeprefix(origin(request.url))
        body = request.body.replace(MARK, f"{self._sent:012d}")
        headers = request.headers | {"Content-Type": "application/json"}
        self._link.request(request.method, path, body or None, headers)
        answer = self._link.getresponse()
        answer.read()
        if answer.status != request.status:
            raise ChildFailed(f"{path}: {answer.status} instead of {request.status}")


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


def hurry() -> None:
    """Go before other programs where that is allowed: the longer a request takes, the more of what
    the gateway does by itself is counted with it."""
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, URGENT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.drift", description=__doc__)
    parser.add_argument("--renew", action="store_true", help="write the baseline anew")
    renew = parser.parse_args().renew
    hurry()
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
