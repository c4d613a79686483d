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

MIN_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
HEALTHY_AFTER_S = 30.0
MAX_FAILED_STARTS = 5
EXIT_REFUSED = 78
"""Of a worker that told why it cannot start (EX_CONFIG of sysexits.h): another try would not end
better."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class WorkerProcess:
    """One process. It writes to `status_pipe` when it is ready; the pipe closes when it ends."""

    child: "subprocess.Popen[bytes]"
    status_pipe: IO[bytes]
    started_s: float
    ready: bool = False


@dataclass(slots=True)
class WorkerSlot:
    """A worker by number, whichever process it is just now. Times are monotonic seconds."""

    number: int
    worker: WorkerProcess | None = None
    start_at_s: float | None = 0.0
    backoff_s: float = MIN_BACKOFF_S
    failed_starts: int = 0


Spawn = Callable[[int], WorkerProcess]
"""Starts the process of the worker with this number."""


class Supervisor:
    """`run` returns the exit code: 0 when every worker drained, 1 when one could not start."""

    def __init__(self, spawn: Spawn, workers: int, listening: socket.socket, grace_s: float):
        self._spawn = spawn
        self._slots = [WorkerSlot(number) for number in range(workers)]
        self._listening = listening
        self._grace_s = grace_s
        self._selector = selectors.DefaultSelector()
        self._stops_received = 0
        self._stops_forwarded = 0
        self._kill_at_s: float | None = None
        self._code = 0
        self._served = False

    def run(self) -> int:
        with self._handle_signals():
            while self._kill_at_s is None or any(slot.worker for slot in self._slots):
                self._start_due()
                for key, _ in self._selector.select(self._next_due_s()):
                    if isinstance(key.data, WorkerSlot):
                        self._read_status(key.data)
                    else:
                        key.data.recv(64)
                self._stop_workers()
        return self._code

    @contextlib.contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """Signals wake `select` through a socket pair, whenever they come."""
        inner, outer = socket.socketpair()
        with inner, outer, self._selector:
            inner.setblocking(False)
            outer.setblocking(False)
            self._selector.register(inner, selectors.EVENT_READ, inner)
            before = {
                number: signal.signal(number, self._on_stop_signal) for number in STOP_SIGNALS
            }
            wakeup = signal.set_wakeup_fd(outer.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                signal.set_wakeup_fd(wakeup)
                for number, action in before.items():
                    signal.signal(number, action)

    def _on_stop_signal(self, *_: object) -> None:
        self._stops_received += 1

    def _start_due(self) -> None:
        """Starting many takes a while: a stop signal that comes meanwhile is obeyed at once."""
        now = time.monotonic()
        for slot in self._slots:
            if self._stops_received:
                return
            if slot.worker is None and slot.start_at_s is not None and slot.start_at_s <= now:
                slot.worker, slot.start_at_s = self._spawn(slot.number), None
                self._selector.register(slot.worker.status_pipe, selectors.EVENT_READ, slot)

    def _next_due_s(self) -> float | None:
        deadlines_s = [slot.start_at_s for slot in self._slots if slot.start_at_s is not None]
        if self._kill_at_s is not None:
            deadlines_s.append(self._kill_at_s)
        return max(min(deadlines_s) - time.monotonic(), 0) if deadlines_s else None

    def _read_status(self, slot: WorkerSlot) -> None:
        worker = slot.worker
        if worker is None:
            return
        if os.read(worker.status_pipe.fileno(), 64):
            worker.ready, slot.failed_starts, self._served = True, 0, True
            log.info("worker_ready", worker=slot.number, pid=worker.child.pid)
            return
        self._selector.unregister(worker.status_pipe)
        worker.status_pipe.close()
        status = worker.child.wait()
        slot.worker = None
        if self._kill_at_s is not None:
            self._code = self._code or int(status != 0 and worker.ready)
        else:
            self._schedule_restart(slot, worker, status)

    def _schedule_restart(self, slot: WorkerSlot, worker: WorkerProcess, status: int) -> None:
        lived_s = time.monotonic() - worker.started_s
        if worker.ready and lived_s > HEALTHY_AFTER_S:
            slot.backoff_s = MIN_BACKOFF_S
        if not worker.ready:
            slot.failed_starts += 1
        log.error("worker_died", worker=slot.number, pid=worker.child.pid, status=status)
        # Once some worker served, what refuses its replacement may pass.
        refused = status == EXIT_REFUSED and not self._served
        if refused or slot.failed_starts >= MAX_FAILED_STARTS:
            log.error("worker_never_ready", worker=slot.number, tries=slot.failed_starts)
            self._code = 1
            self._stops_received += 1
            return
        slot.start_at_s = time.monotonic() + slot.backoff_s
        slot.backoff_s = min(2 * slot.backoff_s, MAX_BACKOFF_S)

    def _stop_workers(self) -> None:
        """Pass every stop signal on once; kill what lives on after the grace period."""
        if self._stops_received and self._kill_at_s is None:
            self._listening.close()
            self._kill_at_s = time.monotonic() + self._grace_s
            for slot in self._slots:
                slot.start_at_s = None
        if self._stops_forwarded < self._stops_received:
            self._stops_forwarded = self._stops_received
            self._signal_workers(signal.SIGTERM)
        if self._kill_at_s is not None and time.monotonic() > self._kill_at_s:
            self._code = 1
            self._kill_at_s = time.monotonic() + self._grace_s
            self._signal_workers(signal.SIGKILL)

    def _signal_workers(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.worker is not None:
                slot.worker.child.send_signal(number)
