"""Gateways as processes that may be killed at any moment, and the store they share."""

import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any

import httpx

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.chaos.forks import ForkedCommand
from tests.faultproxy import FaultProxy
from tests.harness import PRICED, Koi, environment, operator_settings
from tests.ports import free_ports

MAX_N = 2
"""Images of one upstream call here, so that n=3 is fanned out inside one job."""
QUICK: Mapping[str, Any] = {
    "upstream_api_key": "sk-sandbox",
    "upstream_timeout_s": 3,
    "upstream_poll_interval_s": 0.1,
    "upstream_queue_s": 1,
    "resolve_after_s": 1,
    "task_deadline_s": 6,
    "drain_timeout_s": 15,
    "log_level": "error",
}


@dataclass(frozen=True)
class Variant:
    """One deployment to torture: a gateway for each upstream mode, and what else may die.

    `embedded`: one gateway with a store of its own, which dies with it. `store_dies`: the shared
    store's server is killed now and then, and restarted by its supervisor. `workers` of each
    gateway, 1 where unsaid. `linked`: gateways reach provider and store through fault proxies.
    """

    name: str
    modes: tuple[str, ...]
    embedded: bool = False
    store_dies: bool = False
    workers: tuple[int, ...] = ()
    linked: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


class GatewayProcess:
    """`koi serve`, forked from a process that has loaded Koi: many are killed and started again."""

    def __init__(self, port: int, settings: Mapping[str, Any], log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.kills = 0
        self._environment = environment(port=port, **settings)
        self._process: ForkedCommand | None = None

    def start(self) -> None:
        self._process = ForkedCommand(("serve",), Path.cwd(), self._environment, self.log)

    def wait_until_ready(self, within_s: float = 120) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            assert self.alive, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"not ready: {self.log.read_text()}")

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL; a gateway that ended by itself before is a failure."""
        assert self.alive, f"it died by itself: {self.log.read_text()}"
        children = children_of(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self.kills += 1

    def kill_a_worker(self) -> None:
        """SIGKILL to one of several; the supervisor replaces it."""
        os.kill(random.choice(children_of(self.pid)), signal.SIGKILL)
        self.kills += 1

    def stop(self, within_s: float = 60) -> int:
        """SIGTERM; the exit code of an orderly end is 0."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(within_s)

    def bury(self) -> None:
        if self.alive:
            self.kill()


@dataclass
class Deployment:
    """All processes of one variant, and the operator's view of them."""

    variant: Variant
    path: Path
    gateways: list[GatewayProcess]
    koi: Koi
    upstream_link: FaultProxy | None = None
    store_link: FaultProxy | None = None
    store_kills: int = 0
    exit_codes: list[int] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(gateway.kills for gateway in self.gateways)

    @property
    def sandbox(self) -> Sandbox:
        return self.koi.sandbox

    def kill_one(self, dice: random.Random) -> None:
        victim = dice.choice(self.gateways)
        victim.kill()
        victim.start()

    def stop_one(self, dice: random.Random) -> None:
        """SIGTERM, the orderly end, and a new start: what a deploy does."""
        victim = dice.choice(self.gateways)
        self.exit_codes.append(victim.stop())
        victim.start()

    def the_store(self) -> int:
        """The pid of the shared store's server: the child of this process that works in its
        directory. Other tests of this process may have servers of their own."""
        place = (self.path / "store" / "store").resolve()
        (server,) = (child for child in children_of(os.getpid()) if _directory_of(child) == place)
        return server

    def kill_the_store(self) -> None:
        with suppress(ValueError):  # it is just being restarted
            os.kill(self.the_store(), signal.SIGKILL)
            self.store_kills += 1

    def wait_until_ready(self) -> None:
        for gateway in self.gateways:
            gateway.wait_until_ready()

    def crashes(self) -> list[str]:
        """Failures the gateways themselves call bugs."""
        words = ("Traceback", "loop_failed", "work_failed", "internal_error")
        lines = [line for g in self.gateways for line in g.log.read_text().splitlines()]
        return [line for line in lines if any(word in line for word in words)]


@contextmanager
def deployed(variant: Variant, sandbox: Sandbox, path: Path) -> Iterator[Deployment]:
    """Start a variant and wait until it serves; at the end nothing of it is left."""
    catalog = path / "catalog.toml"
    catalog.write_text(PRICED.read_text().replace("max_n = 10", f"max_n = {MAX_N}", 1))
    settings = {
        **QUICK,
        "upstream_base_url": sandbox.url,
        "data_dir": path / "koi",
        "catalog": catalog,
        **variant.settings,
    }
    with ExitStack() as stack:
        if not variant.embedded:
            store = stack.enter_context(EmbeddedStore(path / "store"))
            settings["redis_url"] = store.url
        links: list[FaultProxy] = []
        through = {}
        if variant.linked:
            links = [stack.enter_context(FaultProxy(url)) for url in (sandbox.url, store.url)]
            through = {"upstream_base_url": links[0].url, "redis_url": links[1].url}
        ports = free_ports(len(variant.modes))
        places = zip_longest(ports, variant.modes, variant.workers, fillvalue=1)
        gateways = [
            GatewayProcess(
                port,
                {**settings, **through, "upstream_mode": mode, "workers": workers},
                path / f"{number}-{mode}.log",
            )
            for number, (port, mode, workers) in enumerate(places)
        ]
        for gateway in gateways:
            stack.callback(gateway.bury)
            gateway.start()
        koi = Koi(gateways[0].url, sandbox, operator_settings(**settings))
        deployment = Deployment(variant, path, gateways, koi, *links)
        deployment.wait_until_ready()
        yield deployment


def children_of(pid: int) -> list[int]:
    """The child processes of one process: of a gateway, its store's server (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def _directory_of(pid: int) -> Path | None:
    """Where a process works; None for one that has just ended."""
    with suppress(OSError):
        return Path(os.readlink(f"/proc/{pid}/cwd")).resolve()
    return None
