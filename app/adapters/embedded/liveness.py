"""Whether a store answers, and whether its files are still at their path.

When the files of a running store are deleted or replaced, everything is lost once its process ends.
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

from app.adapters.embedded.aof import AOF_DIRECTORY, MANIFEST, parse_manifest

PING_TIMEOUT_S = 0.5


class PingReply(Enum):
    """What came back."""

    PONG = auto()
    LOADING = auto()
    """It is reading its data from disk and will be ready."""
    SILENCE = auto()


def ping(path: Path) -> PingReply:
    """Send one PING (RESP2) to the server behind this unix socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PING_TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(b"*1\r\n$4\r\nPING\r\n")
            reply = connection.recv(512)
    except OSError:
        return PingReply.SILENCE
    if reply.startswith(b"+PONG"):
        return PingReply.PONG
    return PingReply.LOADING if reply.startswith(b"-LOADING") else PingReply.SILENCE


CHECK_INTERVAL_S = 0.5


class StoreFilesMonitor:
    """Checks every half second. Files count as gone when two checks in a row miss them, since the
    server replaces some of them while it rewrites its log."""

    def __init__(self, path: Path, socket: Path) -> None:
        self._path, self._socket = path, socket
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._checked_s = float("-inf")
        self._missed = 0
        self._logs: dict[str, tuple[int, int]] = {}
        self.missing: str | None = None
        """What is gone, in words; None while everything is there."""

    def check(self) -> None:
        """Call this only while the server runs and after it was ready once."""
        if time.monotonic() - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = time.monotonic()
        missing = self._find_missing()
        self._missed = self._missed + 1 if missing else 0
        if missing is None or self._missed > 1:
            self.missing = missing

    def is_in_place(self) -> bool:
        """Whether the path still leads to the directory that was opened. No server may be started
        in another one."""
        return is_same_file(self._directory, self._path)

    def close(self) -> None:
        os.close(self._directory)

    def _find_missing(self) -> str | None:
        if not self.is_in_place():
            return "its directory"
        if not self._socket.exists():
            return "its socket"
        try:
            names = parse_manifest((self._path / AOF_DIRECTORY / MANIFEST).read_text())
            found = {name: _file_identity(self._path / AOF_DIRECTORY / name) for name in names}
        except (OSError, ValueError):
            return "its log (appendonlydir)"
        # The server never reuses a file name, so another file under a known name is a replaced one.
        replaced = any(self._logs.get(name, here) != here for name, here in found.items())
        if replaced:
            return "its log (appendonlydir)"
        self._logs = found
        return None


def is_same_file(file: int, path: Path) -> bool:
    """Whether the path leads to this open file."""
    with suppress(OSError):
        there, here = path.stat(), os.fstat(file)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
    return False


def find_stray_server(path: Path) -> int | None:
    """The process id of a store that runs on a directory to which this path no longer leads.

    Linux only: it needs /proc to find the processes.
    """
    return next((pid for pid, in_place in _find_servers(path) if not in_place), None)


def find_server(path: Path) -> int | None:
    """The process id of a store that runs on the directory to which this path leads. Linux only."""
    return next((pid for pid, in_place in _find_servers(path) if in_place), None)


def _find_servers(path: Path) -> Iterator[tuple[int, bool]]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[words.index(b"--dir") + 1] == os.fsencode(path):
                in_place = path.exists() and (process / "cwd").samefile(path)
                yield int(process.name), in_place


def _file_identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
