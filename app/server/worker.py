"""One worker process of several: how it is spawned, and what it runs."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.server.supervisor import WorkerProcess

if TYPE_CHECKING:
    from app.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """How a worker is started: the socket, and the options of the supervisor's command line."""

    listening: socket.socket
    host: str
    port: int
    workers: int

    def spawn(self, number: int) -> WorkerProcess:
        """A fresh interpreter in a process group of its own, so that a terminal's Ctrl-C reaches
        the supervisor alone."""
        status_pipe, ready = os.pipe()
        arguments = {
            "--socket": self.listening.fileno(),
            "--ready": ready,
            "--parent": os.getpid(),
            "--number": number,
            "--host": self.host,
            "--port": self.port,
            "--workers": self.workers,
        }
        command = [sys.executable, "-m", "app.cli.worker"]
        command += [str(word) for pair in arguments.items() for word in pair]
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            command,
            pass_fds=(self.listening.fileno(), ready),
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
        os.close(ready)
        return WorkerProcess(child, os.fdopen(status_pipe, "rb", buffering=0), time.monotonic())


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """A worker's command line: inherited descriptors, the parent's process id, and options."""

    socket: int
    ready: int
    parent: int
    number: int
    host: str
    port: int
    workers: int


def run_worker(settings: "Settings", options: WorkerOptions) -> int:
    """Serve on the inherited socket, and write to the inherited pipe once the gateway is open."""
    from app.server.run import run_gateway  # noqa: PLC0415 - first tie to the parent, then load
    from app.telemetry.logs import configure  # noqa: PLC0415

    os.set_inheritable(options.ready, False)
    listening = socket.socket(fileno=options.socket)
    listening.set_inheritable(False)

    def ready() -> None:
        os.write(options.ready, b"ready")

    configure(settings.log_format, settings.log_level)
    return run_gateway(settings, listening, ready)


def tie_to_parent(parent: int) -> bool:
    """A killed supervisor must not leave workers on its port: they drain and end (Linux)."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent
