"""A host of pictures that says exactly what a test wants."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from queue import Queue

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + (9).to_bytes(4, "big") * 2 + b"pixels" * 50
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = PNG, *headers: str, status: str = "200 OK", length: bool = True) -> Answer:
    async def write(client: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", *headers]
        lines += [f"Content-Length: {len(body)}"] if length else ["Connection: close"]
        client.write("\r\n".join([*lines, "", ""]).encode() + body)

    return write


def redirect(location: str, status: str = "302 Found") -> Answer:
    return answer(b"", f"Location: {location}", status=status)


@dataclass
class Origin:
    """An HTTP server that says exactly what a test wants, and remembers what it was asked."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [request.split(" ")[1] for request in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(request)
            await self.answers[self.paths[-1]](writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Origin]:
    origin = Origin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", port, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    async with server:
        yield origin


@contextmanager
def origin_in_a_thread() -> Iterator[Origin]:
    """The same host for tests that do not run in a loop themselves."""
    ready: Queue[tuple[Origin, asyncio.AbstractEventLoop, asyncio.Event]] = Queue()

    async def live() -> None:
        async with listening() as origin:
            over = asyncio.Event()
            ready.put((origin, asyncio.get_running_loop(), over))
            await over.wait()

    thread = threading.Thread(target=asyncio.run, args=(live(),))
    thread.start()
    origin, loop, over = ready.get(timeout=10)
    try:
        yield origin
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
