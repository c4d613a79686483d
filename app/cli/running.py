"""One gateway in this process, on a socket that is already bound, until it is told to stop."""

import asyncio
import ctypes
import gc
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import structlog
import uvicorn

from app.api.protocol import uvicorn_options
from app.cli.explain import known_failures
from app.main import create_app
from app.service.drain import Drain
from app.settings import Settings
from app.wiring import Running, open_gateway

log = structlog.get_logger("koi.serve")

LAST_ANSWERS_S = 10
"""How long connections may take to read their last answer once the work is done."""

CLOSING_S = 3
"""How long closing may take before what holds it up is cancelled; everything is settled by then."""
NUDGE_S = 1

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
AGAIN_S = 1.0
"""Signals closer together are one wish: supervisors signal a group and each process in it."""

M_ARENA_MAX = -8
"""From malloc.h of glibc."""

Ready = Callable[[], None]
Guest = Callable[[Running], Awaitable[int]]
"""Something that uses the running gateway; its answer is the exit code, and ends the gateway."""


class StopSignals:
    """SIGTERM, SIGINT and SIGHUP (a closed terminal), counted: the first asks to drain, a later one
    to hurry.

    Before the gateway is open there is nothing to drain, so the first one ends the opening. While
    it closes, whatever holds that up is cancelled: at the second one, or when it takes too long.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self._holds = asyncio.current_task()
        self._until = self.first
        self._heard_s: float | None = None

    def opened(self) -> None:
        self._holds = None

    def closing(self, *, at_once: bool) -> None:
        self._holds, self._until = asyncio.current_task(), self.second
        delay_s = 0 if at_once or self.second.is_set() else CLOSING_S
        asyncio.get_running_loop().call_later(delay_s, self._nudge)

    @contextmanager
    def heard(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self._hear)
        try:
            yield
        finally:
            for number in STOPPING:
                loop.remove_signal_handler(number)

    def _hear(self) -> None:
        now_s = time.monotonic()
        if self._heard_s is not None and now_s - self._heard_s < AGAIN_S:
            return
        self._heard_s = now_s
        if self.first.is_set():
            self.second.set()
        self.first.set()
        if self._until.is_set():
            self._nudge()

    def _nudge(self) -> None:
        if self._holds is not None:
            self._holds.cancel()
            asyncio.get_running_loop().call_later(NUDGE_S, self._nudge)


class GatewayServer(uvicorn.Server):
    """uvicorn without its own signal handling, which closes the listener at once and is deaf to
    a second SIGTERM (reliability study, section 11)."""

    def __init__(self, config: uvicorn.Config, ready: Ready) -> None:
        super().__init__(config)
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    def turn_away(self) -> None:
        """Refuse connections and keep none for a next request: a proxy or an SDK that is refused
        goes to another gateway, and nothing was sent that might be sent twice."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()


def run_gateway(
    settings: Settings, listening: socket.socket, ready: Ready, guest: Guest | None = None
) -> int:
    """Serve until a stop signal (or the guest's end); 0 when nothing was cut off."""
    _share_one_heap()
    factory = uvicorn.Config("", log_config=None).get_loop_factory()
    with known_failures(), asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_serve(settings, listening, ready, guest))


async def _serve(
    settings: Settings, listening: socket.socket, ready: Ready, guest: Guest | None
) -> int:
    signals = StopSignals()
    code = 0
    with signals.heard():
        try:
            async with open_gateway(settings) as running:
                signals.opened()
                _settle_memory()
                code = await _serve_opened(running, settings, listening, ready, guest, signals)
                signals.closing(at_once=running.gateway.drain.in_flight > 0)
        except asyncio.CancelledError:
            if not signals.first.is_set():
                raise
    return code


def _share_one_heap() -> None:
    """Let glibc keep one heap for all threads. Pictures are read and written in threads and freed
    in the loop, and each heap of a thread would hold on to its own most (a third of the memory
    that a thousand slow readers took). Other C libraries have one heap anyway."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _settle_memory() -> None:
    """What is loaded by now stays: keep the collector from walking it at every turn."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


async def _serve_opened(
    running: Running,
    settings: Settings,
    listening: socket.socket,
    ready: Ready,
    guest: Guest | None,
    signals: StopSignals,
) -> int:
    server = GatewayServer(_config(settings, running), ready)
    stopping = asyncio.create_task(_stop(server, running.gateway.drain, settings, signals))
    visiting = None if guest is None else asyncio.create_task(_visit(guest, running, signals))
    try:
        await server.serve(sockets=[listening])
        await _cut_off(server)
    finally:
        settled = await _end(stopping)
        code = 0 if visiting is None else await _end(visiting)
    return int(code or 0) or int(settled is False)


def _config(settings: Settings, running: Running) -> uvicorn.Config:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Running]:
        # Opened and closed around the server: uvicorn skips its own closing when it is hurried.
        yield running

    options = uvicorn_options(
        settings.host,
        settings.port,
        trusted_proxies=settings.trusted_proxies,
        graceful_s=LAST_ANSWERS_S,
    )
    return uvicorn.Config(create_app(opened), log_level="warning", **options)


async def _stop(
    server: GatewayServer, drain: Drain, settings: Settings, signals: StopSignals
) -> bool:
    """Drain at the first signal, cut off at the second; true when every local job ended."""
    await signals.first.wait()
    settling = asyncio.create_task(_settle(server, drain, settings))
    hurrying = asyncio.create_task(signals.second.wait())
    await asyncio.wait({settling, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    hurrying.cancel()
    settled = settling.done() and settling.result()
    settling.cancel()
    drain.begin()
    if not settled:
        log.warning("not_drained", in_flight=drain.in_flight)
    # What has not ended by now has no answer to wait for.
    server.force_exit = not settled
    server.should_exit = True
    return settled


async def _settle(server: GatewayServer, drain: Drain, settings: Settings) -> bool:
    """Serve for `drain_delay_s` more so that a balancer looks away, then finish the work."""
    drain.leave()
    if settings.drain_delay_s:
        log.info("leaving", delay_s=settings.drain_delay_s)
        await asyncio.sleep(settings.drain_delay_s)
    drain.begin()
    server.turn_away()
    log.info("draining", in_flight=drain.in_flight)
    return await drain.settled(settings.drain_timeout_s)


async def _visit(guest: Guest, running: Running, signals: StopSignals) -> int:
    try:
        return await guest(running)
    finally:
        signals.first.set()


async def _cut_off(server: GatewayServer) -> None:
    """After a hurried stop: end what still runs before its gateway is closed."""
    cut = list(server.server_state.tasks)
    for task in cut:
        task.cancel()
    if cut:
        await asyncio.wait(cut, timeout=1)


async def _end(task: "asyncio.Task[Any]") -> Any:
    if not task.done():
        task.cancel()
    with suppress(asyncio.CancelledError):
        return await task
    return None
