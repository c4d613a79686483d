"""Koi as a caller meets it: the whole gateway on a real socket, the sandbox behind it.

Nothing is replaced: a real store engine, real HTTP on both sides, real image bytes. Only
durations are shortened through settings.
"""

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
import uvloop

from app.domain.ledger import Entry, LedgerAudit
from app.main import create_app
from app.sandbox.server import Sandbox
from app.server.uvicorn_options import build_uvicorn_options
from app.settings import Settings, build_settings
from app.wiring.gateway import open_gateway
from app.wiring.operator import OperatorContext, open_operator_context

T = TypeVar("T")

PRICED = Path(__file__).parent / "catalog.toml"
KOI = {"model": "grok-imagine", "prompt": "a koi in a nebula"}
ONE_KEY_FOR_ALL: dict[str, Any] = {
    "waiting_share": 1,
    "key_requests_per_second": 0,
    "key_reads_per_second": 0,
    "free_refusals_per_hour": 1_000_000,
}
"""One key does in tests what all keys do elsewhere; the tests of shares set their own."""
PLENTY_PER_MINUTE = 1_000_000
QUICK: dict[str, Any] = {
    "upstream_api_key": "sk-sandbox",
    "upstream_poll_interval_s": 0.05,
    "upstream_timeout_s": 5,
    "catalog": PRICED,
    "collect_wait_s": 10,
    "resolve_after_s": 0.3,
    "task_deadline_s": 6,
    "redis_timeout_ms": 3000,
    "log_level": "error",
    **ONE_KEY_FOR_ALL,
    "default_requests_per_minute": None,
}


def quick_sandbox(time_scale: float = 0.01) -> Sandbox:
    """The provider with short latencies and plain pictures: a pond takes 40 ms of CPU to draw."""
    sandbox = Sandbox(time_scale=time_scale)
    sandbox.start_with(picture_style="plain")
    return sandbox


class PromptServer(uvicorn.Server):
    """uvicorn looks ten times a second whether it is to end, and then waits as long once more. In
    each of these two a test's gateway goes on asking its store for work."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        if not self.should_exit:
            await self._ending.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for listening in (*self.servers, *(sockets or ())):
            listening.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)  # Connections that are idle are closed by then.
        await self._wait_tasks_to_complete()
        await self.lifespan.shutdown()

    def end(self) -> None:
        """From another thread."""
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ending.set)


class Server:
    """One ASGI app under uvicorn in a thread of its own, with the gateway's real protocol."""

    def __init__(self, app: Any, port: int = 0) -> None:
        options = build_uvicorn_options(host="127.0.0.1", port=port)
        options.update(log_config=None)
        self._server = PromptServer(uvicorn.Config(app, **options))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        deadline = time.monotonic() + 15
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the gateway did not start")
            time.sleep(0.005)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self._server.end()
        self._thread.join(timeout=60)
        # On the emptied store of the next test it would tell everybody that the ledger is lost.
        assert not self._thread.is_alive(), "the gateway did not stop"


@dataclass
class Koi:
    """A running gateway, its sandbox and its operator."""

    url: str
    sandbox: Sandbox
    settings: Settings

    @property
    def v1(self) -> str:
        return f"{self.url}/v1"

    def key(self, user: str = "ann", **options: Any) -> str:
        """A fresh key's secret for a user, created on the way."""

        async def issue(operator: OperatorContext) -> str:
            return (await operator.keys.issue(user, **options)).secret

        return self.operate(issue)

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        headers = {"authorization": f"Bearer {key or self.key()}"}
        return httpx.Client(base_url=self.url, headers=headers, **{"timeout": 20, **options})

    def hang_up(self, key: str, headers: Mapping[str, str] = {}, **fields: Any) -> None:
        """A caller that leaves as soon as the provider has its call."""
        body, posts = json.dumps({**KOI, **fields}), self.sandbox.posts
        given = {"host": "koi", "authorization": f"Bearer {key}", **headers}
        given |= {"content-type": "application/json", "content-length": f"{len(body)}"}
        head = "".join(f"{name}: {text}\r\n" for name, text in given.items())
        place = httpx.URL(self.url)
        with socket.create_connection((place.host, place.port or 80), 20) as line:
            line.sendall(f"POST /v1/images/generations HTTP/1.1\r\n{head}\r\n{body}".encode())
            deadline = time.monotonic() + 20
            while self.sandbox.posts == posts:
                assert time.monotonic() < deadline, "the provider has not got it"
                time.sleep(0.01)

    def in_flight(self) -> int:
        """Requests being answered, without the one that asks."""
        name = "koi_in_flight_requests "
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(round(float(line.removeprefix(name))) for line in lines if name in line[:23]) - 1

    def operate(self, work: Callable[[OperatorContext], Coroutine[Any, Any, T]]) -> T:
        """Do an operator's work on the store, from outside the gateway."""

        async def session() -> T:
            async with open_operator_context(self.settings) as operator:
                return await work(operator)

        # In a thread, because a browser's tests have an event loop in this one.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run, session()).result()

    def entries(self) -> list[Entry]:
        async def read(operator: OperatorContext) -> list[Entry]:
            return [entry async for entry in operator.ledger.entries()]

        return self.operate(read)

    def audit(self) -> LedgerAudit:
        return self.operate(lambda operator: operator.ledger.audit())

    def settled(self, within_s: float = 10) -> LedgerAudit:
        """The audit once no job is open; fails when some job stays open."""
        return self.operate(lambda operator: _audit_once_settled(operator, within_s))

    def assert_ledger_matches_bill(self) -> None:
        """Counters equal the ledger, and the ledger equals the provider's own bill.

        What was presumed without evidence may exceed the bill, never fall short of it (I5).
        """

        async def read(operator: OperatorContext) -> tuple[LedgerAudit, list[Entry]]:
            audit = await _audit_once_settled(operator)
            return audit, [entry async for entry in operator.ledger.entries()]

        audit, entries = self.operate(read)
        metered = sum(e.images + e.surplus for e in entries)
        presumed = sum(e.presumed for e in entries)
        billed = self.sandbox.billed_images
        assert audit.difference == 0, audit.differences
        assert metered - presumed <= billed <= metered, (metered, presumed, billed)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on the loop of gateways, which takes less time of the CPU."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def _audit_once_settled(operator: OperatorContext, within_s: float = 10) -> LedgerAudit:
    deadline = time.monotonic() + within_s
    while (audit := await operator.ledger.audit()).open_jobs:
        assert time.monotonic() < deadline, f"{audit.open_jobs} jobs are still open"
        await asyncio.sleep(0.05)
    return audit


@contextlib.contextmanager
def gateway(sandbox: Sandbox, redis_url: str, data_dir: Path, **overrides: Any) -> Iterator[Koi]:
    """A gateway in this process, on a store that runs already."""
    options = {
        **QUICK,
        "upstream_base_url": sandbox.url,
        "redis_url": redis_url,
        "data_dir": data_dir,
        **overrides,
    }
    settings = build_settings(**options)
    app = create_app(lambda: open_gateway(settings))
    with Server(app, overrides.get("port", 0)) as url:
        yield Koi(url, sandbox, settings)


def operator_settings(**settings: Any) -> Settings:
    """Those of an operator whose new users come as often as they like."""
    return build_settings(**{"default_requests_per_minute": None, **settings})


def environment(**settings: Any) -> dict[str, str]:
    """The environment of a `koi` subprocess: nothing of ours but these settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("KOI_")}
    plenty = {**ONE_KEY_FOR_ALL, "default_requests_per_minute": PLENTY_PER_MINUTE}
    settings = {**plenty, "redis_timeout_ms": 5000, **settings}
    return clean | {f"KOI_{name.upper()}": str(value) for name, value in settings.items()}
