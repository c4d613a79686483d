"""The sandbox provider as one object: two servers in a thread, and their controls."""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any

from app.sandbox.account import GOOD_KEY, BillLine
from app.sandbox.api import Api
from app.sandbox.cdn import Cdn
from app.sandbox.contract import Profile
from app.sandbox.fees import fee_details
from app.sandbox.listener import Listener
from app.sandbox.provider import Provider, Recorded
from app.sandbox.switches import DOCUMENTED_LIMITS


class Sandbox:
    """The provider on `host`, in a background thread from `__enter__` to `__exit__`.

    `time_scale` multiplies drawn latencies only: limits, links, retention, hangs and the switch
    `latency_s` are in real time. Limits are off until `set` switches them on.
    """

    key = GOOD_KEY

    def __init__(
        self,
        profile: str | Profile = "doc",
        time_scale: float = 1.0,
        port: int = 0,
        cdn_port: int = 0,
        seed: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._provider = Provider(profile, time_scale, seed)
        self._host = host
        self._ports = (port, cdn_port)
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def __enter__(self) -> "Sandbox":
        """Binds both ports and serves. Raises OSError when a port is taken."""
        sockets = _bind_all(self._host, self._ports)
        self._ports = (sockets[0].getsockname()[1], sockets[1].getsockname()[1])
        self._provider.cdn_port = self._ports[1]
        self._thread = threading.Thread(
            target=self._run, args=(sockets,), name="sandbox", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._stop is None:
            raise RuntimeError("the sandbox's event loop did not start")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes every connection and stops; the bill and the records stay readable."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        self._provider.gallery.close()

    @property
    def url(self) -> str:
        """The base URL for an OpenAI client."""
        return f"http://{self._reachable_host()}:{self._ports[0]}/v1"

    @property
    def cdn_url(self) -> str:
        """The root URL of the server that has the results."""
        return f"http://{self._reachable_host()}:{self._ports[1]}"

    @property
    def posts(self) -> int:
        """Generation POSTs that reached the provider, including refused ones."""
        return self._provider.posts

    @property
    def polls(self) -> int:
        """Task GETs that reached the provider."""
        return self._provider.polls

    @property
    def requests(self) -> list[Recorded]:
        """The latest 1,000 requests to both servers, without control calls."""
        return list(self._provider.requests)

    @property
    def references(self) -> list[tuple[str, ...]]:
        """The reference images of each accepted generation: the SHA-256 of each, or its URL."""
        return [generation.order.references for generation in self._provider.generations]

    @property
    def billed_images(self) -> int:
        """What the provider charges so far, in images."""
        return sum(line.billed for line in self.bill())

    def bill(self) -> list[BillLine]:
        """One line for each accepted generation, oldest first."""
        return self._provider.bill()

    def fee_details(self) -> str:
        """The bill as the CSV file that a customer downloads."""
        return fee_details(self.bill())

    def reset(self) -> None:
        """Resets to the start."""
        self._provider.reset()

    def script(self, *faults: str) -> None:
        """Faults for the next accepted POSTs, `name` or `name=argument`; `ok` is none.

        Raises ValueError for a name not in the registry.
        """
        self._provider.script(*faults)

    def set_profile(self, name: str) -> None:
        """Raises KeyError for a profile that does not exist."""
        self._provider.set_profile(name)

    def set(self, **switches: Any) -> None:
        """Changes switches; raises UnknownSwitch. See `Switches` for names and defaults."""
        self._provider.set_switches(**switches)

    def start_with(self, **switches: Any) -> None:
        """Like `set`, but a `reset` keeps it."""
        self._provider.start_with(**switches)

    def expire_links(self) -> None:
        """Lets every link issued so far answer 403 from now on."""
        self._provider.expire_links()

    def mend(self) -> None:
        """Ends the faults of every generation accepted so far; they are billed as made."""
        self._provider.mend()

    def advance(self, seconds: float) -> None:
        """Advances the provider's clock, by which tasks, links, retention and limits go."""
        self._provider.advance(seconds)

    def report_to(self, log: Callable[[str], None]) -> None:
        """Calls `log` with one line for each accepted generation."""
        self._provider.report_to(log)

    def _reachable_host(self) -> str:
        if self._host in {"", "0.0.0.0"}:  # noqa: S104
            return "127.0.0.1"
        return f"[{self._host}]" if ":" in self._host else self._host

    def _run(self, sockets: list[socket.socket]) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(self._serve(sockets))
        finally:
            self._ready.set()

    async def _serve(self, sockets: list[socket.socket]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        listeners = (
            Listener(Api(self._provider), sockets[0]),
            Listener(Cdn(self._provider), sockets[1]),
        )
        for listener in listeners:
            await listener.start()
        self._ready.set()
        await self._stop.wait()
        await asyncio.gather(*(listener.stop() for listener in listeners))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        # uvloop does not exist for Windows.
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _bind_all(host: str, ports: tuple[int, int]) -> list[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound: list[socket.socket] = []
    try:
        for port in ports:
            bound.append(socket.socket(family))
            bound[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound[-1].bind((host, port))
    except OSError:
        for listening in bound:
            listening.close()
        raise
    return bound


def serve(
    host: str = "127.0.0.1",
    port: int = 9100,
    profile: str | Profile = "doc",
    time_scale: float = 1.0,
    log: Callable[[str], None] | None = None,
    switches: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Runs the provider with its documented limits until interrupted; the CDN is on port + 1.

    Calls `log` with one line for each event; `switches` go over the documented limits. Raises
    OSError when a port is taken, KeyError for a profile that does not exist.
    """
    cdn_port = port + 1 if port else 0
    with Sandbox(profile, time_scale, port, cdn_port, host=host) as sandbox:
        sandbox.start_with(**{**DOCUMENTED_LIMITS, **switches})
        if log is not None:
            sandbox.report_to(log)
            log(f"sandbox provider at {sandbox.url}, results at {sandbox.cdn_url}")
            log(f"API key {sandbox.key}; the bill is at GET /__sim/ledger")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return
