"""Ports on which only the asker will listen, however many test processes run beside it.

A port that was bound and closed again may go to anybody before it is used: to another test, or
to an outgoing connection. These lie below what the system gives out by itself, and each process
has a block of its own for as long as it lives.
"""

import fcntl
import itertools
import os
import socket
import tempfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path

FIRST, LAST = 10_000, 30_000
PER_PROCESS = 200


def free_port() -> int:
    """A port on which nobody listens; the next one is free as well (a sandbox takes both)."""
    for port in itertools.islice(_candidates(os.getpid()), PER_PROCESS // 2):
        with ExitStack() as probes:
            try:
                for number in (port, port + 1):
                    probe = probes.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return port
    raise AssertionError("all ports of this process are taken")


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


@cache
def _candidates(_pid: int) -> "itertools.cycle[int]":
    """Every second port of the block that this process has; a fork claims one of its own."""
    first = _claimed_block()
    return itertools.cycle(range(first, first + PER_PROCESS, 2))


def _claimed_block() -> int:
    """The first block that no living process has: its lock is held until the process ends."""
    locks = Path(tempfile.gettempdir()) / "koi-test-ports"
    locks.mkdir(exist_ok=True)
    for first in range(FIRST, LAST, PER_PROCESS):
        lock = os.open(locks / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
        else:
            return first
    raise AssertionError("all ports for tests are taken")
