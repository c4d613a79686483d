"""An earlier version of Koi, run from its own checkout: commands, gateways, its sandbox."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

LONGEST_S = 150
SHOW = {
    "usage": ("usage", "--by", "user,model,size", "--json"),
    "users": ("users", "list", "--json"),
    "teams": ("teams", "list", "--json"),
    "keys": ("keys", "list", "--json"),
    "tasks": ("tasks", "list", "--limit", "100", "--json"),
    "check": ("ledger", "check", "--json"),
}


def until(what: str, found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if answer := found():
                return answer
        time.sleep(0.05)
    raise SystemExit(f"waited in vain: {what}")


@dataclass
class EarlierVersion:
    """A checkout of the earlier version, and a directory of its own to run in."""

    checkout: Path
    path: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        own = self.checkout / ".venv" / "bin" / "python"
        return str(own if own.exists() else sys.executable)

    @property
    def environment(self) -> dict[str, str]:
        around = {name: text for name, text in os.environ.items() if not name.startswith("KOI_")}
        return {**around, "PYTHONPATH": str(self.checkout), "COLUMNS": "100", **self.settings}

    def start(self, *words: str, log: str) -> "subprocess.Popen[bytes]":
        with (self.path / log).open("wb") as out:
            return subprocess.Popen(
                [self.python, *words], cwd=self.path, env=self.environment, stdout=out, stderr=out
            )

    def run(self, *words: str) -> Any:
        command = [self.python, *words]
        done = subprocess.run(
            command, cwd=self.path, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{words}: {done.stderr}")
        return done.stdout

    def koi(self, *words: str) -> Any:
        return json.loads(self.run("-m", "app.cli", *words, "--json"))

    def commit(self) -> str:
        command = ["git", "-C", str(self.checkout), "rev-parse", "--short", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def require_own_code(self) -> None:
        found = Path(self.run("-c", "import app; print(app.__file__)").strip())
        if found.parent.parent != self.checkout:
            raise SystemExit(f"{found} would run, not the code of {self.checkout}")

    def show(self) -> dict[str, Any]:
        return {name: json.loads(self.run("-m", "app.cli", *words)) for name, words in SHOW.items()}


@dataclass
class Running:
    """A gateway at work."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def event(self, name: str) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return next((line for line in lines if line["event"] == name), {})

    @property
    def url(self) -> str:
        return str(until("listening", lambda: self.event("listening"))["url"])

    @property
    def store_pid(self) -> int:
        """The embedded store's process."""
        return int(self.event("store_started")["pid"])

    def generate(self, secret: str, prompt: str, **fields: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {secret}", **fields.pop("headers", {})}
        body = {"model": "grok-imagine", "prompt": prompt, **fields}
        url = f"{self.url}/v1/images/generations"
        return httpx.post(url, headers=headers, json=body, timeout=LONGEST_S)

    def leave(self, secret: str, prompt: str, **fields: Any) -> None:
        """A caller who will be cut off."""

        def ask() -> None:
            with suppress(httpx.HTTPError):
                self.generate(secret, prompt, **fields)

        threading.Thread(target=ask, daemon=True).start()

    def status(self, secret: str, task_id: str) -> str:
        headers = {"authorization": f"Bearer {secret}"}
        return str(httpx.get(f"{self.url}/v1/tasks/{task_id}", headers=headers).json()["status"])


@contextmanager
def gateway(earlier: EarlierVersion, name: str) -> Iterator[Running]:
    log = f"{name}.log"
    running = Running(
        earlier.start("-m", "app.cli", "serve", "--port", "0", log=log), earlier.path / log
    )
    try:
        until("ready", lambda: httpx.get(f"{running.url}/readyz").status_code == 200)
        yield running
    finally:
        with suppress(ProcessLookupError, KeyError):
            os.kill(running.store_pid, signal.SIGKILL)
        running.process.kill()
        running.process.wait()


class Sandbox:
    """The earlier version's stand-in provider, steered through its control routes."""

    def __init__(self, earlier: EarlierVersion) -> None:
        self.process = earlier.start("-m", "app.sandbox", "--time-scale", "0.01", log="sandbox.log")
        log = earlier.path / "sandbox.log"
        self.told = json.loads(until("the sandbox", lambda: log.read_text().partition("\n")[0]))
        self.set(picture_style="plain", latency_s=0.05)

    @property
    def url(self) -> str:
        return str(self.told["url"])

    @property
    def ports(self) -> list[int]:
        return [int(self.told[name].split(":")[2].split("/")[0]) for name in ("url", "cdn_url")]

    def post(self, route: str, **body: Any) -> None:
        sim = f"{self.url.removesuffix('/v1')}/__sim/{route}"
        httpx.post(sim, json=body).raise_for_status()

    def set(self, **switches: Any) -> None:
        self.post("switches", **switches)

    @property
    def posts(self) -> int:
        return int(httpx.get(f"{self.url.removesuffix('/v1')}/__sim/state").json()["posts"])
