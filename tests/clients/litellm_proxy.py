"""LiteLLM's proxy in front of a provider, in an environment of its own, as a context manager."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.clients.catalog import PROXY
from tests.ports import free_port

MASTER_KEY = "sk-litellm-of-the-tests"
BOOTS_WITHIN_S = 180
CONFIGURATION = """
model_list:
  - model_name: grok-imagine
    litellm_params:
      model: openai/grok-imagine
      api_base: {base_url}
      api_key: {key}
      max_retries: 0
    model_info:
      mode: image_generation
router_settings:
  num_retries: 0
  disable_cooldowns: true
  model_group_alias:
    dall-e-2: grok-imagine
    dall-e-3: grok-imagine
    gpt-image-1: grok-imagine
litellm_settings:
  telemetry: false
  drop_params: true
general_settings:
  master_key: {master}
"""
"""Its kindest form for this comparison: it is told to repeat nothing (its image route does so twice
all the same), does not shut the provider out after a failure, knows the names that clients
hard-code, and drops `response_format`, with which it would refuse a model that it does not know.
Without a database there is one key for all."""


@contextmanager
def litellm_proxy(base_url: str, key: str, folder: Path) -> Iterator[str]:
    """Before the provider at `base_url`; its root URL. Raises RuntimeError as `proxy_with`."""
    text = CONFIGURATION.format(base_url=base_url, key=key, master=MASTER_KEY)
    with proxy_with(text, folder) as url:
        yield url


@contextmanager
def proxy_with(text: str, folder: Path) -> Iterator[str]:
    """Configured by a text; its root URL. Raises RuntimeError with its last words when it does
    not start."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration, log = folder / "litellm.yaml", folder / "litellm.log"
    configuration.write_text(text, encoding="utf-8")
    port = free_port()
    program = [str(PROXY.folder / "bin" / "python"), str(PROXY.folder / "bin" / "litellm")]
    options = ["--config", str(configuration), "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*program, *options], cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            env=_environment(), start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(process, url, log)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + BOOTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/health/liveliness", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise RuntimeError(f"LiteLLM's proxy did not start: {log.read_text()[-300:]}")


def _environment() -> dict[str, str]:
    """Nothing of ours; it fetches no price list, and writes no log of its own."""
    names = ("OPENAI_", "KOI_", "LITELLM_")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(names)}
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "PYTHONPATH": ""}
    return clean | quiet | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
