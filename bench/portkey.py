"""Starts Portkey's gateway; npm installs what bench/portkey/package-lock.json names."""

import json
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.children import GATEWAY_CORE, Child, ChildFailed, Place, clean_environment, free_port
from bench.peers import HOME, PATH, PLAIN, UPSTREAM_KEY, Peer
from bench.target import Target, generation

PORTKEY = "Portkey, forwarding"
PORTKEY_HOME = HOME / ".env-portkey"
PACKAGE = PORTKEY_HOME / "node_modules" / "@portkey-ai" / "gateway"
LOCK = HOME / "portkey"


def install_portkey() -> Path:
    """Its program in a directory of its own. Raises `ChildFailed`."""
    program = PACKAGE / "build" / "start-server.js"
    if program.exists():
        return program
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise ChildFailed("node and npm are not installed on this machine")
    print("Installing Portkey's gateway into bench/.env-portkey (once) ...", flush=True)
    PORTKEY_HOME.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(LOCK / name, PORTKEY_HOME / name)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev"]
    done = subprocess.run(command, cwd=PORTKEY_HOME, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(PORTKEY_HOME, ignore_errors=True)
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise ChildFailed(f"Portkey could not be installed: {lines[-1][:200]}")
    return program


def start_portkey(stack: ExitStack, folder: Path, stub_port: int) -> Peer:
    """One process without its console. It takes the provider and the key from each request."""
    program = install_portkey()
    port = free_port()
    node = shutil.which("node") or "node"
    command = [node, str(program), f"--port={port}", "--headless"]
    env = clean_environment() | {"NODE_ENV": "production"}
    portkey = stack.enter_context(Child("portkey", command, Place(GATEWAY_CORE, folder), env))
    boot_s = portkey.wait_until_ready(f"http://127.0.0.1:{port}/")
    request = generation(f"http://127.0.0.1:{port}{PATH}", UPSTREAM_KEY, model=PLAIN)
    route = {
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{stub_port}/v1",
    }
    target = Target(PORTKEY, replace(request, headers=request.headers | route), portkey.pid)
    version = json.loads((PACKAGE / "package.json").read_text())["version"]
    return Peer(target, boot_s, str(version))
