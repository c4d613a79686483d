"""Numbered places for worker processes, so that a replaced worker counts on where the dead one was.

Metric files named by process id pile up and pull gauges of the dead along; files named by slot do
neither (ecosystem study, section 4.3).
"""

import fcntl
import itertools
import os
from pathlib import Path


def claim_slot(directory: Path) -> int:
    """Take the lowest free slot of a directory for as long as this process lives.

    The lock belongs to an open file that is never closed on purpose: the kernel frees the slot
    when the process dies, however it dies.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for slot in itertools.count():
        if _lock(directory / f"slot-{slot}.lock") is not None:
            return slot
    raise AssertionError("unreachable")


def prepare_directory(directory: Path) -> None:
    """Forget the counts of an earlier run. Called by the supervisor before its first worker.

    Files of a slot that a living process holds stay: two gateways that were given one directory
    by mistake must not wipe each other's counters.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for lock in directory.glob("slot-*.lock"):
        held = _lock(lock)
        if held is None:
            continue
        for stale in directory.glob(f"*_{lock.stem.removeprefix('slot-')}.db"):
            stale.unlink(missing_ok=True)
        os.close(held)


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
