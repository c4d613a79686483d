"""`koi` with a count of the bytecode instructions that it executes, for `bench/drift.py`.

The count depends on the code, the Python version and nothing else: not on the machine, how busy it
is, or how the interpreter was compiled. Work inside C functions is one instruction each."""

import os
import socket
import sys
import threading
from types import FrameType
from typing import Any

SOCKET_VARIABLE = "KOI_BENCH_COUNTER"


class Counter:
    """Traces every thread that starts after `begin`; counts only while it is on."""

    def __init__(self) -> None:
        self.executed = 0
        self.on = False

    def begin(self) -> None:
        threading.settrace(self._called)
        sys.settrace(self._called)

    def _called(self, frame: FrameType, _: str, __: Any) -> Any:
        if not self.on:
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._executed

    def _executed(self, _: FrameType, event: str, __: Any) -> Any:
        if event == "opcode":
            self.executed += 1
        return self._executed if self.on else None


def answer(counter: Counter, listening: socket.socket) -> None:
    """Each connection sends one byte, 1 to count or 0 to stop, and is told the count."""
    sys.settrace(None)
    while True:
        link, _ = listening.accept()
        with link:
            counter.on = link.recv(1) == b"1"
            link.sendall(b"%d\n" % counter.executed)


def executed(path: str, *, on: bool = True) -> int:
    """Ask a counted gateway; afterwards it counts, or does not."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(30)
        link.connect(path)
        link.sendall(b"1" if on else b"0")
        return int(link.makefile().readline())


def slow_down(interval_s: float = 60.0) -> None:
    """Make the loops that look for due work look rarely, or their looks are counted as the
    request's: on a busy machine they happen during every request."""
    from app.service import image_collector, poller  # noqa: PLC0415 - after the tracing began

    for module in (poller, image_collector):
        if not hasattr(module, "CHECK_INTERVAL_S"):
            sys.exit(f"{module.__name__} has no CHECK_INTERVAL_S any more: tell bench/counted.py")
        module.CHECK_INTERVAL_S = interval_s


def main() -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.environ.pop(SOCKET_VARIABLE))
    listening.listen()
    counter = Counter()
    threading.Thread(target=answer, args=(counter, listening), daemon=True).start()
    counter.begin()
    slow_down()
    from app.cli import main as koi  # noqa: PLC0415 - after the tracing began

    koi()


if __name__ == "__main__":
    main()
