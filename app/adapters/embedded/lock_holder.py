"""Whether the process that locked a store's directory still lives.

Its server inherits the lock and is told by the kernel to end with it, but answers for a moment
longer: who attached to that one would lose it at once.
"""

import os
from contextlib import suppress
from pathlib import Path

LOCKS = Path("/proc/locks")
DEAD_STATES = ("Z", "X")


def is_lock_holder_dead(lock: Path) -> bool:
    """Linux only; False also where the holder cannot be seen from here."""
    with suppress(OSError):
        found = lock.stat()
        place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
        for line in LOCKS.read_text().splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == place:
                return _is_dead(int(words[4]))
    return False


def _is_dead(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] in DEAD_STATES
