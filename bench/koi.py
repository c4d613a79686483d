"""Koi as its users run it: one worker, embedded store, all limits set."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.children import GATEWAY_CORE, LOAD_CORE, Child, Place, free_port, run_json
from bench.peers import PATH, UPSTREAM_KEY
from bench.target import Target

KOI = [sys.executable, "-m", "app.cli"]
PLENTY = 1_000_000_000
CATALOG = """
currency = "CNY"
default_model = "grok-imagine"

[[models]]
name = "grok-imagine"
modes = ["async", "sync"]
sizes = ["1024x1024"]
qualities = ["standard", "hd"]
max_n = 10
max_prompt_chars = 32000

[models.prices]
"*" = "0.14"
"""
METERS = (
    "images_per_day",
    "images_per_month",
    "budget_per_day",
    "budget_per_month",
    "requests_per_minute",
    "concurrency",
)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The stub behind a gateway; `mode` is sync, async or auto."""

    port: int
    mode: str = "sync"


class Koi:
    """One gateway on a new directory, with limits for key, user, team and deployment."""

    def __init__(self, stack: ExitStack, folder: Path, upstream: Upstream) -> None:
        folder.mkdir()
        (folder / "catalog.toml").write_text(CATALOG)
        self._folder = folder
        self._env = _environment(folder, upstream)
        self._url = f"http://127.0.0.1:{(port := free_port())}"
        command = [*KOI, "serve", "--host", "127.0.0.1", "--port", str(port)]
        place = Place(GATEWAY_CORE, folder)
        self._child = stack.enter_context(Child("koi", command, place, self._env))
        self.boot_s = self._child.wait_until_ready(f"{self._url}/readyz")

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        self._child.stop()

    def team(self) -> None:
        self._operate("teams", "create", "bench", *_limits())

    def caller(self, name: str, cache: str) -> Target:
        """A new user of the team with a key; `cache` is off or private."""
        user = name.replace(" ", "-")
        self._operate("users", "create", user, "--team", "bench", "--cache", cache, *_limits())
        key = self._operate("keys", "create", "--user", user, "--new", *_limits())["key"]
        return Target(f"Koi, {name}", f"{self._url}{PATH}", str(key), self.pid)

    def _operate(self, *words: str) -> dict[str, Any]:
        place = Place(LOAD_CORE, self._folder)
        return run_json(f"koi {words[0]}", [*KOI, *words, "--json"], place, self._env)


def hits_of(target: Target) -> Target:
    """The same caller, sending the same request again and again."""
    return replace(target, name="Koi, cache hit", same=True)


def _limits() -> list[str]:
    return [word for name in METERS for word in (f"--{name.replace('_', '-')}", str(PLENTY))]


def _environment(folder: Path, upstream: Upstream) -> dict[str, str]:
    settings = {
        "upstream_base_url": f"http://127.0.0.1:{upstream.port}/v1",
        "upstream_api_key": UPSTREAM_KEY,
        "upstream_mode": upstream.mode,
        "data_dir": str(folder / "state"),
        "catalog": str(folder / "catalog.toml"),
        "max_in_flight": "100000",
        "waiting_share": "1",
        "key_requests_per_second": "0",
        "key_reads_per_second": "0",
        "sync_wait_s": "180",
    } | {f"house_{name}": str(PLENTY) for name in METERS}
    return {f"KOI_{name.upper()}": value for name, value in settings.items()}
