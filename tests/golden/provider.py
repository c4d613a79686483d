"""A provider that was not restarted with the gateway: it knows the tasks that a data directory left
open, each with its number of images, and has finished them."""

import json
import struct
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


PNG = b"".join(
    [
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(b"".join(b"\0" + bytes(range(24)) for _ in range(8)))),
        _chunk(b"IEND", b""),
    ]
)


@dataclass
class Provider:
    """What it knows, and how often something was bought of it since."""

    tasks: Mapping[str, int]
    port: int = 0
    posts: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, provider: Provider, *rest: Any) -> None:
        self._provider = provider
        super().__init__(*rest)

    def do_GET(self) -> None:
        task_id = self.path.rpartition("/")[2]
        if self.path.startswith("/cdn/"):
            self._reply(200, PNG, "image/png")
        elif self.path == "/v1/models":
            self._json(200, {"object": "list", "data": []})
        elif task_id in self._provider.tasks:
            images = self._images(task_id, self._provider.tasks[task_id])
            self._json(200, {"id": task_id, "status": "completed", "progress": 100, **images})
        else:
            self._json(404, {"error": {"code": "task_not_found", "message": "no such task"}})

    def do_POST(self) -> None:
        self._provider.posts += 1
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._json(200, self._images("new", asked.get("n", 1)))

    def _images(self, name: str, n: int) -> dict[str, Any]:
        host = f"http://127.0.0.1:{self._provider.port}"
        urls = [{"url": f"{host}/cdn/{name}-{index}.png"} for index in range(n)]
        return {"created": 1, "data": urls}

    def _json(self, status: int, body: Any) -> None:
        self._reply(status, json.dumps(body).encode(), "application/json")

    def _reply(self, status: int, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(tasks: Mapping[str, int]) -> Iterator[Provider]:
    """The provider on a port of this machine."""
    provider = Provider(tasks)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, provider))
    provider.port = server.server_port
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
