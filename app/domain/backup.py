"""What the store remembers of its backups."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from app.domain.administration import AuditNote


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


class BackupDownloads(Protocol):
    """A backup of the store, without pictures, that is made while somebody receives it."""

    async def open(self, by: AuditNote) -> AsyncIterator[bytes]:
        """The file as `koi backup` writes it, in parts; only the whole one has its end. The audit
        log says at once who asked; the latest backup is noted once it was taken whole. Raises
        `Conflict` while another is under way, `LedgerUnavailable`."""
