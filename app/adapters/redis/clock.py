"""This host's own clock, for a store whose clock may be set while jobs wait for their time."""

import secrets
import time
from contextlib import suppress
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _host() -> str:
    """The monotonic clock of one boot is one clock for all its processes, also later ones."""
    with suppress(OSError):
        return BOOT_ID.read_text().strip().replace("-", "")[:16]
    return secrets.token_hex(8)


_HOST = _host()


def monotonic_stamp() -> str:
    """`<host> <milliseconds of its monotonic clock>`, as the scripts read it."""
    return f"{_HOST} {time.monotonic_ns() // 1_000_000}"
