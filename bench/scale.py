"""`python -m bench.scale`: two workers, two gateways on one store, and what one store carries."""

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.children import ALL_CORES, GATEWAY_CORE, LOAD_CORE, ChildFailed
from bench.cpu import CpuSplit, cpu_split, machine_busy_s
from bench.generator import LoadGenerator, Request
from bench.koi import Koi, Serve, Upstream
from bench.peers import start_stub
from bench.scale_report import Throughput, markdown, saturation, tables
from bench.tape import Recorder, Replay, Store, replay
from bench.work import Caller

MODEL = "picture-60kb"
CONNECTIONS = 64
DEPTHS = (1, 8, 32, 128)
REPOSITORY = Path(__file__).parent.parent
SCALING = REPOSITORY / "deploy" / "SCALING.md"
MARKERS = re.compile(r"(<!-- scale -->\n).*?(<!-- /scale -->)", re.DOTALL)


class Setup:
    """A stub, and gateways before it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        stub = start_stub(stack, folder, 0.0, "--image-kb", 5)
        self._upstream = Upstream(urlsplit(stub.request.url).port or 0)
        self.gateways: list[Koi] = []

    def gateway(self, name: str, core: int, **settings: object) -> Koi:
        env = {f"KOI_{key.upper()}": str(value) for key, value in settings.items()}
        serve = Serve(core=core, env=env)
        koi = Koi(self._stack, self._folder / name, self._upstream, serve)
        self.gateways.append(koi)
        return koi


def loaded(
    name: str, gateways: Sequence[Koi], requests: Sequence[Request], store: int, seconds: float
) -> Throughput:
    """All gateways under load at the same time; `store` is the process of a shared one, or 0."""
    pids = [koi.pid for koi in gateways] + ([store] if store else [])
    with ExitStack() as stack:
        core = LOAD_CORE if len(gateways) == 1 else ALL_CORES
        loads = [stack.enter_context(LoadGenerator(core)) for _ in requests]
        each = CONNECTIONS // len(requests)
        for load, request in zip(loads, requests, strict=True):
            load.do(request, connections=each, duration_s=1.0)
        before, began = [cpu_split(pid) for pid in pids], time.perf_counter()
        for load, request in zip(loads, requests, strict=True):
            load.begin(request, connections=each, duration_s=seconds)
        seen = [load.report() for load in loads]
        lasted_s = time.perf_counter() - began
        after = [cpu_split(pid) for pid in pids]
    spent = [now.since(then) for now, then in zip(after, before, strict=True)]
    answers = max(sum(report["requests"] for report in seen), 1)
    store_s = sum(each.store_s for each in spent)
    return Throughput(
        name,
        sum(report["rps"] for report in seen),
        max(report["p99_ms"] or 0.0 for report in seen),
        sum(map(_gateway_s, spent)) / answers * 1000,
        store_s / answers * 1000,
        store_s / lasted_s,
        sum(report["errors"] for report in seen),
    )


def _gateway_s(spent: CpuSplit) -> float:
    return spent.gateway_s


def workers(folder: Path, count: int, seconds: float) -> Throughput:
    """One worker has a core; two share both with the load and the store."""
    with ExitStack() as stack:
        setup = Setup(stack, folder)
        core = GATEWAY_CORE if count == 1 else ALL_CORES
        koi = setup.gateway(f"workers-{count}", core, workers=count)
        request = Caller(koi).generate(MODEL)
        return loaded(f"{count} worker{'s' * (count > 1)}", [koi], [request], 0, seconds)


def two_gateways(folder: Path, program: str, seconds: float) -> list[Throughput]:
    """One, then two gateways on a store of their own machine's disk, synced at every write."""
    with ExitStack() as stack:
        store = stack.enter_context(Store(folder / "shared", program))
        setup = Setup(stack, folder)
        shared = {"redis_url": f"unix://{store.socket}"}
        first = setup.gateway("first", ALL_CORES, **shared)
        request = Caller(first).generate(MODEL)
        alone = loaded("1 gateway, shared store", [first], [request], store.pid, seconds)
        # Gateways on one store keep their pictures in one place.
        shared["data_dir"] = str(folder / "first" / "state")
        second = setup.gateway("second", ALL_CORES, **shared)
        moved = request.url.replace(first.url, second.url)
        requests = [request, Request(moved, "POST", request.headers, request.body)]
        both = [first, second]
        return [alone, loaded("2 gateways, shared store", both, requests, store.pid, seconds)]


def carried(folder: Path, program: str, generations: int) -> list[Replay]:
    """Record so many generations, then replay them to empty stores at several depths."""
    with ExitStack() as stack:
        store = stack.enter_context(Store(folder / "recorded", program))
        tape = Recorder(folder / "tape.sock", store)
        setup = Setup(stack, folder)
        koi = setup.gateway("taped", GATEWAY_CORE, redis_url=f"unix://{folder / 'tape.sock'}")
        request = Caller(koi).generate(MODEL)
        generator = stack.enter_context(LoadGenerator())
        start = tape.mark()
        seen = generator.do(request, connections=CONNECTIONS, duration_s=generations / 100)
        end = tape.mark()
        first, then = tape.commands(0, start), tape.commands(start, end)
    plans = [(depth, "always") for depth in DEPTHS] + [(DEPTHS[-1], "everysec")]
    return [
        _replayed(folder, program, (first, then, seen["requests"]), depth, fsync)
        for depth, fsync in plans
    ]


def _replayed(
    folder: Path, program: str, tape: tuple[list[bytes], list[bytes], int], depth: int, fsync: str
) -> Replay:
    with Store(folder / f"replay-{depth}-{fsync}", program, fsync) as store:
        return replay(*tape, store, depth, fsync)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of load for each shape")
    parser.add_argument("--generations", type=int, default=1000, help="about so many on the tape")
    parser.add_argument("--write", action="store_true", help="write into deploy/SCALING.md")
    asked = parser.parse_args()
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    began, busy = time.perf_counter(), machine_busy_s()
    with tempfile.TemporaryDirectory(prefix="koi-scale-") as name:
        folder = Path(name)
        try:
            rows = [workers(folder, count, asked.seconds) for count in (1, 2)]
            rows += two_gateways(folder, program, asked.seconds) if program else []
            replays = carried(folder, program, asked.generations) if program else []
        except ChildFailed as failure:
            print(failure, file=sys.stderr)
            return 1
    cores = (machine_busy_s() - busy) / (time.perf_counter() - began)
    print(tables(rows, replays))
    if program is None:
        print("\nNo valkey-server or redis-server here: shared stores were not measured.")
    print(f"\n{saturation(rows, replays)}\nEverything on this machine kept {cores:.1f} cores busy.")
    if asked.write:
        engine = Path(program).name if program else "no store"
        text = markdown(rows, replays, f"{engine}, {cores:.1f} cores busy")
        SCALING.write_text(MARKERS.sub(lambda m: f"{m[1]}\n{text}\n\n{m[2]}", SCALING.read_text()))
        print(f"{SCALING.relative_to(REPOSITORY)} holds these numbers now.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
