"""Gateways forked from one warm process: a tenth of what a start of `koi serve` costs."""

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.chaos import mortal
from tests.harness import environment

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.chaos.warm"])
_bookkeeping = threading.Lock()
"""A start looks after every earlier child, and two looks at one child would spoil its exit code."""


class Fork:
    """`koi serve`, mortal where `crash_at` names a step; listening when the constructor returns.

    Requests wait in its backlog until it is open. `place` is the port of an earlier one.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        log: Path,
        crash_at: str | None = None,
        place: socket.socket | None = None,
    ) -> None:
        self.place = place or reserve()
        self.port = self.place.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        words = environment(port=self.port, **settings)
        if crash_at is not None:
            words["CRASH_AT"] = crash_at
        self._process = _context.Process(
            target=_live, args=(words, str(log)), daemon=True, name=f"koi {self.port}"
        )
        with _bookkeeping:
            self._process.start()
        self._wait_until_listening()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self.ended(0) is None

    def ended(self, within_s: float) -> int | None:
        """The exit code (negative: the signal) once it ended; None when it lives on."""
        multiprocessing.connection.wait([self._process.sentinel], within_s)
        with _bookkeeping:
            return self._process.exitcode

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.ended(10)

    def term(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def _wait_until_listening(self, within_s: float = 90) -> None:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5):
                return
            assert self.alive, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"not listening: {self.log.read_text()}")


def _live(words: dict[str, str], log: str) -> None:
    if sys.platform == "linux":
        # Nothing of ours may outlive the tests: the forking process dies with them.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    mortal.live(words, log)


def reserve() -> socket.socket:
    """A port nobody else will be given, bound for as long as this is open; koi may listen there."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", 0))
    return place
