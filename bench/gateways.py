"""Starts every gateway of the comparison and says what each is measured with."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.children import ChildFailed
from bench.generator import LoadGenerator
from bench.interpreter import install_profiled
from bench.koi import NO_HOUSE_LIMITS, Koi, Serve, Upstream
from bench.litellm import start_litellm
from bench.memory import Memory
from bench.peers import PATH, PLAIN, Peer, start_nginx
from bench.portkey import start_portkey
from bench.target import Target, generation
from bench.work import ROWS, Caller, prepared

POLLS = 3
POLL_INTERVAL_S = 0.2
WARM_UP_S = 0.3
FORWARDING = "Koi, no limits set"
GENERATION = "Koi, generation"
MISS = "Koi, cache miss"
HIT = "Koi, cache hit"
TASK = "Koi, provider's task, 3 polls"
POLL = "Koi, client's poll"
REFUSALS = {
    "429-quota": "Koi, 429 quota",
    "429-rate": "Koi, 429 rate",
    "401": "Koi, 401",
    "404": "Koi, 404",
    "400": "Koi, 400",
}
GOVERNED = {
    "generation-60kb": GENERATION,
    "miss": MISS,
    "hit": HIT,
    "async-3-polls": TASK,
    "poll": POLL,
    **REFUSALS,
}
PROFILED = " (profile-guided Python)"
PROFILED_ROWS = {"generation-60kb": GENERATION, "hit": HIT, "async-3-polls": TASK}
ALONE = {GENERATION, MISS, HIT}
START = {"nginx": start_nginx, "LiteLLM": start_litellm, "Portkey": start_portkey}


class Gateways:
    """All gateways of one run. What cannot be started here is left out, and `skipped` says why."""

    def __init__(self, stack: ExitStack, folder: Path, stub: Target) -> None:
        self._stack = stack
        self._folder = folder
        self._upstream = Upstream(
            urlsplit(stub.request.url).port or 0, poll_interval_s=POLL_INTERVAL_S
        )
        self.targets = [stub]
        self.memory: dict[str, Memory] = {}
        self.boots: dict[str, list[float]] = {}
        self.versions: dict[str, str] = {}
        self.skipped: list[str] = []

    def add_peers(self, names: list[str]) -> None:
        for name in names:
            start = START[name]
            self._try(name, lambda start=start, name=name: self._add_peer(name, start))  # type: ignore[misc]

    def add_koi(self, *, profiled: bool) -> None:
        self._try("Koi without limits", self._add_forwarding)
        self._add_koi("Koi", Serve(), GOVERNED)
        if profiled:
            self._try("Koi on a profile-guided Python", self._add_profiled)

    def _try(self, name: str, add: Callable[[], None]) -> None:
        try:
            add()
        except ChildFailed as failure:
            self.skipped.append(f"{name}: {failure}")

    def _add_peer(self, name: str, start: Callable[[ExitStack, Path, int], Peer]) -> None:
        peer = start(self._stack, self._folder, self._upstream.port)
        self.targets.append(peer.target)
        self.boots[name] = [peer.boot_s]
        self.versions[name] = peer.version
        self._watch(name, peer.target.pid or 0)

    def _add_forwarding(self) -> None:
        serve = Serve(env=NO_HOUSE_LIMITS)
        koi = Koi(self._stack, self._folder / "koi-free", self._upstream, serve)
        request = generation(koi.url + PATH, koi.free_key(), model=PLAIN)
        self.targets.append(Target(FORWARDING, request, koi.pid))

    def _add_profiled(self) -> None:
        self._add_koi("Koi" + PROFILED, Serve(install_profiled()), PROFILED_ROWS, PROFILED)

    def _add_koi(self, name: str, serve: Serve, rows: dict[str, str], suffix: str = "") -> None:
        place = self._folder / name.split(" ")[-1].strip(")")
        koi = Koi(self._stack, place, self._upstream, serve)
        self.boots.setdefault(name, []).append(koi.boot_s)
        self._watch(name, koi.pid)
        caller = Caller(koi)
        with LoadGenerator() as generator:
            for work in ROWS:
                if work.name not in rows:
                    continue
                called = rows[work.name]
                request = prepared(work, caller, generator, WARM_UP_S)
                alone = called in ALONE
                target = Target(called + suffix, request, koi.pid, work.connections, alone)
                self.targets.append(target)

    def _watch(self, name: str, pid: int) -> None:
        self.memory[name] = Memory(pid)
        self.memory[name].note_idle()
