"""What this machine allows one process: open files, memory, and what can be carried with them."""

import os
import resource
from pathlib import Path

MAX_OPEN_FILES = 65_536
RESERVED_FILES = 1_024
"""For the store, the poller and pictures, beside the files of generations."""
FILES_PER_GENERATION = 3
"""Its caller's connection, the one to the provider, and a picture that is fetched or written."""
BYTES_PER_GENERATION = 64 << 10
MAX_IN_FLIGHT, MIN_IN_FLIGHT = 10_000, 100
MEMORY_LIMIT_FILES = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""A container's limit: control groups version 2 and 1."""


def max_open_files() -> int:
    """The hard limit, to which the start raises the soft one."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_OPEN_FILES if files == resource.RLIM_INFINITY else min(files, MAX_OPEN_FILES)


def memory_bytes() -> int:
    """The memory of the machine, or of the container where that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = [text for file in MEMORY_LIMIT_FILES if (text := _read(file)).isdecimal()]
    return min([physical, *map(int, limits)])


def max_in_flight(workers: int = 1) -> int:
    """How many generations one of so many workers can carry: half of its share of the memory, and
    its open files."""
    by_memory = memory_bytes() // workers // 2 // BYTES_PER_GENERATION
    by_files = (max_open_files() - RESERVED_FILES) // FILES_PER_GENERATION
    return max(min(by_memory, by_files, MAX_IN_FLIGHT), MIN_IN_FLIGHT)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return ""
