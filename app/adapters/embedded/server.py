"""One run of the server program: spawned with a lock, watched until ready, ended with care."""

import os
import subprocess
import sys
import threading
import time
from io import FileIO
from pathlib import Path
from typing import Self

from app.adapters.embedded.directory import StoreDirectory, store_unusable
from app.adapters.embedded.engine import StoreEngine
from app.adapters.embedded.errors import StoreNotStarted
from app.adapters.embedded.liveness import PingReply, ping

PING_INTERVAL_S = 0.005
STOP_TIMEOUT_S = 10.0
MAX_LOG_BYTES = 1024 * 1024

# The server must not outlive a killed gateway (ecosystem study, trap 4). The signal is set in a
# small program of its own, because code between fork and exec may deadlock under threads. When
# the gateway died before it was set, nobody would send it: hence the look at the parent.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class StoreServer:
    """A child process. Spawn it from a thread that lives as long as it shall."""

    def __init__(self, child: "subprocess.Popen[bytes]", directory: StoreDirectory) -> None:
        self._child = child
        self._directory = directory

    @classmethod
    def spawn(cls, engine: StoreEngine, directory: StoreDirectory, lock: int) -> Self:
        """Start the program on the directory; the lock is inherited. Not ready yet."""
        try:
            with _open_log(directory.log) as log:
                child = subprocess.Popen(  # noqa: S603  the program was probed, the rest is ours
                    _build_command(engine, directory),
                    cwd=directory.path,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    umask=0o077,
                    # A terminal's Ctrl-C must not stop the store while the gateway drains.
                    start_new_session=True,
                )
        except OSError as error:
            raise store_unusable(directory.path, error) from error
        return cls(child, directory)

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    @property
    def exit_status(self) -> int | None:
        return self._child.poll()

    def wait_until_ready(self, stop: threading.Event, timeout_s: float) -> None:
        """Return when it answers, or when told to stop; loading much data may take its time.

        Raises `StoreNotStarted`; the process is gone then.
        """
        deadline = time.monotonic() + timeout_s
        while not stop.is_set():
            answer = ping(self._directory.socket)
            if answer is PingReply.PONG and self.is_alive:
                return
            if answer is PingReply.LOADING:
                deadline = time.monotonic() + timeout_s
            if not self.is_alive or time.monotonic() > deadline:
                self.stop()
                raise StoreNotStarted(self._describe_failure())
            stop.wait(PING_INTERVAL_S)

    def stop(self) -> None:
        """End it in order. Every acknowledged write is on disk already, so force loses nothing."""
        self._child.terminate()
        try:
            self._child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _describe_failure(self) -> str:
        log = self._directory.log
        return (
            f"The store's server did not start (exit status {self.exit_status}); its last words: "
            f"{_read_last_line(log)!r}. If its data is damaged, run `koi store repair`, which "
            "moves the damage aside and puts the books together again from what can be read and "
            f"the journal. Otherwise read {log} and start again, or set KOI_REDIS_URL to another "
            "server."
        )


def _build_command(engine: StoreEngine, directory: StoreDirectory) -> list[str]:
    settings = {
        "port": "0",
        "unixsocket": str(directory.socket),
        "unixsocketperm": "700",
        "dir": str(directory.path),
        "daemonize": "no",
        # So that its command line keeps saying which directory it runs on (presence.py).
        "set-proc-title": "no",
        "loglevel": "notice",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    command = [str(engine.program)]
    for name, value in settings.items():
        command += [f"--{name}", value]
    if sys.platform != "linux":
        return command
    python = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT]
    return [*python, str(os.getpid()), *command]


def _open_log(path: Path) -> FileIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    log = FileIO(os.open(path, flags, 0o600), "ab")
    if os.fstat(log.fileno()).st_size > MAX_LOG_BYTES:
        log.truncate(0)
    return log


def _read_last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - 1000, 0))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing")
