"""Starts the stub and nginx, as its manual says."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.children import GATEWAY_CORE, LOAD_CORE, Child, ChildFailed, Place, free_port
from bench.target import Target, generation

HOME = Path(__file__).parent
PATH = "/v1/images/generations"
UPSTREAM_KEY = "sk-upstream-of-the-benchmark"

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

PLAIN = "picture-5kb"


@dataclass(frozen=True, slots=True)
class Peer:
    """A gateway that runs, and the seconds from its start to its first answer."""

    target: Target
    boot_s: float
    version: str


def start_stub(stack: ExitStack, folder: Path, latency_s: float = 0.0, *options: object) -> Target:
    """Start the stub on the load generator's core; the target is the stub itself."""
    port = free_port()
    command = [sys.executable, str(HOME / "stub.py"), "--port", str(port)]
    command += ["--latency", str(latency_s), *map(str, options)]
    place = Place(LOAD_CORE, folder)
    stub = stack.enter_context(Child(f"stub-{latency_s:g}", command, place))
    stub.wait_until_ready(f"http://127.0.0.1:{port}/count")
    url = f"http://127.0.0.1:{port}{PATH}"
    return Target("stub, direct", generation(url, UPSTREAM_KEY, model=PLAIN))


def start_nginx(stack: ExitStack, folder: Path, stub_port: int) -> Peer:
    """Raises `ChildFailed` when nginx is missing or does not start."""
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
    request = generation(f"http://127.0.0.1:{port}{PATH}", "none", model=PLAIN)
    target = Target("nginx, forwarding", request, nginx.pid)
    return Peer(target, boot_s, _version(program))


def _version(program: str) -> str:
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return (said.stderr or said.stdout).strip().rpartition("/")[2].split(" ")[0]
