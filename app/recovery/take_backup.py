"""A whole backup: its header, the copy of the ledger, the pictures, its end."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from app.adapters.redis.counter_totals import sum_windows
from app.adapters.redis.keyspace import DATA_VERSION
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.rollups import RedisRollups
from app.domain.backup import LatestBackup
from app.recovery.backup import LedgerCopy
from app.recovery.backup_file import FORMAT, BackupEnd, BackupHeader, BackupWriter
from app.recovery.pictures import copy_pictures


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was written, and its size."""

    end: BackupEnd
    size_bytes: int

    @property
    def latest(self) -> LatestBackup:
        """What the store remembers of it."""
        counts = self.end.counts
        entries, pictures = counts.get("entry", 0), counts.get("picture", 0)
        return LatestBackup(self.end.taken_ms, self.size_bytes, entries, pictures, self.end.seq)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupTerms:
    """`pictures` is the directory of the pictures that are to be in it, None for none; `moved`: the
    ledger was closed because it moves. For `room` see `LedgerCopy`."""

    koi_version: str
    pictures: Path | None = None
    moved: bool = False
    room: Callable[[], Awaitable[None]] | None = None


async def take_backup(
    scripts: LedgerScripts,
    out: BinaryIO,
    terms: BackupTerms,
    begin: Callable[[BackupWriter, int | None], Callable[[], None]] = lambda *_: lambda: None,
) -> Backup:
    """`begin` is told about how many entries there will be, and gives what is called after each
    page. Raises `LedgerUnavailable`, `LedgerDataLost`, `OSError`."""
    found = await scripts.run("read_epoch")
    expected = await count_entries(scripts)
    header = BackupHeader(
        format=FORMAT,
        data_version=DATA_VERSION,
        koi_version=terms.koi_version,
        started_ms=int(time.time() * 1000),
        epoch=found["epoch"],
        seq=found["seq"],
        entries=expected,
        pictures=terms.pictures is not None,
    )
    writer = BackupWriter(out, header)
    report = begin(writer, expected)
    room = {} if terms.room is None else {"room": terms.room}
    end = await LedgerCopy(scripts, writer, report, moved=terms.moved, **room).run()
    if terms.pictures is not None:
        await copy_pictures(terms.pictures, writer, report)
    end = replace(end, counts=dict(writer.counts))
    writer.finish(end)
    return Backup(end, writer.size_bytes)


async def count_entries(scripts: LedgerScripts) -> int | None:
    """About how many entries the ledger has, from its rollups; None before there are any."""
    rollups = RedisRollups(scripts)
    return (await sum_windows(rollups, await rollups.coverage())).entries or None
