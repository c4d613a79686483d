"""What journals tell each other through the store: that they exist, and what operators changed."""

import asyncio
import os
import re
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from app.adapters.files import read_bytes, write_text
from app.adapters.journal.file import FileJournal
from app.adapters.redis.journals import START, Journals
from app.domain.errors import LedgerUnavailable
from app.domain.journal import JournalRecord

ENLIST_EVERY_S = 300.0
ALIVE_MS = 900_000
"""A gateway whose journal was not heard of for so long is not counted on to copy anything."""
COPIED = "copied"
COPIED_WITHIN_S = 5.0
LOOK_EVERY_S = 0.1
PLACE = re.compile(r"[0-9]+-[0-9]+")

log = structlog.get_logger("koi.journal")


class Correspondence:
    """One process's part. How far changes were copied is kept in the journal's directory, so that
    each is copied about once by all processes on it; copying one twice changes nothing."""

    def __init__(self, journal: FileJournal, journals: Journals) -> None:
        self._journal, self._journals = journal, journals
        self._enlisted_s = float("-inf")
        self._file = journal.directory / COPIED

    async def turn(self) -> None:
        """Register the journal and copy what is new. Raises `OSError`."""
        if self._journal.gone():
            return
        try:
            await self.enlist()
            await self._copy()
        except LedgerUnavailable:
            pass  # the next turn comes soon

    async def enlist(self, copied: str = "") -> None:
        """Raises `LedgerUnavailable`, `OSError`."""
        self._journal.claim()
        due = copied or time.monotonic() - self._enlisted_s > ENLIST_EVERY_S
        if due and self._journal.id is not None:
            record = here(self._journal.id, self._journal.directory)
            copied = copied or self._copied(self._journals.epoch)
            await self._journals.enlist(replace(record, copied=copied))
            self._enlisted_s = time.monotonic()

    async def _copy(self) -> None:
        epoch = self._journals.epoch
        last = ""
        async for place, step in self._journals.changes(self._copied(epoch)):
            self._journal.copy(step)
            last = place
        if last and self._journal.ready():
            self._journal.sync()
            part = self._file.with_name(f".{COPIED}-{os.getpid()}")
            write_text(part, f"{epoch} {last}")
            part.replace(self._file)
            await self.enlist(last)

    def _copied(self, epoch: str) -> str:
        """Where to go on; from the start in a life whose clock may be another one."""
        try:
            known, _, place = read_bytes(self._file).decode().partition(" ")
        except (OSError, ValueError):
            return START
        return place if known == epoch and PLACE.fullmatch(place) else START


async def copied_by_some_gateway(journals: Journals) -> None:
    """Return once a gateway holds what this command changed; say so when none does for a while."""
    deadline = time.monotonic() + COPIED_WITHIN_S
    with suppress(LedgerUnavailable):
        while not await journals.copied():
            if time.monotonic() > deadline:
                log.error("change_not_copied", meaning="it is in the store alone until a gateway "
                          "with a journal runs", mend="see that the gateways run")  # fmt: skip
                return
            await asyncio.sleep(LOOK_EVERY_S)


def here(id: str, directory: Path) -> JournalRecord:
    return JournalRecord(id, socket.gethostname(), str(directory.absolute()))


def alive(known: Sequence[JournalRecord], now_ms: int) -> bool:
    """Whether some gateway is at work that copies what operators change."""
    return any(now_ms - journal.last_ms < ALIVE_MS for journal in known)
