"""Starts the stub, nginx and LiteLLM, each as its manual says."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.children import GATEWAY_CORE, LOAD_CORE, Child, ChildFailed, Place, free_port
from bench.target import Target

HOME = Path(__file__).parent
LITELLM_HOME = HOME / ".env-litellm"
PATH = "/v1/images/generations"
UPSTREAM_KEY = "sk-upstream-of-the-benchmark"
LITELLM_KEY = "sk-litellm-of-the-benchmark"

NGINX = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body;
  proxy_temp_path {folder}/nginx-proxy;
  fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi;
  scgi_temp_path {folder}/nginx-scgi;
  keepalive_requests 1000000;
  upstream stub {{ server 127.0.0.1:{stub}; keepalive 256; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://stub;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer {key}";
    }}
  }}
}}
"""

LITELLM = """
model_list:
  - model_name: grok-imagine
    litellm_params:
      model: openai/grok-imagine
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


def start_stub(stack: ExitStack, folder: Path, latency_s: float = 0.0, *options: object) -> Target:
    """Start the stub on the load generator's core; the target is the stub itself."""
    port = free_port()
    command = [sys.executable, str(HOME / "stub.py"), "--port", str(port)]
    command += ["--latency", str(latency_s), *map(str, options)]
    place = Place(LOAD_CORE, folder)
    stub = stack.enter_context(Child(f"stub-{latency_s:g}", command, place))
    stub.wait_until_ready(f"http://127.0.0.1:{port}/count")
    return Target("stub, direct", f"http://127.0.0.1:{port}{PATH}")


def start_nginx(stack: ExitStack, folder: Path, stub_port: int) -> tuple[Target, float]:
    """Target and boot seconds. Raises `ChildFailed` when nginx is missing or does not start."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ChildFailed("nginx is not installed on this machine")
    port = free_port()
    # Started by root, its workers would run as nobody, who may not read our folder.
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=folder, stub=stub_port, port=port, key=UPSTREAM_KEY)
    configuration = folder / "nginx.conf"
    configuration.write_text(text)
    command = [program, "-c", str(configuration), "-e", str(folder / "nginx.log")]
    nginx = stack.enter_context(Child("nginx", command, Place(GATEWAY_CORE, folder)))
    boot_s = nginx.wait_until_ready(f"http://127.0.0.1:{port}/count")
    return Target("nginx proxy", f"http://127.0.0.1:{port}{PATH}", pid=nginx.pid), boot_s


def install_litellm() -> Path:
    """The `litellm` program in its own virtual environment. Raises `ChildFailed`."""
    program = LITELLM_HOME / "bin" / "litellm"
    if program.exists():
        return program
    print("Installing LiteLLM into bench/.env-litellm (once, a minute or more) ...", flush=True)
    pip = [str(LITELLM_HOME / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(LITELLM_HOME)],
        [*pip, "install", "--quiet", "litellm[proxy]"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(LITELLM_HOME, ignore_errors=True)
            lines = done.stderr.strip().splitlines() or ["no reason given"]
            raise ChildFailed(f"LiteLLM could not be installed: {lines[-1][:200]}")
    return program


def start_litellm(stack: ExitStack, folder: Path, stub_port: int) -> tuple[Target, float]:
    """One worker, no database, no callbacks, quiet logs: its fastest configuration."""
    program = install_litellm()
    port = free_port()
    configuration = folder / "litellm.yaml"
    text = LITELLM.format(stub=stub_port, key=UPSTREAM_KEY, master=LITELLM_KEY)
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
    target = Target("LiteLLM proxy", f"http://127.0.0.1:{port}{PATH}", LITELLM_KEY, litellm.pid)
    return target, boot_s
