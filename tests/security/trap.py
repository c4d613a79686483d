"""A listener that nobody may ever talk to, and one that lies to whoever does."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Trap:
    """A port of this machine; `knocks` counts connections, `visits` is what came in on each."""

    port: int
    knocks: int = 0
    visits: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def trap(tls: ssl.SSLContext | None = None) -> Iterator[Trap]:
    """Accepts, listens for a moment and hangs up; with `tls` only what came through it counts."""
    found = Trap(0)

    def visit(line: socket.socket) -> None:
        found.knocks += 1
        line.settimeout(0.5)
        said = b""
        with contextlib.suppress(OSError):
            spoken = line if tls is None else tls.wrap_socket(line, server_side=True)
            with contextlib.suppress(OSError):
                said = spoken.recv(65_536)
            spoken.close()
        line.close()
        if tls is None or said:
            found.visits.append(said)

    with listening(visit) as found.port:
        yield found


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve each connection in a thread of its own; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        closing = threading.Event()

        def accept() -> None:
            door.settimeout(0.1)
            while not closing.is_set():
                with contextlib.suppress(OSError):
                    line, _ = door.accept()
                    threading.Thread(target=serve, args=(line,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield door.getsockname()[1]
        finally:
            closing.set()
            thread.join()


def eventually(check: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)
