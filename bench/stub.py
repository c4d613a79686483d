"""A provider stub as fast as Python allows, so that the benchmark measures the gateway."""

import argparse
import asyncio
import base64
import json
import struct
import time
import zlib
from typing import cast

import uvloop

REVISED = (
    "A surreal artwork of an astronaut in a white spacesuit riding a magnificent golden koi fish, "
    "swimming through a colorful nebula filled with purple and blue cosmic dust, stars twinkling "
    "in the background, every scale of the fish catching the light of a distant sun"
)
SIGNATURE = "X-Expires=86400&X-Signature=" + "0123456789abcdef" * 12


def png(width: int = 1024, height: int = 1024, at_least: int = 0) -> bytes:
    """A real image in one colour; a private chunk pads it to `at_least` bytes."""
    rows = (b"\x00" + b"\x1f\x6f\x9f" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [_chunk(b"IHDR", head), _chunk(b"IDAT", zlib.compress(rows, 9)), _chunk(b"IEND", b"")]
    missing = at_least - 8 - sum(map(len, chunks)) - 12
    if missing > 0:
        chunks.insert(1, _chunk(b"koIp", bytes(missing)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _answer(status: bytes, body: bytes, kind: bytes = b"application/json") -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


class Provider:
    """The answers and counts of the stub. `latency_s` is the time of a generation."""

    def __init__(self, origin: str, latency_s: float, picture: bytes, *, inline: bool) -> None:
        self.latency_s = latency_s
        self.posts = self.polls = self.images = 0
        self._origin = origin
        self._inline = base64.b64encode(picture).decode() if inline else ""
        self._image = _answer(b"200 OK", picture, b"image/png")
        self._ready_at: dict[str, float] = {}

    def result(self) -> bytes:
        """The documented reply, about 700 bytes with a link."""
        item = {"b64_json": self._inline}
        if not self._inline:
            item = {"url": f"{self._origin}/img/{self.posts:012d}.png?{SIGNATURE}"}
        item["revised_prompt"] = REVISED
        reply = {"created": int(time.time()), "data": [item]}
        return _answer(b"200 OK", json.dumps(reply).encode())

    def post(self, body: bytes) -> tuple[float, bytes]:
        """Seconds to wait, and the reply."""
        self.posts += 1
        if b'"async"' in body and json.loads(body).get("async") is True:
            name = f"task_{self.posts:012d}"
            self._ready_at[name] = time.monotonic() + self.latency_s
            return 0.0, self._task(name, "queued", 0)
        return self.latency_s, self.result()

    def get(self, path: str) -> bytes:
        if path.startswith("/img/"):
            self.images += 1
            return self._image
        if path.startswith("/v1/tasks/"):
            self.polls += 1
            return self._poll(path.removeprefix("/v1/tasks/"))
        if path == "/count":
            counts = {"posts": self.posts, "polls": self.polls, "images": self.images}
            return _answer(b"200 OK", json.dumps(counts).encode())
        return _answer(b"404 Not Found", b'{"error":{"message":"unknown path"}}')

    def _poll(self, name: str) -> bytes:
        ready_at = self._ready_at.get(name)
        if ready_at is None:
            return _answer(b"404 Not Found", b'{"error":{"message":"unknown task"}}')
        return self.result() if time.monotonic() >= ready_at else self._task(name, "processing", 50)

    def _task(self, name: str, status: str, progress: int) -> bytes:
        task = {"id": name, "status": status, "progress": progress}
        return _answer(b"200 OK", json.dumps(task).encode())


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests on it are answered in turn."""

    def __init__(self, provider: Provider, loop: asyncio.AbstractEventLoop) -> None:
        self._provider = provider
        self._loop = loop
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            size = end + 4 + _content_length(head)
            if len(self._buffer) < size:
                return
            body, self._buffer = self._buffer[end + 4 : size], self._buffer[size:]
            self._reply(head, body)

    def _reply(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b"\r\n", 1)[0].split(b" ", 2)
        if method == b"POST":
            wait_s, reply = self._provider.post(body)
        else:
            wait_s, reply = 0.0, self._provider.get(path.decode())
        if wait_s:
            self._loop.call_later(wait_s, self._write, reply)
        else:
            self._write(reply)

    def _write(self, reply: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(reply)


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    return 0 if at < 0 else int(lower[at + 17 :].split(b"\r\n", 1)[0])


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    origin = f"http://127.0.0.1:{options.port}"
    picture = png(at_least=options.image_kb * 1024)
    provider = Provider(origin, options.latency, picture, inline=options.image == "b64")
    server = await loop.create_server(
        lambda: Connection(provider, loop), "127.0.0.1", options.port, backlog=4096
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds a generation takes")
    parser.add_argument("--image", choices=("url", "b64"), default="url")
    parser.add_argument("--image-kb", type=int, default=0, help="pad the picture to this size")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
