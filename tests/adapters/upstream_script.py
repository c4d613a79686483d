"""A provider that does what a test scripts, byte by byte, and remembers what it was asked."""

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.adapters.upstream.client import DieyuyunProvider
from app.adapters.upstream.transport import open_transport
from app.domain.errors import BillingEvidence, UpstreamError
from app.domain.images import GenerationRequest
from app.domain.upstream import UpstreamAnswer

KEY = "sk-upstream-0123456789abcdef"
KOI = GenerationRequest("grok-imagine", "a koi in a nebula", 1, "1024x1024", "standard")
LINK = "https://cdn.example.com/a.jpg"
P0, P1, P2, P3 = (
    BillingEvidence.NEVER_SENT,
    BillingEvidence.REFUSED,
    BillingEvidence.FAILED,
    BillingEvidence.UNKNOWN,
)
POLICY = "content_policy_violation"
TASK = "task_abc123"
HTML = b"<!doctype html><html><title>Just a moment...</title><body>502</body></html>"
OK_BODY = b'{"created":1,"data":[{"url":"https://a.example/b.png"}]}'
DONE = {"created": 1717000000, "data": [{"url": LINK, "revised_prompt": "a golden koi"}]}


@dataclass
class Asked:
    """One request as it arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Exchange:
    """One request under way; scripts write to it."""

    asked: Asked
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes, pause_s: float = 0) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            if pause_s:
                await asyncio.sleep(pause_s)

    async def gone(self) -> None:
        """Wait until the client is."""
        while await self.reader.read(4096):
            pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


def head(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} Scripted", *headers, "", ""]).encode()


def raw(status: int, body: bytes, *headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head(status, *headers, f"Content-Length: {len(body)}") + body)

    return script


def reply(status: int, body: Any, *headers: str) -> Script:
    return raw(status, json.dumps(body).encode(), "Content-Type: application/json", *headers)


def error(status: int, code: Any = None, message: str = "no", *headers: str, **more: Any) -> Script:
    return reply(status, {"error": {"message": message, "code": code, **more}}, *headers)


async def reset(exchange: Exchange) -> None:
    exchange.reset()


async def hang(exchange: Exchange) -> None:
    await exchange.gone()


def slowly(script: Script, after_s: float) -> Script:
    async def delayed(exchange: Exchange) -> None:
        await asyncio.sleep(after_s)
        await script(exchange)

    return delayed


@dataclass
class Scripted:
    """Answers the first request with the first script and so on; the last serves for ever."""

    scripts: list[Script]
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def posts(self) -> int:
        return sum(asked.line.startswith("POST") for asked in self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        connection = self.connections
        try:
            while True:
                asked = await _read(reader, connection)
                self.asked.append(asked)
                script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
                await script(Exchange(asked, reader, writer))
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader, connection: int) -> Asked:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = [(line.split(": ", 1)[0], line.split(": ", 1)[1]) for line in lines[1:] if line]
    length = int({k.lower(): v for k, v in headers}.get("content-length", 0))
    return Asked(lines[0], headers, await reader.readexactly(length), connection)


@asynccontextmanager
async def listening(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    scripted = Scripted(list(scripts))
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0, ssl=tls, limit=2**20)
    scripted.port = server.sockets[0].getsockname()[1]
    try:
        yield scripted
    finally:
        server.close()
        for writer in scripted.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def provider_at(
    url: str, *, tls: ssl.SSLContext | None = None, connections: int = 100, **settings: Any
) -> AsyncIterator[DieyuyunProvider]:
    durations = {"timeout_s": 15.0, "poll_timeout_s": 15.0}
    transport = open_transport(connections, tls=tls)
    provider = DieyuyunProvider(url, KEY, transport, **(durations | settings))
    try:
        yield provider
    finally:
        await provider.close()


@asynccontextmanager
async def scripted(
    *scripts: Script, **settings: Any
) -> AsyncIterator[tuple[DieyuyunProvider, Scripted]]:
    async with (
        listening(*scripts) as upstream,
        provider_at(f"http://127.0.0.1:{upstream.port}/v1", **settings) as provider,
    ):
        yield provider, upstream


def links(images: Sequence[Any]) -> list[str | None]:
    return [image.url for image in images]


async def submit(body: Any, status: int = 200, **settings: Any) -> UpstreamAnswer:
    async with scripted(reply(status, body), **settings) as (provider, _):
        return await provider.dispatch(KOI, asynchronous=True)


async def poll(body: Any, status: int = 200) -> UpstreamAnswer:
    async with scripted(reply(status, body)) as (provider, _):
        return await provider.poll(TASK)


async def refused(provider: DieyuyunProvider) -> UpstreamError:
    with pytest.raises(UpstreamError) as failed:
        await provider.dispatch(KOI, asynchronous=True)
    return failed.value
