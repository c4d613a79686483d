"""A gateway's front door: where it listens, who may enter, and raw bytes in both directions."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import openai
import uvicorn

from app.server.uvicorn_options import build_uvicorn_options
from tests.contract.stand_in import Stage


@dataclass
class Answer:
    """One HTTP response off the wire. `closed` is true when the server ended the connection."""

    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.json["error"]


@dataclass
class Door:
    """`key` belongs to ann, `other_key` to bob; `narrow_key` may not use grok-imagine."""

    host: str
    port: int
    key: str = "koi-ann-0123456789"
    other_key: str = "koi-bob-0123456789"
    narrow_key: str = "koi-cat-0123456789"
    stage: Stage = field(default_factory=Stage)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def send(self, raw: bytes, *, timeout_s: float = 30.0, head: bool = False) -> Answer:
        """Write bytes, read one response."""
        with socket.create_connection((self.host, self.port), timeout=timeout_s) as wire:
            # Refused before everything was written: the answer is what counts.
            with suppress(BrokenPipeError, ConnectionResetError):
                wire.sendall(raw)
            return read_answer(wire, head=head)

    def post(
        self,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        path: str = "/v1/images/generations",
        key: str | None = None,
    ) -> Answer:
        """POST a body as JSON, unless the headers say otherwise (a None value drops one)."""
        sent: dict[str, Any] = {
            "Host": f"{self.host}:{self.port}",
            "Authorization": f"Bearer {key or self.key}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }
        lines = [f"{name}: {value}" for name, value in sent.items() if value is not None]
        head = "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""])
        return self.send(head.encode("latin-1") + body)

    def call(
        self, method: str, path: str, headers: dict[str, str] | None = None, *, key: str | None = ""
    ) -> Answer:
        """A request without a body; `key` None goes without a credential."""
        sent = {"Host": f"{self.host}:{self.port}", **(headers or {})}
        if key is not None:
            sent["Authorization"] = f"Bearer {key or self.key}"
        lines = [f"{name}: {value}" for name, value in sent.items()]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])
        return self.send(head.encode("latin-1"), head=method == "HEAD")


def read_answer(wire: socket.socket, raw: bytes = b"", *, head: bool = False) -> Answer:
    while b"\r\n\r\n" not in raw:
        raw += _some(wire, raw)
    top, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = top.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    status = int(first.split(" ")[1])
    if status == 100:
        return read_answer(wire, body)
    if not head and status not in (204, 304):
        length = int(headers.get("content-length", "0"))
        while len(body) < length:
            body += _some(wire, body)
    closed = headers.get("connection") == "close" and _ended(wire)
    return Answer(status, headers, body, closed)


def _some(wire: socket.socket, so_far: bytes) -> bytes:
    chunk = wire.recv(65_536)
    if not chunk:
        raise ConnectionError(f"the server closed after {so_far[:200]!r}")
    return chunk


def _ended(wire: socket.socket) -> bool:
    try:
        return wire.recv(1) == b""
    except ConnectionResetError:
        return True


@contextmanager
def served(app: Any, **options: object) -> Iterator[tuple[str, int]]:
    """The app under uvicorn with the gateway's own protocol, in a thread."""
    usual = build_uvicorn_options(host="127.0.0.1", port=0)
    server = uvicorn.Server(uvicorn.Config(app, **{**usual, **options}))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the gateway did not start")
        time.sleep(0.005)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    try:
        yield host, port
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def wait_until(happened: Callable[[], object], within_s: float = 20) -> None:
    """Return once something happened on the other side; fail when it does not."""
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def sdk(door: Door, **options: Any) -> openai.OpenAI:
    """The official client, pointed at this door."""
    given = {"api_key": door.key, "base_url": f"{door.url}/v1", "timeout": 5, **options}
    return openai.OpenAI(**given)
