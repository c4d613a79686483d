"""How journals learn through the store of each other, and of changes that operators make."""

import asyncio
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from app.adapters.files import read_bytes, replace_file
from app.adapters.journal.file import FileJournal
from app.adapters.redis.registry import FIRST_CHANGE_ID, JournalRegistry
from app.domain.errors import LedgerUnavailable
from app.domain.journal import RegisteredJournal

REGISTER_INTERVAL_S = 300.0
JOURNAL_TTL_MS = 900_000
"""A gateway whose journal did not register for this long is not expected to copy changes."""
POSITION_FILE = "copied"
REPLICATION_TIMEOUT_S = 5.0
CHECK_INTERVAL_S = 0.1
POSITION_FORMAT = re.compile(r"[0-9]+-[0-9]+")

log = structlog.get_logger("koi.journal")


class JournalReplication:
    """One process's part. The journal's directory keeps the position of the last copied change, so
    that the processes on it copy each change about once; copying one twice changes nothing."""

    def __init__(self, journal: FileJournal, journals: JournalRegistry) -> None:
        self._journal, self._journals = journal, journals
        self._registered_s = float("-inf")
        self._file = journal.directory / POSITION_FILE

    async def replicate(self) -> None:
        """Register the journal and copy what is new. Raises `OSError`."""
        if self._journal.gone():
            return
        try:
            await self.register()
            await self._copy_changes()
        except LedgerUnavailable:
            pass  # `maintain_journal` tries again in a second

    async def register(self, copied: str = "") -> None:
        """Raises `LedgerUnavailable`, `OSError`."""
        self._journal.ensure_id()
        due = copied or time.monotonic() - self._registered_s > REGISTER_INTERVAL_S
        if due and self._journal.id is not None:
            record = build_local_record(self._journal.id, self._journal.directory)
            copied = copied or self._read_position(self._journals.epoch)
            await self._journals.register(replace(record, copied=copied))
            self._registered_s = time.monotonic()

    async def _copy_changes(self) -> None:
        epoch = self._journals.epoch
        last = ""
        async for position, record in self._journals.changes(self._read_position(epoch)):
            self._journal.append_copy(record)
            last = position
        if last and self._journal.ready():
            self._journal.sync()
            replace_file(self._file, f"{epoch} {last}".encode(), durable=False)
            await self.register(last)

    def _read_position(self, epoch: str) -> str:
        """The position after which to go on; the first one in another epoch, whose clock may
        differ."""
        try:
            known, _, position = read_bytes(self._file).decode().partition(" ")
        except (OSError, ValueError):
            return FIRST_CHANGE_ID
        return (
            position if known == epoch and POSITION_FORMAT.fullmatch(position) else FIRST_CHANGE_ID
        )


async def wait_until_replicated(journals: JournalRegistry) -> None:
    """Return when a gateway's journal has what this command changed, or after a warning."""
    deadline = time.monotonic() + REPLICATION_TIMEOUT_S
    with suppress(LedgerUnavailable):
        while not await journals.copied():
            if time.monotonic() > deadline:
                log.error("change_not_copied", meaning="it is in the store alone until a gateway "
                          "with a journal runs", fix="see that the gateways run")  # fmt: skip
                return
            await asyncio.sleep(CHECK_INTERVAL_S)


def build_local_record(id: str, directory: Path) -> RegisteredJournal:
    return RegisteredJournal(id, socket.gethostname(), str(directory.absolute()))


def has_live_journal(known: Sequence[RegisteredJournal], now_ms: int) -> bool:
    """Whether a running gateway copies what operators change."""
    return any(now_ms - journal.last_ms < JOURNAL_TTL_MS for journal in known)
