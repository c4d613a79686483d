"""One run of the server program: spawned with the lock, watched until ready, stopped in order."""

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

# The server must not outlive a killed gateway, so the kernel is asked to send it SIGTERM when its
# parent dies. A program of its own asks, since Python code between fork and exec may deadlock when
# there are threads. If the gateway died before that, no signal would come: hence the comparison.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class StoreServer:
    """A child process. Spawn it from a thread that lives as long as the server must."""

    def __init__(self, child: "subprocess.Popen[bytes]", directory: StoreDirectory) -> None:
        self._child = child
        self._directory = directory

    @classmethod
    def spawn(cls, engine: StoreEngine, directory: StoreDirectory, lock: int) -> Self:
        """Start the program on the directory; the lock is inherited. Not ready yet."""
        try:
            with _open_log(directory.log) as log:
                child = subprocess.Popen(  # noqa: S603  the program was probed, the arguments are ours
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
        """Return when it answers or `stop` is set. Time spent loading data does not count.

        Raises `StoreNotStarted`; the process has ended then.
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
        """Stop it, by force if it takes too long: every acknowledged write is already on disk."""
        self._child.terminate()
        try:
            self._child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _describe_failure(self) -> str:
        log = self._directory.log
        return (
            f"The store's server did not start (exit status {self.exit_status}); its last line: "
            f"{_read_last_line(log)!r}. If its data is damaged, run `koi store repair`, which "
            "moves the damaged files aside and rebuilds the ledger from what can be read and from "
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
        # The command line must keep the directory, by which `find_stray_server` finds it.
        "set-proc-title": "no",
        "loglevel": "notice",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        # A job's record takes a third of the memory, and loads faster, while it is a compact list.
        "hash-max-listpack-value": "2048",
        "hash-max-listpack-entries": "64",
        # Jobs enter and leave the sets of running jobs, which is faster where these are no lists.
        "zset-max-listpack-entries": "16",
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
