"""The load generator: keep-alive clients in their own process; prints a report in JSON."""

import argparse
import asyncio
import gc
import json
import secrets
import time
from collections import Counter
from typing import cast
from urllib.parse import urlsplit

import uvloop


class Requests:
    """The bytes of each next request; prompts differ unless `same`."""

    def __init__(self, url: str, key: str, *, same: bool) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self._same = same
        self._sent = 0
        run = "the same koi for everyone" if same else secrets.token_hex(12)
        body = json.dumps({"model": "grok-imagine", "prompt": f"{run} KOIKOIKOIKOI", "n": 1})
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._before, self._after = (head + body).encode().split(b"KOIKOIKOIKOI")

    def next(self) -> bytes:
        if not self._same:
            self._sent += 1
        return b"%b%012d%b" % (self._before, self._sent, self._after)


class Client(asyncio.Protocol):
    """One connection. `ask` resolves to the status, or to a word for how it failed."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buffer = b""
        self._wanted = 0
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
        self._buffer, self._wanted = b"", 0
        self._answer = self._loop.create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._wanted:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._wanted = end + 4 + self._length(self._buffer[:end].lower())
        if len(self._buffer) >= self._wanted:
            self._settle(self._buffer[9:12].decode() if b'"data"' in self._buffer else "no data")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _length(self, head: bytes) -> int:
        at = head.find(b"\r\ncontent-length:")
        return 0 if at < 0 else int(head[at + 17 :].split(b"\r\n", 1)[0])

    def _settle(self, outcome: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(outcome)


class Load:
    """Sends requests and counts the answers. Latencies are seconds."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._loop = asyncio.get_running_loop()
        self._idle: list[Client] = []
        self.latencies: list[float] = []
        self.errors: Counter[str] = Counter()
        self.in_time = 0
        self.most_in_flight = self._in_flight = 0

    async def closed(self, connections: int, duration_s: float) -> None:
        """Every connection sends its next request as soon as it has an answer."""
        clients = [await self._connect() for _ in range(connections)]
        ends = time.perf_counter() + duration_s
        await asyncio.gather(*(self._repeat(client, ends) for client in clients))

    async def open(self, rate: float, duration_s: float) -> None:
        """Requests start at `rate` per second, whenever the answers come."""
        started = time.perf_counter()
        pending = []
        for i in range(int(rate * duration_s)):
            await asyncio.sleep(max(started + i / rate - time.perf_counter(), 0))
            pending.append(asyncio.create_task(self._once(started + i / rate)))
        await asyncio.gather(*pending)

    async def _connect(self) -> Client:
        host, port = self._requests.host, self._requests.port
        _, client = await self._loop.create_connection(lambda: Client(self._loop), host, port)
        return client

    async def _repeat(self, client: Client, ends: float) -> None:
        while (began := time.perf_counter()) < ends:
            if not client.usable:
                client = await self._connect()
            self._keep(await client.ask(self._requests.next()), began, ends)
        client.close()

    async def _once(self, due: float) -> None:
        # Latency counts from when the request was due, or a stalled generator would hide it.
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        client = self._idle.pop() if self._idle else await self._connect()
        if not client.usable:
            client = await self._connect()
        self._keep(await client.ask(self._requests.next()), due, float("inf"))
        self._in_flight -= 1
        self._idle.append(client)

    def _keep(self, outcome: str, began: float, ends: float) -> None:
        now = time.perf_counter()
        if outcome != "200":
            self.errors[outcome] += 1
            return
        self.latencies.append(now - began)
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


async def run(options: argparse.Namespace) -> dict[str, object]:
    load = Load(Requests(options.url, options.key, same=options.same))
    if options.rate:
        await load.open(options.rate, options.duration)
    else:
        await load.closed(options.connections, options.duration)
    return load.report(options.duration)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--key", default="none")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--duration", type=float, default=3.0, help="seconds of new requests")
    parser.add_argument("--rate", type=float, default=0.0, help="open loop: requests per second")
    parser.add_argument("--same", action="store_true", help="every request asks the same")
    gc.disable()
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
