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

from app.adapters.embedded.store import EmbeddedStore
from app.main import create_app
from app.server.uvicorn_options import build_uvicorn_options
from app.service.background import BackgroundTasks
from app.settings import Settings
from app.wiring.gateway import RunningGateway, open_gateway

log = structlog.get_logger("koi.serve")

CONNECTION_CLOSE_TIMEOUT_S = 10
"""How long clients may take to read their last answer once the work is done."""

CLOSE_TIMEOUT_S = 3
"""How long closing may take before what delays it is cancelled; everything is settled by then."""
CANCEL_RETRY_S = 1

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SIGNAL_DEBOUNCE_S = 1.0
"""Signals closer together count as one: supervisors signal a group and each process in it."""

M_ARENA_MAX = -8
"""From malloc.h of glibc."""

OnReady = Callable[[], None]
InProcessClient = Callable[[RunningGateway], Awaitable[int]]
"""Something that uses the running gateway; when it returns an exit code, the gateway ends."""


class StopSignals:
    """SIGTERM, SIGINT and SIGHUP (a closed terminal), counted: the first asks to drain, a later one
    to hurry.

    Before the gateway is open there is nothing to drain, so the first one ends the opening. While
    it closes, whatever delays that is cancelled: at the second one, or when it takes too long.
    """

    def __init__(self) -> None:
        self.drain_requested = asyncio.Event()
        self.force_requested = asyncio.Event()
        self._blocking_task = asyncio.current_task()
        self._cancel_after = self.drain_requested
        self._last_signal_s: float | None = None

    def opened(self) -> None:
        self._blocking_task = None

    def begin_closing(self, *, at_once: bool) -> None:
        self._blocking_task, self._cancel_after = asyncio.current_task(), self.force_requested
        delay_s = 0 if at_once or self.force_requested.is_set() else CLOSE_TIMEOUT_S
        asyncio.get_running_loop().call_later(delay_s, self._cancel_blocker)

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal)
        try:
            yield
        finally:
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        now_s = time.monotonic()
        if self._last_signal_s is not None and now_s - self._last_signal_s < SIGNAL_DEBOUNCE_S:
            return
        self._last_signal_s = now_s
        if self.drain_requested.is_set():
            self.force_requested.set()
        self.drain_requested.set()
        if self._cancel_after.is_set():
            self._cancel_blocker()

    def _cancel_blocker(self) -> None:
        if self._blocking_task is not None:
            self._blocking_task.cancel()
            asyncio.get_running_loop().call_later(CANCEL_RETRY_S, self._cancel_blocker)


class GatewayServer(uvicorn.Server):
    """uvicorn without its own signal handling, which closes the listener at once and ignores a
    second SIGTERM."""

    def __init__(self, config: uvicorn.Config, on_ready: OnReady) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def stop_accepting(self) -> None:
        """Refuse connections and keep none for a next request: a proxy or an SDK that is refused
        goes to another gateway, and nothing was sent that might be sent twice."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()


def run_gateway(
    settings: Settings,
    listening: socket.socket,
    on_ready: OnReady,
    client: InProcessClient | None = None,
    *,
    embedded: EmbeddedStore | None = None,
) -> int:
    """Serve until a stop signal (or the client's end); 0 when nothing was cut off. An embedded
    store that was started before is used, and closed at the end."""
    _freeze_gc()
    _limit_malloc_arenas()
    factory = uvicorn.Config("", log_config=None).get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_serve(settings, listening, on_ready, client, embedded))


async def _serve(
    settings: Settings,
    listening: socket.socket,
    on_ready: OnReady,
    client: InProcessClient | None,
    embedded: EmbeddedStore | None,
) -> int:
    signals = StopSignals()
    code = 0
    with signals.handle_signals():
        try:
            async with open_gateway(settings, embedded) as running:
                signals.opened()
                _freeze_gc()
                code = await _serve_gateway(running, settings, listening, on_ready, client, signals)
                signals.begin_closing(at_once=running.gateway.background.in_flight > 0)
        except asyncio.CancelledError:
            if not signals.drain_requested.is_set():
                raise
    return code


GC_THRESHOLDS = 5_000, 5, 200
"""A pass of 5,000 new objects takes a few milliseconds, one of 25,000 some twenty. With 20,000 and
400,000 it took 0.4 s at 4,000 generations in flight."""


def _limit_malloc_arenas() -> None:
    """Let glibc keep one heap for all threads. Pictures are read and written in threads and freed
    in the event loop, and the heap of a thread does not give back what it once held: a third of
    the memory that a thousand slow readers took. Other C libraries have one heap anyway."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _freeze_gc() -> None:
    """What is loaded by now stays: the collector need not walk it in any pass. Nothing is collected
    before: that takes a tenth of a start and finds next to nothing.

    A pass stops everything for as long as it walks. With thousands of generations in flight nearly
    all that is young stays, so passes are small ones; those of everything are rare."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


async def _serve_gateway(
    running: RunningGateway,
    settings: Settings,
    listening: socket.socket,
    on_ready: OnReady,
    client: InProcessClient | None,
    signals: StopSignals,
) -> int:
    server = GatewayServer(_uvicorn_config(settings, running), on_ready)
    stopping = asyncio.create_task(
        _stop_on_signal(server, running.gateway.background, settings, signals)
    )
    client_task = (
        None if client is None else asyncio.create_task(_run_client(client, running, signals))
    )
    try:
        await server.serve(sockets=[listening])
        await _cancel_requests(server)
    finally:
        settled = await _finish_task(stopping)
        code = 0 if client_task is None else await _finish_task(client_task)
    return int(code or 0) or int(settled is False)


def _uvicorn_config(settings: Settings, running: RunningGateway) -> uvicorn.Config:
    @asynccontextmanager
    async def opened() -> AsyncIterator[RunningGateway]:
        # Opened and closed around the server: uvicorn skips the lifespan's end at a forced exit.
        yield running

    options = build_uvicorn_options(
        settings.host,
        settings.port,
        trusted_proxies=settings.trusted_proxies,
        graceful_s=CONNECTION_CLOSE_TIMEOUT_S,
    )
    return uvicorn.Config(create_app(opened), log_level="warning", **options)


async def _stop_on_signal(
    server: GatewayServer, drain: BackgroundTasks, settings: Settings, signals: StopSignals
) -> bool:
    """Drain at the first signal, stop at once at the second; true when every local job ended."""
    await signals.drain_requested.wait()
    finishing = asyncio.create_task(_finish_jobs(server, drain, settings))
    forcing = asyncio.create_task(signals.force_requested.wait())
    await asyncio.wait({finishing, forcing}, return_when=asyncio.FIRST_COMPLETED)
    forcing.cancel()
    settled = finishing.done() and finishing.result()
    finishing.cancel()
    drain.start_draining()
    if not settled:
        log.warning("not_drained", in_flight=drain.in_flight)
    # Requests that have not ended by now get no answer.
    server.force_exit = not settled
    server.should_exit = True
    return settled


async def _finish_jobs(server: GatewayServer, drain: BackgroundTasks, settings: Settings) -> bool:
    """Serve for `drain_delay_s` more so that load balancers notice, then finish the work."""
    drain.mark_unready()
    if settings.drain_delay_s:
        log.info("leaving", delay_s=settings.drain_delay_s)
        await asyncio.sleep(settings.drain_delay_s)
    drain.start_draining()
    server.stop_accepting()
    log.info("draining", in_flight=drain.in_flight)
    return await drain.wait_until_idle(settings.drain_timeout_s)


async def _run_client(
    client: InProcessClient, running: RunningGateway, signals: StopSignals
) -> int:
    try:
        return await client(running)
    finally:
        signals.drain_requested.set()


async def _cancel_requests(server: GatewayServer) -> None:
    """After a forced stop: end what still runs before its gateway is closed."""
    cut = list(server.server_state.tasks)
    for task in cut:
        task.cancel()
    if cut:
        await asyncio.wait(cut, timeout=1)


async def _finish_task(task: "asyncio.Task[Any]") -> Any:
    if not task.done():
        task.cancel()
    with suppress(asyncio.CancelledError):
        return await task
    return None
