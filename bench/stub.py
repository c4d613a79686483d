"""A provider stub as fast as Python allows, so that the benchmark measures the gateway."""

import argparse
import asyncio
import base64
import json
import re
import struct
import time
import zlib
from dataclasses import dataclass
from typing import cast

import uvloop

REVISED = (
    "A surreal artwork of an astronaut in a white spacesuit riding a magnificent golden koi fish, "
    "swimming through a colorful nebula filled with purple and blue cosmic dust, stars twinkling "
    "in the background, every scale of the fish catching the light of a distant sun"
)
MODEL = re.compile(rb'"model"\s*:\s*"([^"]*)"')
WAIT = re.compile(rb" wait (\d+\.\d+)")
SIZE = re.compile(r"-(\d+)kb$")
OLD_S = 30.0
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


class Pictures:
    """Pictures by their size; a model whose name ends in `-60kb` makes one of 60 KB."""

    def __init__(self, origin: str, default_kb: int, *, inline: bool) -> None:
        self._origin = origin
        self._default_kb = default_kb
        self._inline = inline
        self._made: dict[int, bytes] = {}

    def size_kb(self, model: str) -> int:
        found = SIZE.search(model)
        return int(found[1]) if found else self._default_kb

    def content(self, kb: int) -> bytes:
        if kb not in self._made:
            self._made[kb] = png(at_least=kb * 1024)
        return self._made[kb]

    def item(self, kb: int, number: int) -> dict[str, str]:
        if self._inline:
            return {"b64_json": base64.b64encode(self.content(kb)).decode()}
        return {"url": f"{self._origin}/img/{kb}/{number:012d}.png?{SIGNATURE}"}


@dataclass(slots=True)
class Task:
    """A task ends when its time has come and it was asked after often enough."""

    kb: int
    began_at: float
    ready_at: float
    polls_left: int
    polled_at: float | None = None


class Gaps:
    """Seconds between two polls of one task, once it is older than half a minute."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def note(self, task: Task) -> None:
        now = time.monotonic()
        if task.polled_at is not None and task.polled_at - task.began_at > OLD_S:
            self._seconds.append(now - task.polled_at)
        task.polled_at = now

    def report(self) -> dict[str, float | int | None]:
        """Since the last report."""
        ordered, self._seconds = sorted(self._seconds), []
        if not ordered:
            return {"polls": 0, "mean_s": None, "p99_s": None}
        mean_s, high_s = sum(ordered) / len(ordered), ordered[int(len(ordered) * 0.99)]
        return {"polls": len(ordered), "mean_s": mean_s, "p99_s": high_s}


class Provider:
    """The answers and counts of the stub. `latency_s` is the time of a generation; a task also
    takes `polls`, the last of which brings the result."""

    def __init__(self, pictures: Pictures, latency_s: float, polls: int) -> None:
        self.latency_s = latency_s
        self.posts = self.polls = self.images = 0
        self._polls_each = polls
        self._pictures = pictures
        self._images: dict[int, bytes] = {}
        self._tasks: dict[str, Task] = {}
        self._gaps = Gaps()

    def result(self, kb: int) -> bytes:
        """The documented reply, about 700 bytes with a link."""
        item = self._pictures.item(kb, self.posts) | {"revised_prompt": REVISED}
        reply = {"created": int(time.time()), "data": [item]}
        return _answer(b"200 OK", json.dumps(reply).encode())

    def post(self, body: bytes) -> tuple[float, bytes]:
        """Seconds to wait, and the reply."""
        self.posts += 1
        model = MODEL.search(body)
        kb = self._pictures.size_kb(model[1].decode() if model else "")
        told = WAIT.search(body) if b" wait " in body else None
        wait_s = float(told[1]) if told else self.latency_s
        if b'"async"' in body and json.loads(body).get("async") is True:
            name, now = f"task_{self.posts:012d}", time.monotonic()
            self._tasks[name] = Task(kb, now, now + wait_s, self._polls_each)
            return 0.0, self._task(name, "queued", 0)
        return wait_s, self.result(kb)

    def get(self, path: str) -> bytes:
        if path.startswith("/img/"):
            self.images += 1
            return self._image(int(path.split("/")[2]))
        if path.startswith("/v1/tasks/"):
            self.polls += 1
            return self._poll(path.removeprefix("/v1/tasks/"))
        if path == "/count":
            counts = {"posts": self.posts, "polls": self.polls, "images": self.images}
            return _answer(b"200 OK", json.dumps(counts).encode())
        if path == "/gaps":
            return _answer(b"200 OK", json.dumps(self._gaps.report()).encode())
        return _answer(b"404 Not Found", b'{"error":{"message":"unknown path"}}')

    def _image(self, kb: int) -> bytes:
        if kb not in self._images:
            self._images[kb] = _answer(b"200 OK", self._pictures.content(kb), b"image/png")
        return self._images[kb]

    def _poll(self, name: str) -> bytes:
        task = self._tasks.get(name)
        if task is None:
            return _answer(b"404 Not Found", b'{"error":{"message":"unknown task"}}')
        self._gaps.note(task)
        task.polls_left -= 1
        if task.polls_left <= 0 and time.monotonic() >= task.ready_at:
            return self.result(task.kb)
        return self._task(name, "processing", 50)

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
    pictures = Pictures(origin, options.image_kb, inline=options.image == "b64")
    provider = Provider(pictures, options.latency, options.polls)
    server = await loop.create_server(
        lambda: Connection(provider, loop), "127.0.0.1", options.port, backlog=4096
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds a generation takes")
    parser.add_argument("--polls", type=int, default=1, help="polls until a task is done")
    parser.add_argument("--image", choices=("url", "b64"), default="url")
    parser.add_argument("--image-kb", type=int, default=0, help="pad the picture to this size")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
