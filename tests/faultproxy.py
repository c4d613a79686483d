"""A TCP link that fails as networks do, for upstream and store alike.

    with FaultProxy(sandbox.url) as link:       # or store.url, "host:port", "/path/of.sock"
        ...                                     # point Koi at link.url or link.port
        link.set(delay(0.05, jitter_s=0.15))    # from now on, new and existing connections
        link.set(reset())
        link.random(0.01, seed, [reset(), lose_replies(), delay(1)])
        link.heal()

Every verb has taken effect when it returns.
"""

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias
from urllib.parse import urlsplit, urlunsplit

from tests.linkfaults import PASS, Fault, Way, refuse

HOST = "127.0.0.1"
CHUNK = 65_536
QUEUED_CHUNKS = 64
SLICE_S = 0.02
LINGER_0 = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class FaultProxy:
    """Listens on a port of its own, in a thread of its own; passes everything until told."""

    def __init__(self, target: str) -> None:
        """`target`: `host:port`, `/path`, or a URL with one of them (http, redis, unix)."""
        self.drawn: Counter[str] = Counter()
        """Faults that `random` and `choose` dealt out, by name."""
        self._target = urlsplit(target if "://" in target else f"tcp://{target}")
        self.fault = PASS
        self._choose: Callable[[bytes], Fault] | None = None
        self.pipelined = False
        """Whether requests within an exchange may begin a fault, too."""
        self._links: set[_Link] = set()
        self._listener = socket.socket()
        self._listener.close()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)

    def __enter__(self) -> "FaultProxy":
        # Keeps the port ours while the listener is closed.
        self._holder = _bound(0)
        self.port: int = self._holder.getsockname()[1]
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._holder.close()

    @property
    def url(self) -> str:
        """The target's URL, by way of this proxy."""
        user, at, _ = self._target.netloc.rpartition("@")
        address = f"{user}{at}{HOST}:{self.port}"
        if self._target.scheme == "unix":
            return f"redis://{address}"
        return urlunsplit(self._target._replace(netloc=address))

    @property
    def connections(self) -> int:
        return len(self._links)

    def set(self, fault: Fault) -> None:
        """This and nothing else happens from now on, on existing connections too."""
        self._do(fault, None)

    def heal(self) -> None:
        self.set(PASS)

    def choose(self, fault_of: Callable[[bytes], Fault]) -> None:
        """Each exchange gets a fault of its own by the first bytes of its request.

        An exchange begins when a client speaks after it was answered, or first of all. What a
        client says meanwhile is asked about as well, and may turn a fault on: gateways send
        requests to their store before the earlier ones are answered.
        """
        self._do(PASS, fault_of, pipelined=True)

    def random(self, rate: float, seed: object, faults: Sequence[Fault]) -> None:
        """Each exchange suffers one of `faults` with probability `rate` (0-1)."""
        dice = random.Random(f"{seed} link")
        self._do(PASS, lambda _: dice.choice(faults) if dice.random() < rate else PASS)

    def _do(
        self, fault: Fault, choose: Callable[[bytes], Fault] | None, *, pipelined: bool = False
    ) -> None:
        async def work() -> None:
            self.fault, self._choose, self.pipelined = fault, choose, pipelined
            for link in list(self._links):
                link.suffer(fault)
            self._listen()

        asyncio.run_coroutine_threadsafe(work(), self._loop).result(30)

    def chosen(self, request: bytes) -> Fault | None:
        """The fault of the exchange that begins with this request; None when nobody chooses."""
        if self._choose is None:
            return None
        fault = self._choose(request)
        if fault is not PASS:
            self.drawn[fault.name] += 1
        return fault

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._listen()
        self._ready.set()
        await self._over.wait()
        self.fault = refuse()
        self._listen()
        links = list(self._links)
        for link in links:
            link.cut(rst=True)
        await asyncio.gather(*(link.task for link in links), return_exceptions=True)
        await asyncio.sleep(0)

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
        if self.fault.name == "refuse":
            self._listener.close()
        elif self._listener.fileno() < 0:
            self._listener = _bound(self.port)
            self._listener.listen(1024)
        if self.fault.name not in {"refuse", "freeze"}:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            near, _ = self._listener.accept()
            near.setblocking(False)
            link = _Link(self, near)
            self._links.add(link)
            link.task.add_done_callback(lambda _: self._links.discard(link))

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._target.netloc and self._target.port:
            return await asyncio.open_connection(self._target.hostname, self._target.port)
        return await asyncio.open_unix_connection(self._target.path)


_Queue: TypeAlias = "asyncio.Queue[tuple[float, bytes]]"


class _Link:
    """One connection: a pump for each direction, and the fault both suffer."""

    def __init__(self, proxy: FaultProxy, near: socket.socket) -> None:
        self._proxy = proxy
        self._near = near
        self._fault = PASS
        self._changed = asyncio.Event()
        self._passed = {Way.THERE: 0, Way.BACK: 0}
        self._dumb = Way(0)
        self._answered = True
        self._writers: dict[Way, asyncio.StreamWriter] = {}
        self.task = asyncio.create_task(self._run())

    def suffer(self, fault: Fault) -> None:
        self._fault, changed = fault, self._changed
        self._passed = dict.fromkeys(self._passed, 0)
        self._changed = asyncio.Event()
        changed.set()
        if fault.rst and fault.after is None:
            self.cut(rst=fault.rst)
        elif fault.name == "half-close":
            for way in fault.way:
                self._end(way)

    def cut(self, *, rst: bool) -> None:
        for writer in self._writers.values():
            if rst:
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(*LINGER_0)
                writer.transport.abort()
            else:
                writer.close()
        self.task.cancel()

    async def _run(self) -> None:
        try:
            near_reader, self._writers[Way.BACK] = await asyncio.open_connection(sock=self._near)
            far_reader, self._writers[Way.THERE] = await self._proxy.connect()
            self.suffer(self._proxy.fault)
            async with asyncio.TaskGroup() as group:
                for way, reader in ((Way.THERE, near_reader), (Way.BACK, far_reader)):
                    queue: _Queue = asyncio.Queue(QUEUED_CHUNKS)
                    group.create_task(self._take(reader, queue))
                    group.create_task(self._give(way, queue))
        except* OSError:
            self.cut(rst=True)
        else:
            self.cut(rst=False)

    async def _take(self, reader: asyncio.StreamReader, queue: _Queue) -> None:
        chunk = b"more"
        while chunk:
            chunk = await reader.read(CHUNK)
            await queue.put((asyncio.get_running_loop().time(), chunk))

    async def _give(self, way: Way, queue: _Queue) -> None:
        chunk = b"more"
        while chunk:
            arrived, chunk = await queue.get()
            if way is Way.THERE and chunk and (self._answered or self._may_turn_on):
                fault = self._proxy.chosen(chunk)
                if fault is not None and (self._answered or fault is not PASS):
                    self.suffer(fault)
            self._answered = way is Way.BACK
            await self._until_due(way, arrived)
            await self._pass_on(way, chunk)
        self._end(way)

    @property
    def _may_turn_on(self) -> bool:
        return self._proxy.pipelined and self._fault is PASS

    async def _until_due(self, way: Way, arrived: float) -> None:
        """Wait for as long as the fault of the moment says."""
        luck = random.random()
        while True:
            fault, changed = self._fault, self._changed
            late_s = fault.delay_s + luck * fault.jitter_s if way in fault.way else 0
            left_s = arrived + late_s - asyncio.get_running_loop().time()
            frozen = fault.name == "freeze"
            if left_s <= 0 and not frozen:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(None if frozen else left_s):
                    await changed.wait()

    async def _pass_on(self, way: Way, chunk: bytes) -> None:
        writer = self._writers[way]
        while chunk:
            fault = self._fault if way in self._fault.way else PASS
            if fault.name == "black hole":
                self._dumb |= way
            if way in self._dumb:
                return
            size = len(chunk)
            if fault.bytes_per_s is not None:
                size = max(1, min(size, int(fault.bytes_per_s * SLICE_S)))
            cut = fault.after is not None and self._passed[way] + size >= fault.after
            if fault.after is not None and cut:
                size = fault.after - self._passed[way]
            writer.write(chunk[:size])
            await writer.drain()
            if cut:
                self.cut(rst=fault.rst)
                return
            self._passed[way] += size
            chunk = chunk[size:]
            if fault.bytes_per_s is not None:
                await asyncio.sleep(size / fault.bytes_per_s)

    def _end(self, way: Way) -> None:
        """FIN in one direction."""
        self._dumb |= way
        writer = self._writers[way]
        if not writer.is_closing():
            with suppress(OSError):
                writer.write_eof()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((HOST, port))
    bound.setblocking(False)
    return bound
