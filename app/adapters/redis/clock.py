"""This host's monotonic clock, by which the scripts notice that the store's clock was set."""

import secrets
import time
from contextlib import suppress
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def _host() -> str:
    """Names this boot: all processes of one boot share its monotonic clock."""
    with suppress(OSError):
        return BOOT_ID.read_text().strip().replace("-", "")[:16]
    return secrets.token_hex(8)


_HOST = _host()


def monotonic_stamp() -> str:
    """`<host> <milliseconds of its monotonic clock>`, as the scripts read it."""
    return f"{_HOST} {time.monotonic_ns() // 1_000_000}"
