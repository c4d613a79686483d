"""A tiny server that counts: each generation gets the failure that its prompt names."""

import json
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

JSON = "application/json"
ERROR = (
    b'{"error": {"message": "no", "type": "server_error", "param": null, "code": "upstream_error"}}'
)


@dataclass(frozen=True)
class Arrival:
    """`after_s`: since the previous answer was over."""

    headers: dict[str, str]
    at: float
    after_s: float | None


@dataclass
class Counter:
    """Answers every generation with the failure that its prompt names."""

    arrivals: dict[str, list[Arrival]] = field(default_factory=lambda: defaultdict(list))
    over: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, peer: socket.socket) -> None:
        with peer:
            while request := _read(peer):
                head, body = request
                if not head.startswith("POST"):
                    _send(peer, 200, b'{"object": "list", "data": []}')
                    continue
                prompt = json.loads(body)["prompt"]
                self._note(prompt, head)
                kept = ANSWERS[prompt.split()[0]](peer)
                with self.lock:
                    self.over[prompt] = time.monotonic()
                if not kept:
                    return

    def _note(self, prompt: str, head: str) -> None:
        now = time.monotonic()
        lines = head.split("\r\n")[1:]
        headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines) if n}
        with self.lock:
            over = self.over.get(prompt)
            after_s = None if over is None else now - over
            self.arrivals[prompt].append(Arrival(headers, now, after_s))


def _status(
    status: int, *headers: str, body: bytes = ERROR, kind: str = JSON
) -> Callable[[socket.socket], bool]:
    def act(peer: socket.socket) -> bool:
        _send(peer, status, body, kind, headers)
        return True

    return act


def _reset(peer: socket.socket) -> bool:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def _beat(peer: socket.socket) -> None:
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked"
    peer.sendall(f"{head}\r\n\r\n1\r\n \r\n".encode())


def _late(peer: socket.socket) -> bool:
    """A heartbeat, then the end of the connection: what a failure after the status looks like."""
    _beat(peer)
    time.sleep(0.3)
    return _reset(peer)


def _late_body(peer: socket.socket) -> bool:
    """A heartbeat, then an error object under the 200 that is already out."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    peer.sendall(head + b"1\r\n \r\n")
    time.sleep(0.3)
    peer.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(ERROR), ERROR))
    return True


def _silence(peer: socket.socket) -> bool:
    """Nothing, until the client leaves."""
    peer.settimeout(8)
    with suppress(OSError):
        peer.recv(1)
    return False


PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
ANSWERS: dict[str, Callable[[socket.socket], bool]] = {
    "500": _status(500),
    "500-told-not-to": _status(500, "x-should-retry: false"),
    "502-html": _status(502, body=PAGE, kind="text/html"),
    "504": _status(504),
    "reset": _reset,
    "cut-late": _late,
    "error-late": _late_body,
    "429-after-1": _status(429, "retry-after: 1"),
    "429-after-5": _status(429, "retry-after: 5"),
    "429": _status(429),
    "409": _status(409),
    "400": _status(400),
    "silence": _silence,
}


def _send(
    peer: socket.socket, status: int, body: bytes, kind: str = JSON, headers: Sequence[str] = ()
) -> None:
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-type: {kind}",
        f"content-length: {len(body)}",
        *headers,
    ]
    peer.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def _read(peer: socket.socket) -> tuple[str, bytes] | None:
    try:
        return _request(peer)
    except OSError:
        return None


def _request(peer: socket.socket) -> tuple[str, bytes] | None:
    got = b""
    while b"\r\n\r\n" not in got:
        more = peer.recv(65536)
        if not more:
            return None
        got += more
    head, _, body = got.partition(b"\r\n\r\n")
    text = head.decode("latin-1")
    sizes = [line for line in text.lower().split("\r\n") if line.startswith("content-length:")]
    size = int(sizes[0].partition(":")[2]) if sizes else 0
    while len(body) < size:
        body += peer.recv(65536)
    return text, body


@contextmanager
def counting() -> Iterator[tuple[Counter, str]]:
    counter = Counter()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        threading.Thread(target=_accept, args=(listening, counter), daemon=True).start()
        yield counter, f"http://127.0.0.1:{listening.getsockname()[1]}/v1"


def _accept(listening: socket.socket, counter: Counter) -> None:
    while True:
        try:
            peer, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=counter.serve, args=(peer,), daemon=True).start()
