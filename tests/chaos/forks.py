"""Gateways forked from one warm process: a tenth of what a start of `koi serve` costs."""

import atexit
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from tests.chaos import mortal
from tests.harness import environment

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.chaos.warm"])
_bookkeeping = threading.Lock()
"""A start looks after every earlier child, and two looks at one child would spoil its exit code."""


def end_forking() -> None:
    """Ends the warm process and waits for it, so that its CPU time counts as that of the tests."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


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


class ForkedCommand:
    """`koi` with these words in a directory, watched like a `subprocess.Popen`."""

    def __init__(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        arguments = (list(words), str(cwd), dict(environment), str(log))
        self._process = _context.Process(target=_run, args=arguments, daemon=True)
        with _bookkeeping:
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        with _bookkeeping:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        multiprocessing.connection.wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("koi", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _live(words: dict[str, str], log: str) -> None:
    _die_with_the_tests()
    mortal.live(words, log)


def _run(words: list[str], cwd: str, environment: dict[str, str], log: str) -> None:
    _die_with_the_tests()
    os.chdir(cwd)
    try:
        mortal.live(environment, log, words)
    finally:
        atexit._run_exitfuncs()  # the last lines of the log; the library skips them in a child


def _die_with_the_tests() -> None:
    """Nothing of ours may outlive the tests: the forking process dies with them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def reserve() -> socket.socket:
    """A port nobody else will be given, bound for as long as this is open; koi may listen there."""
    place = socket.socket()
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.bind(("127.0.0.1", 0))
    return place
