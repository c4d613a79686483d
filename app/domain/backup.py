"""What the store remembers of its backups."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LatestBackup:
    """The latest backup that was finished: when (Unix milliseconds, the store's clock), its size in
    bytes, how many ledger entries and pictures it holds, and up to which change."""

    taken_ms: int
    size_bytes: int
    entries: int
    pictures: int
    seq: int


class BackupLog(Protocol):
    """What the store remembers of backups; it is no part of them. Raises `LedgerUnavailable`."""

    async def latest(self) -> LatestBackup | None: ...
