"""Starts LiteLLM as its manual says, in an environment of its own."""

import shutil
import subprocess
import sys
from contextlib import ExitStack
from importlib.metadata import distributions
from pathlib import Path

from bench.children import GATEWAY_CORE, Child, ChildFailed, Place, free_port
from bench.peers import HOME, PATH, PLAIN, UPSTREAM_KEY, Peer
from bench.target import Target, generation

LITELLM = "LiteLLM, forwarding"
LITELLM_VERSION = "1.108.7"
LITELLM_HOME = HOME / ".env-litellm"
LITELLM_KEY = "sk-litellm-of-the-benchmark"
CONFIGURATION = """
model_list:
  - model_name: picture-5kb
    litellm_params:
      model: openai/picture-5kb
      api_base: http://127.0.0.1:{stub}/v1
      api_key: {key}
    model_info:
      mode: image_generation
litellm_settings:
  telemetry: false
  num_retries: 0
general_settings:
  master_key: {master}
"""


def install_litellm() -> Path:
    """The `litellm` program in its own virtual environment. Raises `ChildFailed`."""
    program = LITELLM_HOME / "bin" / "litellm"
    if program.exists():
        return program
    print("Installing LiteLLM into bench/.env-litellm (once, a minute or more) ...", flush=True)
    pip = [str(LITELLM_HOME / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(LITELLM_HOME)],
        [*pip, "install", "--quiet", f"litellm[proxy]=={LITELLM_VERSION}"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(LITELLM_HOME, ignore_errors=True)
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise ChildFailed(f"LiteLLM could not be installed: {lines[-1][:200]}")
    return program


def start_litellm(stack: ExitStack, folder: Path, stub_port: int) -> Peer:
    """One worker, no database, no callbacks, quiet logs: its fastest configuration."""
    program = install_litellm()
    port = free_port()
    configuration = folder / "litellm.yaml"
    text = CONFIGURATION.format(stub=stub_port, key=UPSTREAM_KEY, master=LITELLM_KEY)
    configuration.write_text(text)
    command = [str(program), "--config", str(configuration), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1"]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        # Only the packages of its own environment.
        "PYTHONPATH": "",
    }
    litellm = stack.enter_context(Child("litellm", command, Place(GATEWAY_CORE, folder), env))
    boot_s = litellm.wait_until_ready(f"http://127.0.0.1:{port}/health/liveliness", 120)
    request = generation(f"http://127.0.0.1:{port}{PATH}", LITELLM_KEY, model=PLAIN)
    target = Target(LITELLM, request, litellm.pid)
    return Peer(target, boot_s, _version())


def _version() -> str:
    """What is installed, which an older run may have chosen."""
    places = [str(place) for place in LITELLM_HOME.glob("lib/python*/site-packages")]
    return next(d.version for d in distributions(name="litellm", path=places))
