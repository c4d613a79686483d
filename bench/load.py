"""The load generator: keep-alive clients in a process of their own. It reads one task in JSON per
line, does it, and answers with one line of JSON; nothing is started between two measurements."""

import asyncio
import gc
import json
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

MARK = "KOIKOIKOIKOI"
HEAD_END = b"\r\n\r\n"
CHUNKS_END = b"\r\n0\r\n\r\n"
KEPT_BYTES = 2048
WORD_BYTES = 32
GOLDEN = 0.6180339887


class Requests:
    """The bytes of each next request: `MARK` in the body becomes a new number each time, after a
    word that no other run has sent; without it all requests are the same. With `waits`, two times
    in seconds, each request also tells the stub how long to take, evenly spread between them."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        parts = urlsplit(request["url"])
        self.host, self.port = parts.hostname or "", parts.port or 80
        self._waits: list[float] = request.get("waits") or []
        self._sent = 0
        run = secrets.token_hex(12)
        body = request.get("body", "").replace(MARK, f"{run} {MARK}")
        length = len(body) + (WORD_BYTES - len(MARK) if MARK in body else 0)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {"Host": parts.netloc, **request.get("headers", {})}
        if body:
            headers |= {"Content-Type": "application/json", "Content-Length": str(length)}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        whole = f"{request.get('method', 'GET')} {path} HTTP/1.1\r\n{head}\r\n{body}"
        self._parts = whole.encode().split(MARK.encode())

    def next(self) -> tuple[bytes, float]:
        """The request, and the seconds that the stub will take for it."""
        if len(self._parts) == 1:
            return self._parts[0], 0.0
        self._sent += 1
        word, wait_s = b"%012d" % self._sent, 0.0
        if self._waits:
            low, high = self._waits
            wait_s = round(low + (high - low) * (self._sent * GOLDEN % 1), 3)
            word += b" wait %.3f" % wait_s
        return self._parts[0] + word.ljust(WORD_BYTES) + self._parts[1], wait_s


class Client(asyncio.Protocol):
    """One connection. `ask` resolves to the status, or to a word for how it failed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, expected: bytes) -> None:
        self._loop = loop
        self._expected = expected
        self._head = b""
        self._got = 0
        self._wanted: int | None = None
        self._tail = b""
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio.Transport.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._settle("reset" if exc else "closed")

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> "asyncio.Future[str]":
        assert self._transport is not None
        self._head, self._got, self._wanted, self._tail = b"", 0, None, b""
        self._answer = self._loop.create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        if len(self._head) < KEPT_BYTES:
            self._head += data[:KEPT_BYTES]
        if self._wanted is None and not self._measure():
            return
        if self._wanted:
            ended = self._got >= self._wanted
        else:
            self._tail = (self._tail + data[-len(CHUNKS_END) :])[-len(CHUNKS_END) :]
            ended = self._tail == CHUNKS_END
        if ended:
            known = self._expected in self._head
            self._settle(self._head[9:12].decode() if known else "unexpected")

    def _measure(self) -> bool:
        """Read how long the answer is, once its head is there; 0 when it comes in chunks."""
        end = self._head.find(HEAD_END)
        if end < 0:
            return False
        head = self._head[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        chunked = b"\r\ntransfer-encoding:" in head
        length = 0 if at < 0 else int(head[at + 17 :].split(b"\r\n", 1)[0])
        self._wanted = 0 if chunked else end + len(HEAD_END) + length
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _settle(self, outcome: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(outcome)


class Load:
    """Sends the requests of one task and counts the answers. Latencies are seconds, without those
    that the stub was told to take."""

    def __init__(self, task: Mapping[str, Any]) -> None:
        self._requests = Requests(task["request"])
        self._status = str(task.get("status", 200))
        self._expected = str(task.get("expected", "")).encode()
        self._loop = asyncio.get_running_loop()
        self._idle: list[Client] = []
        self._in_flight = 0
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()
        self.in_time = 0
        self.most_in_flight = 0

    async def closed(self, connections: int, duration_s: float) -> None:
        """Every connection sends its next request as soon as it has an answer."""
        clients = [await self._connect() for _ in range(connections)]
        ends = time.perf_counter() + duration_s
        await asyncio.gather(*(self._repeat(client, ends) for client in clients))

    async def counted(self, requests: int) -> None:
        """One connection sends so many, one after another."""
        client = await self._connect()
        for _ in range(requests):
            began = time.perf_counter()
            await self._send(client, began)
        client.close()

    async def open(self, rate: float, duration_s: float) -> None:
        """Requests start at `rate` per second, whenever the answers come."""
        started = time.perf_counter()
        pending = []
        for i in range(int(rate * duration_s)):
            due = started + i / rate
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            pending.append(asyncio.create_task(self._once(due)))
        await asyncio.gather(*pending)
        for client in self._idle:
            client.close()

    async def _connect(self) -> Client:
        host, port = self._requests.host, self._requests.port
        make = lambda: Client(self._loop, self._expected)  # noqa: E731
        _, client = await self._loop.create_connection(make, host, port)
        return client

    async def _repeat(self, client: Client, ends: float) -> None:
        while (began := time.perf_counter()) < ends:
            if not client.usable:
                client = await self._connect()
            await self._send(client, began, ends)
        client.close()

    async def _once(self, due: float) -> None:
        # Latency counts from when the request was due, or a stalled generator would hide it.
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        client = self._idle.pop() if self._idle else await self._connect()
        if not client.usable:
            client = await self._connect()
        await self._send(client, due)
        self._in_flight -= 1
        self._idle.append(client)

    async def _send(self, client: Client, began: float, ends: float = float("inf")) -> None:
        request, wait_s = self._requests.next()
        outcome = await client.ask(request)
        now = time.perf_counter()
        if outcome != self._status:
            self.errors[outcome] += 1
            return
        self.latencies.append(now - began - wait_s)
        self.in_time += now <= ends

    def report(self, duration_s: float) -> dict[str, object]:
        """`requests` counts all good answers, `rps` only those before the end."""
        ordered = sorted(self.latencies)
        return {
            "requests": len(ordered),
            "rps": self.in_time / duration_s,
            "p50_ms": _percentile_ms(ordered, 0.50),
            "p99_ms": _percentile_ms(ordered, 0.99),
            "max_ms": _percentile_ms(ordered, 1.0),
            "errors": sum(self.errors.values()),
            "error_kinds": dict(self.errors),
            "most_in_flight": self.most_in_flight,
        }


def _percentile_ms(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


async def run(task: Mapping[str, Any]) -> dict[str, object]:
    load = Load(task)
    if task.get("requests"):
        await load.counted(task["requests"])
    elif task.get("rate"):
        await load.open(task["rate"], task["duration_s"])
    else:
        await load.closed(task.get("connections", 1), task["duration_s"])
    return load.report(task.get("duration_s", 1.0))


def tasks() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def main() -> None:
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for task in tasks():
            print(json.dumps(runner.run(run(task))), flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
