"""One ordinary key that does its worst: each known way to keep others out, from a process apart.

`python -m tests.security.hostile URL KEY ATTACK SECONDS CONNECTIONS` prints what it got, as one
line of JSON. Loopback only; it ends by itself.
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

GENERATE = "/v1/images/generations"
KEPT = "a koi the hostile key has already"
STUCK = "[fault:stuck-99] a koi that never comes"
REFUSED = "[fault:moderation-400] a koi nobody may see"
BRACKETS = json.dumps({"model": "grok-imagine", "prompt": "x", "x": [{}] * 65_000}).encode()
TASKS = 100
SLOW_S = 2.0


@dataclass
class Hostile:
    """A key, what it has, and what it got so far."""

    client: httpx.AsyncClient
    key: str
    ended: str = ""
    running: str = ""
    link: str = ""
    seen: Counter[str] = field(default_factory=Counter)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def prepare(self) -> None:
        """What any user has: a picture, a list of tasks, a task that runs."""
        made = await self.post(KEPT)
        self.link = made.json()["data"][0]["url"]
        self.ended = made.headers["x-koi-task-id"]
        self.running = (await self.post(STUCK, **{"async": True})).json()["id"]
        await asyncio.gather(*(self.post(f"{KEPT} {n}", **{"async": True}) for n in range(TASKS)))

    async def post(self, prompt: str, key: str | None = None, **fields: object) -> httpx.Response:
        body = {"model": "grok-imagine", "prompt": prompt, **fields}
        headers = {} if key is None else {"idempotency-key": key}
        return await self.client.post(GENERATE, json=body, headers=headers)

    async def cancel(self, task_id: str) -> httpx.Response:
        return await self.client.delete(f"/v1/tasks/{task_id}")

    def new(self) -> str:
        return f"{time.time_ns()}-{next(self.numbers)}"

    async def submit_and_cancel(self) -> httpx.Response:
        made = await self.post(f"never wanted {self.new()}", **{"async": True})
        return await self.cancel(made.json()["id"]) if made.status_code == 200 else made

    async def brackets(self) -> httpx.Response:
        return await self.client.post(GENERATE, content=BRACKETS)

    async def unread(self, request: bytes) -> httpx.Response:
        """Ask, read the first bytes, and keep the line open without reading on."""
        url = self.client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
        try:
            writer.write(request)
            await writer.drain()
            first = await asyncio.wait_for(reader.readline(), 20)
            await asyncio.sleep(SLOW_S)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        return httpx.Response(int(first.split()[1]) if first else 599)

    def picture(self) -> bytes:
        parts = urlsplit(self.link)
        return f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()

    def base64_hit(self) -> bytes:
        body = json.dumps(
            {"model": "grok-imagine", "prompt": KEPT, "response_format": "b64_json"}
        ).encode()
        return (
            f"POST {GENERATE} HTTP/1.1\r\nHost: koi\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


Attack = Callable[[Hostile], Awaitable[httpx.Response]]
ATTACKS: dict[str, Attack] = {
    "refused cancels": lambda h: h.cancel(h.ended),
    "lists of 100": lambda h: h.client.get(f"/v1/tasks?limit={TASKS}"),
    "65,000 brackets": lambda h: h.brackets(),
    "repeats of one key": lambda h: h.post(STUCK, "the-same"),
    "long polls": lambda h: h.client.get(f"/v1/tasks/{h.running}?wait=25"),
    "hits, new keys": lambda h: h.post(KEPT, h.new()),
    "hits in base64": lambda h: h.post(KEPT, response_format="b64_json"),
    "looks into the cache": lambda h: h.client.post(
        GENERATE,
        json={"model": "grok-imagine", "prompt": KEPT},
        headers={"idempotency-key": h.new(), "cache-control": "only-if-cached"},
    ),
    "submit and cancel": lambda h: h.submit_and_cancel(),
    "refused prompts": lambda h: h.post(f"{REFUSED} {h.new()}"),
    "unread pictures": lambda h: h.unread(h.picture()),
    "unread base64": lambda h: h.unread(h.base64_hit()),
    "usage": lambda h: h.client.get("/v1/usage"),
}


async def attack(hostile: Hostile, name: str, seconds: float, connections: int) -> None:
    """So many connections, each asking again as soon as it is answered."""
    ends = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < ends:
            try:
                async with asyncio.timeout(max(ends - time.monotonic(), 0.1)):
                    answer = await ATTACKS[name](hostile)
            except (TimeoutError, httpx.HTTPError, OSError) as error:
                held = isinstance(error, TimeoutError) and time.monotonic() >= ends
                hostile.seen["held to the end" if held else type(error).__name__] += 1
            else:
                hostile.seen[str(answer.status_code)] += 1

    await asyncio.gather(*(one() for _ in range(connections)))


async def main(url: str, key: str, name: str, seconds: str, connections: str) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=30, limits=limits
    ) as client:
        hostile = Hostile(client, key)
        if name == "prepare":
            await hostile.prepare()
            sys.stdout.write(json.dumps([hostile.ended, hostile.running, hostile.link]) + "\n")
            return
        hostile.ended, hostile.running, hostile.link = json.loads(sys.stdin.read())
        await attack(hostile, name, float(seconds), int(connections))
    sys.stdout.write(json.dumps(hostile.seen) + "\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
