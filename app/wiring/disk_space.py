"""Whether the disks still have room: pictures that are made while they have none cannot be kept."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from app.settings import Settings

MIN_FREE_BYTES = 4 << 20
"""About one picture and its journal entries."""
CHECK_INTERVAL_S = 1.0

log = structlog.get_logger("koi")


class DiskSpaceMonitor:
    """Watches the disks of the journal, of pictures and of pictures that are being uploaded."""

    def __init__(self, settings: Settings) -> None:
        data = settings.data_dir
        self._directories = [data, data / "journal", data / "images", data / "spool"]
        self.full_directory: Path | None = _find_full(self._directories)
        """A directory whose disk was full at the latest check; None while there is room."""

    def find_low(self, megabytes: int) -> tuple[str, int] | None:
        """A directory whose disk has less room than this, and its free bytes."""
        for directory in self._directories:
            free = _free_bytes(directory)
            if free is not None and free < megabytes << 20:
                return str(directory), free
        return None

    async def watch(self) -> None:
        """Check in a thread, because a network file system may be slow."""
        while True:
            before, self.full_directory = (
                self.full_directory,
                await asyncio.to_thread(_find_full, self._directories),
            )
            if self.full_directory is not None and before is None:
                fix = "free some space; until then every generation is refused (503)"
                log.error("disk_full", directory=str(self.full_directory), fix=fix)
            elif before is not None and self.full_directory is None:
                log.warning("disk_has_room_again", directory=str(before))
            await asyncio.sleep(CHECK_INTERVAL_S)


def _find_full(directories: Sequence[Path]) -> Path | None:
    return next((directory for directory in directories if _is_full(directory)), None)


def _is_full(directory: Path) -> bool:
    free = _free_bytes(directory)
    return free is not None and free < MIN_FREE_BYTES


def _free_bytes(directory: Path) -> int | None:
    try:
        found = os.statvfs(directory)
    except OSError:
        return None  # not created yet, or unreadable, which other checks report
    # Some file systems do not say how large they are.
    return found.f_bavail * found.f_frsize if found.f_blocks > 0 else None
