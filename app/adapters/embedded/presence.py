"""Whether a running store still lies where its path says: deleted or replaced files lose everything
with the process, and nobody who looks at the path would know.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from app.adapters.embedded.aof import AOF, MANIFEST, logs_of

LOOK_EVERY_S = 0.5


class Presence:
    """One look every half second; files count as gone when two looks in a row miss them, since the
    server exchanges some of them while it rewrites its log."""

    def __init__(self, path: Path, socket: Path) -> None:
        self._path, self._socket = path, socket
        self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._looked_s = float("-inf")
        self._missed = 0
        self._logs: dict[str, tuple[int, int]] = {}
        self.missing: str | None = None
        """What is gone; None while everything is there."""

    def look(self) -> None:
        """For whoever knows that the server runs and was ready once."""
        if time.monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = time.monotonic()
        missing = self._miss()
        self._missed = self._missed + 1 if missing else 0
        if missing is None or self._missed > 1:
            self.missing = missing

    def at_home(self) -> bool:
        """Whether the path still leads to the directory that was opened: nothing may be started in
        another one."""
        return same(self._directory, self._path)

    def close(self) -> None:
        os.close(self._directory)

    def _miss(self) -> str | None:
        if not self.at_home():
            return "its directory"
        if not self._socket.exists():
            return "its socket"
        try:
            names = logs_of((self._path / AOF / MANIFEST).read_text())
            found = {name: _identity(self._path / AOF / name) for name in names}
        except (OSError, ValueError):
            return "its log (appendonlydir)"
        # The server never writes a new file under an old name.
        replaced = any(self._logs.get(name, here) != here for name, here in found.items())
        if replaced:
            return "its log (appendonlydir)"
        self._logs = found
        return None


def same(file: int, path: Path) -> bool:
    """Whether an open file is what lies at this path."""
    with suppress(OSError):
        there, here = path.stat(), os.fstat(file)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
    return False


def stray_server(path: Path) -> int | None:
    """The process id of a store that runs on a directory which this path does not lead to any more.

    Linux only: elsewhere a deleted directory cannot be told from one that never was.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[words.index(b"--dir") + 1] != os.fsencode(path):
                continue
            if not path.exists() or not (process / "cwd").samefile(path):
                return int(process.name)
    return None


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
