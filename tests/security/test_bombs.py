"""Answers made to hurt: bombs, floods and pictures that are not what they seem (S8, S10).

One gateway process meets them all at once. It asks for each once, fails honestly, and its memory
stays bounded.
"""

import asyncio
import gzip
import json
import re
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import brotli
import httpx
import pytest

from app.adapters.http.codings import zstd
from tests.flow.command import Cli
from tests.flow.test_generate import GENERATE
from tests.harness import PRICED
from tests.made import MadeOnce
from tests.pictures import drawn
from tests.security.trap import listening

MOST_RISE_MB = 400
"""Two answers of 64 MiB and three pictures of 20 MiB at once, read and joined."""


def png(width: int, height: int, body: bytes = b"\x00") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(body))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 3) + b"\x01\x11\x00\x02\x11\x00\x03\x11\x00"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


PNG = png(64, 64, bytes(64 * 193))
BOMBS = MadeOnce(
    {
        "gzip": lambda: gzip.compress(bytes(2**20)) * 1024,
        "gzip, gzip": lambda: gzip.compress(BOMBS["gzip"]),
        "br": lambda: brotli.compress(bytes(2**26), quality=1),
        "zstd": lambda: zstd.compress(bytes(2**28)),
    }
)
PAGE = b"<!doctype html><script>alert(document.domain)</script>"


def head(kind: str, *headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Type: {kind}", *headers, "", ""]).encode()


def whole(kind: str, body: bytes, *headers: str) -> tuple[bytes, ...]:
    return (head(kind, f"Content-Length: {len(body)}", "Connection: close", *headers) + body,)


def bomb(kind: str, coding: str, *headers: str) -> tuple[bytes, ...]:
    return whole(kind, BOMBS[coding], *headers)


def flood(kind: str, first: bytes, *headers: str) -> Iterator[bytes]:
    yield head(kind, *headers) + first
    while True:
        yield b"100000\r\n" + b" " * 2**20 + b"\r\n" if headers else b" " * 2**20


JSON = "application/json"
ANSWERS = {
    "answer-gzip": partial(bomb, JSON, "gzip", "Content-Encoding: gzip"),
    "answer-x-gzip": partial(bomb, JSON, "gzip", "Content-Encoding: x-gzip"),
    "answer-br": partial(bomb, JSON, "gzip", "Content-Encoding: br"),
    "answer-zstd": partial(bomb, JSON, "gzip", "Content-Encoding: zstd"),
    "answer-nested": partial(bomb, JSON, "gzip, gzip", "Content-Encoding: gzip, gzip"),
    "answer-gzip-untold": partial(bomb, JSON, "gzip"),
    "answer-chunked": partial(flood, JSON, b"", "Transfer-Encoding: chunked"),
    "answer-endless": partial(flood, JSON, b'{"data": ['),
    "answer-deep": partial(whole, JSON, b'{"a":' * 200_000 + b"1" + b"}" * 200_000),
}
PICTURES = {
    "picture-gzip": partial(bomb, "image/png", "gzip", "Content-Encoding: gzip"),
    "picture-zstd": partial(bomb, "image/png", "zstd", "Content-Encoding: zstd"),
    "picture-br": partial(bomb, "image/png", "br", "Content-Encoding: br"),
    "picture-nested": partial(bomb, "image/png", "gzip", "Content-Encoding: identity, gzip"),
    "picture-chunked": partial(flood, "image/png", PNG, "Transfer-Encoding: chunked"),
    "picture-endless": partial(flood, "image/png", PNG),
    "picture-announced": partial(whole, "image/png", PNG, "Content-Length: 99999999999"),
    "picture-vast-jpeg": partial(whole, "image/jpeg", jpeg(65_535, 65_535)),
    "picture-cut": lambda: (head("image/png", f"Content-Length: {len(PNG)}") + PNG[:-9],),
    "picture-cut-head": partial(whole, "image/png", PNG[:15]),
    "picture-page": partial(whole, "image/png", PAGE),
}
HARMLESS = {
    "picture-polyglot": partial(whole, "text/html", PNG + PAGE),
    "picture-gif-polyglot": partial(whole, "text/html", drawn("GIF", "P") + PAGE),
}
"""Pictures to every reader of headers, and pages to a browser that sniffs: served so that none
does."""
SAVED = {
    "picture-gzip-untold": partial(bomb, "image/png", "gzip"),
    "picture-zstd-untrue": partial(bomb, "image/png", "gzip", "Content-Encoding: zstd"),
    "picture-vast": partial(whole, "image/png", png(2**31 - 1, 2**31 - 1)),
    "picture-wide": partial(whole, "image/png", png(100_000, 100_000, bytes(2**20))),
    "picture-flat": partial(whole, "image/png", png(0, 10)),
    "picture-svg": partial(whole, "image/svg+xml", b"<svg xmlns='x' onload='alert(1)'/>"),
}
"""What the provider made, whatever it is: kept, and served only to be saved."""
CASES = {**ANSWERS, **PICTURES, **HARMLESS, **SAVED}


@dataclass
class Liar:
    """Provider and picture host in one; a prompt says which case its caller is to meet."""

    port: int = 0
    posts: Counter[str] = field(default_factory=Counter)

    def serve(self, line: socket.socket) -> None:
        with line, suppress(OSError), line.makefile("rb") as reader:
            request = reader.readline().split(b" ")
            if len(request) < 2:
                return  # a connection that was opened ahead, or given up
            headers = dict(self._headers(reader))
            body = reader.read(int(headers.get("content-length", 0)))
            for piece in self._answer(request[0].decode(), request[1].decode(), body):
                line.sendall(piece)

    def _headers(self, reader: "socket.SocketIO") -> Iterator[tuple[str, str]]:
        while line := reader.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()

    def _answer(self, method: str, path: str, body: bytes) -> Iterator[bytes]:
        case = path.rpartition("/")[2]
        if method == "POST":
            case = json.loads(body)["prompt"]
            self.posts[case] += 1
            if case in ANSWERS:
                return iter(ANSWERS[case]())
            told = {"id": f"task_{case}", "status": "queued", "progress": 0}
        elif case.startswith("task_"):
            url = f"http://127.0.0.1:{self.port}/{case.removeprefix('task_')}"
            told = {"id": case, "status": "completed", "created": 1, "data": [{"url": url}]}
        elif case in CASES:
            return iter(CASES[case]())
        else:
            told = {"object": "list", "data": []}
        return iter(whole(JSON, json.dumps(told).encode()))


@contextmanager
def lying() -> Iterator[Liar]:
    liar = Liar()
    with listening(liar.serve) as liar.port:
        yield liar


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


async def meet_all(url: str, key: str) -> dict[str, httpx.Response]:
    headers = {"authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits) as c:
        calls = [c.post(GENERATE, json={"prompt": case}) for case in CASES]
        return dict(zip(CASES, await asyncio.gather(*calls), strict=True))


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a peak of memory"
)
def test_bombs_cost_one_post_an_honest_failure_and_little_memory(tmp_path: Path) -> None:
    with lying() as liar:
        cli = Cli(
            tmp_path,
            {
                "KOI_UPSTREAM_BASE_URL": f"http://127.0.0.1:{liar.port}/v1",
                "KOI_UPSTREAM_API_KEY": "sk-liar-1",
                "KOI_UPSTREAM_POLL_INTERVAL_S": "0.2",
                "KOI_UPSTREAM_TIMEOUT_S": "20",
                "KOI_TASK_DEADLINE_S": "5",
                "KOI_COLLECT_WAIT_S": "8",
                "KOI_IMAGE_MAX_MB": "20",
                "KOI_CATALOG": str(PRICED),
            },
        )
        key = cli.key()
        with cli.forked() as serving:
            pid = serving.process.pid
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
            before_mb = peak_mb(pid)
            answers = asyncio.run(meet_all(serving.url, key))
            rise_mb = peak_mb(pid) - before_mb
            served = {
                case: httpx.get(answers[case].json()["data"][0]["url"])
                for case in (*HARMLESS, *SAVED)
            }
            alive = httpx.get(f"{serving.url}/livez").status_code

    codes = {case: answer.json().get("error", {}).get("code") for case, answer in answers.items()}
    for case in PICTURES:
        # On a busy machine the task's deadline may come before the first look at it.
        codes[case] = codes[case].replace("upstream_timeout", "still_processing")
    assert codes == {
        **dict.fromkeys(ANSWERS, "upstream_invalid_response"),
        **dict.fromkeys(PICTURES, "still_processing"),
        **dict.fromkeys((*HARMLESS, *SAVED)),
    }
    assert liar.posts == Counter(dict.fromkeys(CASES, 1))
    assert rise_mb < MOST_RISE_MB
    assert alive == 200
    for case, answer in served.items():
        saved = answer.headers["content-disposition"].startswith("attachment")
        kinds = (
            ("application/octet-stream", "image/svg+xml") if saved else ("image/png", "image/gif")
        )
        assert saved is (case in SAVED)
        assert answer.headers["content-type"] in kinds
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
