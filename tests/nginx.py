"""nginx with the snippet we ship, on a free port, without TLS."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.ports import free_port

SNIPPET = Path(__file__).parents[1] / "deploy" / "proxies" / "nginx.conf"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def wrapped(directory: Path, snippet: str) -> Path:
    """A whole configuration around the snippet, with every file in `directory`."""
    temporary = "\n".join(
        f"  {kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off; master_process off; pid {directory}/pid; error_log {directory}/error.log;\n"
        f"events {{}}\nhttp {{\n  access_log off;\n{temporary}\n{snippet}\n}}\n"
    )
    return config


def snippet_with(changes: dict[str, str]) -> str:
    snippet = SNIPPET.read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in snippet
        snippet = snippet.replace(old, new)
    return snippet


@contextmanager
def nginx(directory: Path, backends: Sequence[int]) -> Iterator[int]:
    """The port it listens on, in front of these ports."""
    port = free_port()
    servers = "\n".join(f"server 127.0.0.1:{backend} max_fails=0;" for backend in backends)
    snippet = snippet_with(
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port};",
            "ssl_certificate     /etc/nginx/tls/koi.crt;": "",
            "ssl_certificate_key /etc/nginx/tls/koi.key;": "",
            "server 127.0.0.1:8000 max_fails=0;": servers,
        }
    )
    process = subprocess.Popen([str(NGINX), "-c", str(wrapped(directory, snippet))])
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)
