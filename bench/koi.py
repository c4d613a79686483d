"""Koi as its users run it: one worker, embedded store, all limits set."""

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.children import GATEWAY_CORE, LOAD_CORE, Child, ChildFailed, Place, free_port
from bench.generator import Dialogue
from bench.peers import UPSTREAM_KEY

COMMANDS = Path(__file__).with_name("commands.py")
PLENTY = 1_000_000_000
CATALOG = """
currency = "CNY"
default_model = "picture-5kb"
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
    mode: str = "auto"
    poll_interval_s: float = 3.0


NO_HOUSE_LIMITS = {f"KOI_HOUSE_{name.upper()}": "" for name in METERS}


@dataclass(frozen=True, slots=True)
class Serve:
    """How the gateway is started: interpreter, module, further variables, core."""

    python: str = sys.executable
    module: str = "app.cli"
    env: Mapping[str, str] = field(default_factory=dict)
    core: int = GATEWAY_CORE


class Koi:
    """One gateway on a new directory, with limits for key, user, team and deployment."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        upstream: Upstream,
        serve: Serve = Serve(),
    ) -> None:
        folder.mkdir()
        (folder / "catalog.toml").write_text(_catalog())
        self._folder = folder
        self._env = _environment(folder, upstream) | serve.env
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [serve.python, "-m", serve.module, "serve", "--port", str(port)]
        place = Place(serve.core, folder)
        self._child = stack.enter_context(Child("koi", command, place, self._env))
        self.boot_s = self._child.wait_until_ready(f"{self.url}/readyz")
        # -P: the names of this folder's modules must not hide others.
        operate = [serve.python, "-P", str(COMMANDS)]
        self._commands = stack.enter_context(Dialogue(operate, LOAD_CORE, self._env))

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

    def user(self, name: str, cache: str) -> None:
        self._operate("users", "create", name, "--team", "bench", "--cache", cache, *_limits())

    def key(self, user: str, **limits: int) -> str:
        """A new key with all limits set, those that are named to other values."""
        return str(self._operate("keys", "create", "--user", user, *_limits(**limits))["key"])

    def free_key(self) -> str:
        """A key of a user without a team and without limits, cache off."""
        self._operate("users", "create", "free", "--cache", "off", "--requests-per-minute", "none")
        return str(self._operate("keys", "create", "--user", "free")["key"])

    def _operate(self, *words: str) -> dict[str, Any]:
        """Run a command of the operator. Raises `ChildFailed`."""
        self._commands.tell([*words, "--json"])
        answer = self._commands.hear()
        if answer["code"]:
            raise ChildFailed(f"koi {words[0]}: {answer['printed'].strip()[-400:]}")
        done: dict[str, Any] = json.loads(answer["printed"])
        return done


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
