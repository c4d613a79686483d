"""`python -m app.cli.worker`: one worker of several, on a socket its supervisor bound."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

from app.cli.failure import CommandFailed
from app.cli.out import hang_up, note
from app.cli.session import read_settings
from app.cli.supervisor import Worker


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """What the supervisor's own command line changed, handed on to every worker."""

    listening: socket.socket
    host: str
    port: int
    workers: int

    def spawn(self, number: int) -> Worker:
        """A fresh interpreter in a process group of its own, so that a terminal's Ctrl-C reaches
        the supervisor alone."""
        news, ready = os.pipe()
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
        return Worker(child, os.fdopen(news, "rb", buffering=0), time.monotonic())


def main() -> int:
    parser = argparse.ArgumentParser(prog="koi-worker", description=__doc__)
    for name in ("--socket", "--ready", "--parent", "--number", "--port", "--workers"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--host", required=True)
    asked = parser.parse_args()
    if not _dies_with(asked.parent):
        return 1
    from app.cli.running import run_gateway  # noqa: PLC0415 - first tie to the parent, then load
    from app.telemetry.logs import configure  # noqa: PLC0415

    os.set_inheritable(asked.ready, False)
    listening = socket.socket(fileno=asked.socket)
    listening.set_inheritable(False)

    def ready() -> None:
        os.write(asked.ready, b"ready")

    try:
        settings = read_settings(host=asked.host, port=asked.port, workers=asked.workers)
        configure(settings.log_format, settings.log_level)
        return run_gateway(settings, listening, ready)
    except CommandFailed as failure:
        note(f"koi: {failure}")
        return failure.code


def _dies_with(parent: int) -> bool:
    """A killed supervisor must not leave workers on its port: they drain and end (Linux)."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415

        ctypes.CDLL(None).prctl(1, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent


if __name__ == "__main__":
    code = main()
    hang_up()
    sys.exit(code)
