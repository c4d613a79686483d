"""The `BackupLog` on Redis: one hash, written by `koi backup` when its file is whole."""

import secrets
from dataclasses import asdict

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import NOTE_BACKUP, READ_BACKUP
from app.adapters.redis.codec import flatten
from app.adapters.redis.keyring import ask_to_save
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.administration import AuditNote
from app.domain.backup import LatestBackup
from app.domain.calendar import format_time

DOWNLOAD = "download:backup"
"""A record beside the spending stops, of a scope that cannot exist, as spend alerts have them."""
NO_STOP = {"stopped": False, "reason": "", "at_ms": 0}


class RedisBackupLog:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def note(self, backup: LatestBackup) -> None:
        """Remember a finished backup."""
        fields = flatten({name: str(value) for name, value in asdict(backup).items()})
        await self._scripts.command(NOTE_BACKUP, keyspace.key("backup"), *fields)

    async def note_download(self, by: AuditNote) -> None:
        """Write into the audit log that somebody downloads a backup."""
        # Another one each time: only what differs is written into the log.
        begun = f"{format_time(await self._scripts.now_ms())} {secrets.token_hex(4)}"
        record = orjson.dumps({"name": DOWNLOAD, **NO_STOP, "begun": begun})
        audit = {"actor": by.actor.text, "kind": by.kind, "reason": by.reason}
        ask = ask_to_save("stops", DOWNLOAD, record, "put")
        await self._scripts.write("save_record", {**ask, "audit": audit})

    async def latest(self) -> LatestBackup | None:
        found = await self._scripts.command(READ_BACKUP, keyspace.key("backup"))
        names = ("taken_ms", "size_bytes", "entries", "pictures", "seq")
        return LatestBackup(**{name: int(found[name]) for name in names}) if found else None
