"""N workers on one socket: started, watched, replaced when they die, and drained together."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import structlog

log = structlog.get_logger("koi.supervisor")

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
HEALTHY_AFTER_S = 30.0
FAILED_STARTS = 5
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class Worker:
    """One process. `news` is a pipe it writes to when ready, and that ends when it ends."""

    child: "subprocess.Popen[bytes]"
    news: IO[bytes]
    started_s: float
    ready: bool = False


@dataclass(slots=True)
class Place:
    """Where a worker runs, whichever process fills it. Times are monotonic seconds."""

    number: int
    worker: Worker | None = None
    due_s: float | None = 0.0
    pause_s: float = FIRST_PAUSE_S
    failed_starts: int = 0


Spawn = Callable[[int], Worker]
"""Starts the process of a place."""


class Supervisor:
    """`run` returns the exit code: 0 when every worker drained, 1 when one could not start."""

    def __init__(self, spawn: Spawn, workers: int, listening: socket.socket, grace_s: float):
        self._spawn = spawn
        self._places = [Place(number) for number in range(workers)]
        self._listening = listening
        self._grace_s = grace_s
        self._selector = selectors.DefaultSelector()
        self._asked = 0
        self._told = 0
        self._give_up_s: float | None = None
        self._code = 0

    def run(self) -> int:
        with self._hearing_signals():
            while self._give_up_s is None or any(place.worker for place in self._places):
                self._start_due()
                for key, _ in self._selector.select(self._next_due_s()):
                    if isinstance(key.data, Place):
                        self._hear(key.data)
                    else:
                        key.data.recv(64)
                self._obey()
        return self._code

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        """Signals wake `select` through a socket pair, whenever they come."""
        inner, outer = socket.socketpair()
        with inner, outer, self._selector:
            inner.setblocking(False)
            outer.setblocking(False)
            self._selector.register(inner, selectors.EVENT_READ, inner)
            before = {number: signal.signal(number, self._ask) for number in STOP_SIGNALS}
            wakeup = signal.set_wakeup_fd(outer.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(wakeup)
                for number, action in before.items():
                    signal.signal(number, action)

    def _ask(self, *_: object) -> None:
        self._asked += 1

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.worker is None and place.due_s is not None and place.due_s <= now:
                place.worker, place.due_s = self._spawn(place.number), None
                self._selector.register(place.worker.news, selectors.EVENT_READ, place)

    def _next_due_s(self) -> float | None:
        dues = [place.due_s for place in self._places if place.due_s is not None]
        if self._give_up_s is not None:
            dues.append(self._give_up_s)
        return max(min(dues) - time.monotonic(), 0) if dues else None

    def _hear(self, place: Place) -> None:
        worker = place.worker
        if worker is None:
            return
        if os.read(worker.news.fileno(), 64):
            worker.ready, place.failed_starts = True, 0
            log.info("worker_ready", worker=place.number, pid=worker.child.pid)
            return
        self._selector.unregister(worker.news)
        worker.news.close()
        status = worker.child.wait()
        place.worker = None
        if self._give_up_s is not None:
            self._code = self._code or int(status != 0 and worker.ready)
        else:
            self._replace(place, worker, status)

    def _replace(self, place: Place, worker: Worker, status: int) -> None:
        lived_s = time.monotonic() - worker.started_s
        if worker.ready and lived_s > HEALTHY_AFTER_S:
            place.pause_s = FIRST_PAUSE_S
        if not worker.ready:
            place.failed_starts += 1
        log.error("worker_died", worker=place.number, pid=worker.child.pid, status=status)
        if place.failed_starts >= FAILED_STARTS:
            log.error("worker_never_ready", worker=place.number, tries=FAILED_STARTS)
            self._code = 1
            self._asked += 1
            return
        place.due_s = time.monotonic() + place.pause_s
        place.pause_s = min(2 * place.pause_s, LONGEST_PAUSE_S)

    def _obey(self) -> None:
        """Pass every stop signal on once; force what has not ended by the end of the grace."""
        if self._asked and self._give_up_s is None:
            self._listening.close()
            self._give_up_s = time.monotonic() + self._grace_s
            for place in self._places:
                place.due_s = None
        if self._told < self._asked:
            self._told = self._asked
            self._tell(signal.SIGTERM)
        if self._give_up_s is not None and time.monotonic() > self._give_up_s:
            self._code = 1
            self._give_up_s = time.monotonic() + self._grace_s
            self._tell(signal.SIGKILL)

    def _tell(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.worker is not None:
                place.worker.child.send_signal(number)
