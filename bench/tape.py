"""Records what gateways say to a store, and says it again to an empty one as fast as it answers.

So a store is measured with exactly the scripts and values of real requests, and without a gateway
that would be saturated first."""

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.children import STORE_CORE, Child, Place
from bench.cpu import cpu_split

LISTENING = (b"subscribe", b"ssubscribe", b"psubscribe")
END = b"\r\n"
READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Replay:
    """`depth` commands are under way at any time, as from so many connections that wait."""

    depth: int
    fsync: str
    generations_per_s: float
    commands_per_s: float
    cpu_share: float
    """Of one core, by the store; the rest of the time it waits for the disk."""
    cpu_ms_each: float
    log_bytes_each: float
    refused: int
    """Replies that are errors; those that were recorded as errors too are among them."""


class Store:
    """A Redis server of its own on a unix socket, empty at first."""

    def __init__(self, folder: Path, program: str, fsync: str = "always") -> None:
        folder.mkdir()
        self.socket = folder / "store.sock"
        command = [program, "--port", "0", "--unixsocket", str(self.socket), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", fsync, "--dir", str(folder)]
        command += ["--maxmemory-policy", "noeviction", "--auto-aof-rewrite-percentage", "0"]
        self._child = Child("store", command, Place(STORE_CORE, folder))

    def __enter__(self) -> "Store":
        while not self.socket.exists():
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    def connect(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(60)
        link.connect(str(self.socket))
        return link


class Recorder:
    """Stands before a store and keeps the bytes that each connection sends, in order."""

    def __init__(self, path: Path, store: Store) -> None:
        self._store = store
        self._pieces: list[tuple[int, bytes]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def mark(self) -> int:
        """A place on the tape."""
        return len(self._pieces)

    def commands(self, start: int, end: int) -> list[bytes]:
        """The commands between two marks that are answered at once and once."""
        listeners = {
            link for link, data in self._pieces if any(word in data.lower() for word in LISTENING)
        }
        buffers: dict[int, bytes] = {}
        found = []
        for i, (link, data) in enumerate(self._pieces[:end]):
            if link in listeners:
                continue
            whole, buffers[link] = _split(buffers.get(link, b"") + data)
            found += whole if i >= start else []
        return found

    def _accept(self) -> None:
        while True:
            caller, _ = self._listening.accept()
            threading.Thread(target=self._pass_on, args=(caller,), daemon=True).start()

    def _pass_on(self, caller: socket.socket) -> None:
        with caller, self._store.connect() as store:
            while True:
                ready, _, _ = select.select([caller, store], [], [])
                for link in ready:
                    data = link.recv(READ_BYTES)
                    if not data:
                        return
                    if link is caller:
                        self._pieces.append((caller.fileno(), data))
                    (store if link is caller else caller).sendall(data)


def replay(
    setup: list[bytes], work: list[bytes], generations: int, store: Store, depth: int, fsync: str
) -> Replay:
    with store.connect() as link:
        _say(link, setup, 1)
        log = _log_bytes(store)
        before, began = cpu_split(store.pid), time.perf_counter()
        refused = _say(link, work, depth)
        lasted_s = time.perf_counter() - began
        spent_s = cpu_split(store.pid).since(before).store_s
    return Replay(
        depth,
        fsync,
        generations / lasted_s,
        len(work) / lasted_s,
        spent_s / lasted_s,
        spent_s / generations * 1000,
        (_log_bytes(store) - log) / generations,
        refused,
    )


def _say(link: socket.socket, commands: list[bytes], depth: int) -> int:
    """Send them with at most `depth` unanswered; returns how many were answered by an error."""
    sent = answered = refused = 0
    replies = _replies(link)
    while answered < len(commands):
        batch = commands[sent : answered + depth]
        if batch:
            link.sendall(b"".join(batch))
            sent += len(batch)
        # Half of what is under way, so that the store always has something to do.
        for _ in range(max((sent - answered) // 2, 1)):
            refused += next(replies)
            answered += 1
    return refused


def _replies(link: socket.socket) -> Iterator[bool]:
    """One item for each reply: whether it is an error."""
    buffer, at = b"", 0
    while True:
        end = _reply_end(buffer, at)
        while end < 0:
            data = link.recv(READ_BYTES)
            if not data:
                raise ConnectionError("the store closed the connection")
            buffer, at = buffer[at:] + data, 0
            end = _reply_end(buffer, 0)
        yield buffer[at : at + 1] == b"-"
        at = end


def _reply_end(data: bytes, at: int) -> int:
    """Where the RESP value at `at` ends; -1 when it is not whole."""
    open_values = 1
    while open_values:
        line = data.find(END, at)
        if line < 0:
            return -1
        kind, head = data[at : at + 1], data[at + 1 : line]
        at = line + 2
        open_values -= 1
        if kind == b"$" and head != b"-1":
            at += int(head) + 2
        elif kind in b"*~>" and head != b"-1":
            open_values += int(head)
        elif kind == b"%":
            open_values += 2 * int(head)
    return at if at <= len(data) else -1


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole commands, and the rest."""
    found, at = [], 0
    while (end := _reply_end(data, at)) >= 0 and at < len(data):
        found.append(data[at:end])
        at = end
    return found, data[at:]


def _log_bytes(store: Store) -> int:
    files = store.socket.parent.rglob("*.aof")
    return sum(os.stat(path).st_size for path in files)
