"""Koi as its users run it: one worker, embedded store, all limits set."""

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.children import GATEWAY_CORE, LOAD_CORE, Child, Place, free_port, run_json
from bench.peers import PATH, UPSTREAM_KEY
from bench.target import Target

PLENTY = 1_000_000_000
CATALOG = """
currency = "CNY"
default_model = "grok-imagine"
"""
MODEL = """
[[models]]
name = "{name}"
modes = {modes}
sizes = ["1024x1024"]
qualities = ["standard", "hd"]
max_n = 10
max_prompt_chars = 32000

[models.prices]
"*" = "0.14"
"""
MODELS = {
    "grok-imagine": ["async", "sync"],
    "picture-5kb": ["sync"],
    "picture-60kb": ["sync"],
    "picture-2048kb": ["sync"],
    "task-60kb": ["async"],
}
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
    """The stub behind a gateway; `mode` is sync, async or auto, which is each model's own."""

    port: int
    mode: str = "sync"
    poll_interval_s: float = 3.0


class Koi:
    """One gateway on a new directory, with limits for key, user, team and deployment."""

    def __init__(
        self, stack: ExitStack, folder: Path, upstream: Upstream, python: str = sys.executable
    ) -> None:
        """`python` is the interpreter of the checkout or environment to measure."""
        folder.mkdir()
        (folder / "catalog.toml").write_text(_catalog())
        self._koi = [python, "-m", "app.cli"]
        self._folder = folder
        self._env = _environment(folder, upstream)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [*self._koi, "serve", "--host", "127.0.0.1", "--port", str(port)]
        place = Place(GATEWAY_CORE, folder)
        self._child = stack.enter_context(Child("koi", command, place, self._env))
        self.boot_s = self._child.wait_until_ready(f"{self.url}/readyz")

    @property
    def socket(self) -> Path:
        """The socket of the embedded store."""
        return self._folder / "state" / "store" / "store.sock"

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
        self.user(user, cache)
        return Target(f"Koi, {name}", f"{self.url}{PATH}", self.key(user), self.pid)

    def user(self, name: str, cache: str) -> None:
        self._operate("users", "create", name, "--team", "bench", "--cache", cache, *_limits())

    def key(self, user: str, **limits: int) -> str:
        """A new key with all limits set, those that are named to other values."""
        return str(self._operate("keys", "create", "--user", user, *_limits(**limits))["key"])

    def _operate(self, *words: str) -> dict[str, Any]:
        place = Place(LOAD_CORE, self._folder)
        return run_json(f"koi {words[0]}", [*self._koi, *words, "--json"], place, self._env)


def hits_of(target: Target) -> Target:
    """The same caller, sending the same request again and again."""
    return replace(target, name="Koi, cache hit", same=True)


def _limits(**limits: int) -> list[str]:
    """The options for all limits; all are plenty, except those that are named."""
    every = dict.fromkeys(METERS, PLENTY) | limits
    return [
        word
        for name, limit in every.items()
        for word in (f"--{name.replace('_', '-')}", str(limit))
    ]


def _catalog() -> str:
    models = (MODEL.format(name=name, modes=json.dumps(modes)) for name, modes in MODELS.items())
    return CATALOG + "".join(models)


def _environment(folder: Path, upstream: Upstream) -> dict[str, str]:
    settings = {
        "upstream_base_url": f"http://127.0.0.1:{upstream.port}/v1",
        "upstream_api_key": UPSTREAM_KEY,
        "upstream_mode": upstream.mode,
        "upstream_poll_interval_s": str(upstream.poll_interval_s),
        "data_dir": str(folder / "state"),
        "catalog": str(folder / "catalog.toml"),
        "max_in_flight": "100000",
        "waiting_share": "1",
        "key_requests_per_second": "0",
        "key_reads_per_second": "0",
        "sync_wait_s": "180",
    } | {f"house_{name}": str(PLENTY) for name in METERS}
    return {f"KOI_{name.upper()}": value for name, value in settings.items()}
