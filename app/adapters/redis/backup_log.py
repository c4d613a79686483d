"""The `BackupLog` on Redis: one hash, written by `koi backup` when its file is whole."""

from dataclasses import asdict

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import NOTE_BACKUP, READ_BACKUP
from app.adapters.redis.codec import flatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.backup import LatestBackup


class RedisBackupLog:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def note(self, backup: LatestBackup) -> None:
        """Remember a finished backup."""
        fields = flatten({name: str(value) for name, value in asdict(backup).items()})
        await self._scripts.command(NOTE_BACKUP, keyspace.key("backup"), *fields)

    async def latest(self) -> LatestBackup | None:
        found = await self._scripts.command(READ_BACKUP, keyspace.key("backup"))
        names = ("taken_ms", "size_bytes", "entries", "pictures", "seq")
        return LatestBackup(**{name: int(found[name]) for name in names}) if found else None
