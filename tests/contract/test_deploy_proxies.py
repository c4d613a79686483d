"""The proxy snippets let long answers through and never send a POST twice."""

import asyncio
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.nginx import NGINX, needs_nginx, nginx, snippet_with, wrapped
from tests.ports import free_port

PROXIES = Path(__file__).parents[2] / "deploy" / "proxies"


@needs_nginx
def test_nginx_accepts_the_snippet(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=koi",
         "-keyout", "koi.key", "-out", "koi.crt"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    config = wrapped(tmp_path, snippet_with({"/etc/nginx/tls": str(tmp_path)}))

    done = subprocess.run([str(NGINX), "-t", "-c", str(config)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


class Backend:
    """A gateway that counts requests and answers with what it was given, piece by piece."""

    def __init__(self) -> None:
        self.requests = 0
        self.pieces: list[bytes] = []
        self.go_on = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length is not None:
            await reader.readexactly(int(length[1]))
        self.requests += 1
        for piece in self.pieces:
            writer.write(piece)
            await writer.drain()
            await self.go_on.wait()
        writer.close()


@pytest.fixture
async def backend() -> AsyncIterator[tuple[Backend, int]]:
    backend = Backend()
    server = await asyncio.start_server(backend.answer, "127.0.0.1", 0)
    async with server:
        yield backend, server.sockets[0].getsockname()[1]


@asynccontextmanager
async def call(
    port: int, method: str, path: str, content: bytes = b"{}"
) -> AsyncIterator[httpx.Response]:
    transport = httpx.AsyncHTTPTransport(retries=5)
    url = f"http://127.0.0.1:{port}{path}"
    async with (
        httpx.AsyncClient(transport=transport, timeout=10) as client,
        client.stream(method, url, content=content) as response,
    ):
        yield response


@needs_nginx
async def test_a_dropped_request_is_not_tried_again(
    tmp_path: Path, backend: tuple[Backend, int]
) -> None:
    gateway, port = backend

    with nginx(tmp_path, [port, port, port]) as proxy:
        async with call(proxy, "POST", "/v1/images/generations") as response:
            status = response.status_code

    assert status == 502
    assert gateway.requests == 1


@needs_nginx
async def test_a_gateway_that_refuses_the_connection_is_passed_over_every_time(
    tmp_path: Path, backend: tuple[Backend, int]
) -> None:
    gateway, port = backend
    gateway.pieces = [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]
    gateway.go_on.set()
    calls = 6

    with nginx(tmp_path, [free_port(), port]) as proxy:
        for _ in range(calls):
            async with call(proxy, "POST", "/v1/images/generations") as response:
                assert response.status_code == 200

    assert gateway.requests == calls


@needs_nginx
async def test_an_event_leaves_the_proxy_before_the_next_one_exists(
    tmp_path: Path, backend: tuple[Backend, int]
) -> None:
    gateway, port = backend
    gateway.pieces = [b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n", b""]

    with nginx(tmp_path, [port]) as proxy:
        async with call(proxy, "POST", "/v1/images/generations") as response:
            first = await anext(response.aiter_raw())
            gateway.go_on.set()

    assert first == b"data: 1\n\n"


@needs_nginx
@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/metrics?a"])
async def test_metrics_are_not_for_the_outside(
    tmp_path: Path, backend: tuple[Backend, int], path: str
) -> None:
    gateway, port = backend

    with nginx(tmp_path, [port]) as proxy:
        async with call(proxy, "GET", path) as response:
            status = response.status_code

    assert status == 404
    assert gateway.requests == 0


@needs_nginx
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/images/edits", 200),
        ("/v1/images/generations", 200),
        ("/openai/deployments/seedream/images/edits", 200),
        ("/images/edits/", 200),
        ("/v1/koi/configuration", 413),
        ("/v1/images/edits/more", 413),
    ],
)
async def test_pictures_pass_where_koi_takes_them_and_nothing_large_elsewhere(
    tmp_path: Path, backend: tuple[Backend, int], path: str, status: int
) -> None:
    gateway, port = backend
    gateway.pieces = [b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]
    gateway.go_on.set()

    with nginx(tmp_path, [port]) as proxy:
        async with call(proxy, "POST", path, bytes(6_000_000)) as response:
            assert response.status_code == status


def test_caddy_accepts_the_snippet() -> None:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("caddy is not installed")

    done = subprocess.run(
        [caddy, "validate", "--adapter", "caddyfile", "--config", str(PROXIES / "Caddyfile")],
        capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "nginx.conf",
            ["proxy_read_timeout 300s;", "proxy_buffering off;", "client_max_body_size"],
        ),
        ("Caddyfile", ["read_timeout 300s", "flush_interval -1", "lb_retries 0", "max_size"]),
    ],
)
def test_a_snippet_says_how_long_and_how_large(name: str, lines: list[str]) -> None:
    snippet = (PROXIES / name).read_text(encoding="utf-8")

    assert [line for line in lines if line not in snippet] == []
