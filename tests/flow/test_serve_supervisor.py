"""The supervisor with workers of a few lines: replaced, given up on, drained, hurried."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

DRIVER = """
import os, signal, socket, subprocess, sys, time
from app.server.supervisor import Supervisor, WorkerProcess

def spawn(number):
    print("spawned", number)
    if number == int(os.environ.get("STOPPED_AT", -1)):
        os.kill(os.getpid(), signal.SIGTERM)
    news, ready = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", sys.argv[1], str(ready)], pass_fds=(ready,), process_group=0
    )
    os.close(ready)
    return WorkerProcess(child, os.fdopen(news, "rb", buffering=0), time.monotonic())

sys.exit(Supervisor(spawn, int(sys.argv[2]), socket.socket(), float(sys.argv[3])).run())
"""
GOOD = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
os.write(int(sys.argv[1]), b"ready")
while True: signal.pause()
"""
SLOW_TO_END = """
import os, signal, sys
asked = []
def end(*_):
    asked.append(1)
    print("asked", len(asked))
    if len(asked) > 1: sys.exit(3)
signal.signal(signal.SIGTERM, end)
os.write(int(sys.argv[1]), b"ready")
while True: signal.pause()
"""
BROKEN = "raise SystemExit(7)"
REFUSED = "raise SystemExit(78)"


@contextmanager
def supervising(
    child: str, workers: int = 1, grace_s: float = 20
) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-u", "-c", DRIVER, child, str(workers), str(grace_s)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield parent
    finally:
        # Twice: some of these workers want to be asked twice.
        for _ in range(2):
            parent.terminate()
            with suppress(subprocess.TimeoutExpired):
                parent.wait(2)
        parent.communicate(timeout=10)


def lines_until(parent: "subprocess.Popen[str]", word: str, times: int = 1) -> list[str]:
    lines: list[str] = []
    while sum(word in line for line in lines) < times:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        assert line, f"ended before {word!r}: {lines}"
        lines.append(line)
    return lines


def pids(lines: list[str]) -> list[int]:
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    return [int(found[1]) for line in plain if (found := re.search(r"ready.*pid=(\d+)", line))]


def test_sigterm_reaches_every_worker_and_ends_with_0() -> None:
    with supervising(GOOD, workers=3) as parent:
        lines_until(parent, "worker_ready", times=3)

        parent.send_signal(signal.SIGTERM)

        assert parent.wait(10) == 0


def test_a_killed_worker_is_replaced_and_logged_once() -> None:
    with supervising(GOOD, workers=2) as parent:
        first, second = pids(lines_until(parent, "worker_ready", times=2))

        os.kill(first, signal.SIGKILL)
        after = lines_until(parent, "worker_ready")

        assert sum("worker_died" in line for line in after) == 1
        assert pids(after)[0] not in (first, second)
        os.kill(second, 0)


def test_a_worker_that_is_never_ready_stops_the_whole_after_five_tries() -> None:
    began = time.monotonic()
    with supervising(BROKEN) as parent:
        lines = lines_until(parent, "worker_never_ready")

        assert parent.wait(10) == 1
        assert sum("worker_died" in line for line in lines) == 5
        # Pauses of 0.1, 0.2, 0.4 and 0.8 seconds lie between five tries.
        assert time.monotonic() - began > 1.4


def test_a_refused_start_is_not_tried_again() -> None:
    with supervising(REFUSED) as parent:
        lines = lines_until(parent, "worker_never_ready")

        assert parent.wait(10) == 1
        assert sum("worker_died" in line for line in lines) == 1


def test_a_replacement_that_is_refused_is_tried_five_times(tmp_path: Path) -> None:
    refusing = tmp_path / "refusing"
    turning = f"import os, sys\nif os.path.exists({str(refusing)!r}): sys.exit(78)\n{GOOD}"
    with supervising(turning) as parent:
        [worker] = pids(lines_until(parent, "worker_ready"))
        refusing.touch()
        os.kill(worker, signal.SIGKILL)
        lines = lines_until(parent, "worker_never_ready")

        assert parent.wait(10) == 1
        assert sum("worker_died" in line for line in lines) == 1 + 5


def test_a_second_signal_is_passed_on_and_spoils_the_exit_code() -> None:
    with supervising(SLOW_TO_END) as parent:
        lines_until(parent, "worker_ready")
        parent.send_signal(signal.SIGTERM)
        lines_until(parent, "asked 1")

        parent.send_signal(signal.SIGINT)
        lines_until(parent, "asked 2")

        assert parent.wait(10) == 1


def test_what_does_not_end_within_the_grace_is_killed() -> None:
    with supervising(SLOW_TO_END, grace_s=0.3) as parent:
        lines_until(parent, "worker_ready")

        parent.send_signal(signal.SIGTERM)

        assert parent.wait(10) == 1


def test_a_stop_while_workers_are_started_starts_no_further_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STOPPED_AT", "1")
    with supervising(GOOD, workers=20) as parent:
        out, _ = parent.communicate(timeout=20)

        assert parent.returncode == 0
        assert re.findall(r"spawned (\d+)", out) == ["0", "1"]


def test_no_worker_is_started_once_the_end_has_begun() -> None:
    with supervising(GOOD) as parent:
        [worker] = pids(lines_until(parent, "worker_ready"))
        parent.send_signal(signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        parent.send_signal(signal.SIGTERM)
        parent.send_signal(signal.SIGCONT)

        assert parent.wait(10) in (0, 1)
        assert parent.stdout is not None
        assert "worker_ready" not in parent.stdout.read()
