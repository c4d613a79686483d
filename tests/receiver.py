"""A receiver of webhooks on loopback: what came, in order, and what it answers."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request: its path, headers (lower case), body, and when it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """`answer` maps a request to a status, or to (status, headers, body); it may take its time."""

    url: str
    got: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Any] = lambda _: 204

    def at(self, path: str) -> list[Received]:
        return [one for one in list(self.got) if one.path == path]

    def wait(self, path: str = "/", times: int = 1, within_s: float = 20) -> list[Received]:
        deadline = time.monotonic() + within_s
        while len(found := self.at(path)) < times:
            assert time.monotonic() < deadline, f"{len(found)} of {times} came to {path}"
            time.sleep(0.01)
        return found


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Received(self.path, headers, body, time.monotonic())
            receiver.got.append(request)
            said = receiver.answer(request)
            status, more, text = said if isinstance(said, tuple) else (said, {}, b"")
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in {**more, "content-length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield receiver
        server.shutdown()
