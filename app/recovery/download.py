"""A backup that somebody receives while it is made: nothing of it is kept on this machine."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, cast

from app.adapters.redis.backup_log import RedisBackupLog
from app.adapters.redis.ledger_condition import check_unquarantined
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.administration import AuditNote, Conflict
from app.domain.errors import LedgerUnavailable

if TYPE_CHECKING:
    from app.recovery.take_backup import Backup

PART_BYTES = 64 << 10
MAX_WAITING_PARTS = 4
STALLED_S = 60.0
BUSY = "A backup is being downloaded already; wait for its end, or use `koi backup FILE`."


class _Pipe:
    """What is written, for a reader who may be slow: a few parts wait for it, then `room` waits."""

    def __init__(self) -> None:
        self._written = bytearray()
        self.parts: deque[bytes] = deque()
        self.arrived, self.taken = asyncio.Event(), asyncio.Event()

    def write(self, data: bytes) -> int:
        """In a thread of the copy, while its `room` is not asked."""
        self._written += data
        return len(data)

    def flush(self) -> None:
        """The writer is at its end."""

    async def room(self) -> None:
        """Raises `TimeoutError` when nobody reads."""
        if len(self._written) < PART_BYTES:
            return
        self.hand_over()
        while len(self.parts) >= MAX_WAITING_PARTS:
            self.taken.clear()
            await asyncio.wait_for(self.taken.wait(), STALLED_S)

    def hand_over(self) -> None:
        self.parts.append(bytes(self._written))
        self._written.clear()
        self.arrived.set()


class LedgerDownloads:
    """`app.domain.backup.BackupDownloads` says what it does; one at a time in each process."""

    def __init__(self, scripts: LedgerScripts, log: RedisBackupLog, koi_version: str) -> None:
        self._scripts, self._log, self._koi_version = scripts, log, koi_version
        self._turn = asyncio.Lock()

    async def open(self, by: AuditNote) -> AsyncIterator[bytes]:
        """See the port."""
        if self._turn.locked():
            raise Conflict(BUSY)
        found = await self._scripts.run("read_epoch")
        if found["epoch"] is None:
            raise Conflict("The store holds no ledger, so there is nothing to back up.")
        check_unquarantined(found)
        await self._log.note_download(by)
        return self._read()

    async def _read(self) -> AsyncIterator[bytes]:
        """Ends early, without the file's last row, when the copy fails: the reader's connection is
        then broken by whoever sends this."""
        async with self._turn:
            pipe = _Pipe()
            copy = asyncio.create_task(self._copy(pipe), name="koi-backup-download")
            copy.add_done_callback(lambda _: pipe.arrived.set())
            try:
                while pipe.parts or not copy.done():
                    if pipe.parts:
                        yield pipe.parts.popleft()
                        pipe.taken.set()
                    else:
                        pipe.arrived.clear()
                        await pipe.arrived.wait()
                made = await copy
            finally:
                copy.cancel()
            # Only now: whoever asks for more has taken the last part.
            with suppress(LedgerUnavailable):
                await self._log.note(made.latest)

    async def _copy(self, pipe: _Pipe) -> "Backup":
        from app.recovery.take_backup import (  # noqa: PLC0415 - few gateways are asked for one
            BackupTerms,
            take_backup,
        )

        terms = BackupTerms(koi_version=self._koi_version, room=pipe.room)
        made = await take_backup(self._scripts, cast("BinaryIO", pipe), terms)
        pipe.hand_over()
        return made
