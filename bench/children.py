"""Child processes: pinned to a core, awaited until they answer, stopped by process id."""

import ctypes
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

GATEWAY_CORE, LOAD_CORE = 0, 1
ALL_CORES = -1
STORE_CORE = LOAD_CORE
PARENT_DEATH_SIGNAL = 1
LIBC = ctypes.CDLL(None)
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ChildFailed(Exception):
    """A process that did not start, with the last line it wrote."""


@dataclass(frozen=True, slots=True)
class Place:
    """The core of a child, and the directory for its work and its log."""

    core: int
    folder: Path


class Child:
    """One running process, stopped when its context ends."""

    def __init__(
        self, name: str, command: Sequence[str], place: Place, env: Mapping[str, str] | None = None
    ) -> None:
        self._log = place.folder / f"{name}.log"
        self.name = name
        self._began = time.perf_counter()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=place.folder,
                env=clean_environment() | dict(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: settle_in(place.core),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self, url: str, timeout_s: float = 60.0) -> float:
        """Seconds from the start to the first 200; raises `ChildFailed`."""
        while time.perf_counter() - self._began < timeout_s:
            if self._process.poll() is not None:
                break
            try:
                with DIRECT.open(url, timeout=5) as response:
                    if response.status == 200:
                        return time.perf_counter() - self._began
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.005)
        self.stop()
        raise ChildFailed(f"{self.name} did not start: {self._last_words()}")

    def wait_json(self, timeout_s: float = 120.0) -> dict[str, Any]:
        """Wait until it ends by itself; returns the JSON object in its last line."""
        if self._process.wait(timeout_s):
            raise ChildFailed(f"{self.name} failed: {self._last_words()}")
        answer: dict[str, Any] = json.loads(self._log.read_text().splitlines()[-1])
        return answer

    def stop(self, timeout_s: float = 15.0) -> None:
        """Stop this process, by force if it takes too long; its children end with it."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line]
        return lines[-1][-300:] if lines else "it wrote nothing"


def settle_in(core: int) -> None:
    """In the child, before its program starts: pin the core, and end when the benchmark ends."""
    LIBC.prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
    if core == ALL_CORES:
        return
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {allowed[core % len(allowed)]})


def clean_environment() -> dict[str, str]:
    """The environment without settings of Koi or LiteLLM and without proxies."""
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KOI_", "LITELLM_")) and name.lower() not in proxies
    }
    return kept | {"NO_PROXY": "*"}


def free_port() -> int:
    """A port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_json(
    name: str, command: Sequence[str], place: Place, env: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Run a command that ends by itself and prints one JSON object."""
    done = subprocess.run(
        command,
        cwd=place.folder,
        env=clean_environment() | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: settle_in(place.core),
    )
    if done.returncode:
        raise ChildFailed(f"{name} failed: {(done.stderr or done.stdout).strip()[-400:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def get_json(url: str) -> dict[str, Any]:
    with DIRECT.open(url, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def origin(url: str) -> str:
    """Scheme, host and port of a URL."""
    return "{0.scheme}://{0.netloc}".format(urlsplit(url))
