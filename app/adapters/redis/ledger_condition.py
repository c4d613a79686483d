"""Whether this process may use the ledger, as the store said last, and why not."""

from enum import StrEnum
from typing import Any

import structlog

from app.adapters.redis import keyspace
from app.adapters.redis.replies import Fields
from app.domain.errors import LedgerDataLost
from app.domain.other_store import DataVersionUnknown, JournalUnreadable, LedgerMoved

USABLE = ("same", "continued")


class ClosedReason(StrEnum):
    """Why nothing is spent on a store."""

    LOST = "lost_data"
    MOVED = "moved"
    RESTORING = "restoring"
    UPGRADING = "upgrading"
    VERSION = "other_version"

    @property
    def sentence(self) -> str:
        return SENTENCES[self][0]

    @property
    def fix(self) -> str:
        return SENTENCES[self][1]


SENTENCES = {
    ClosedReason.LOST: (
        "it lost data, so that nothing is spent",
        "Run `koi ledger rebuild` on a machine that has a journal; see its --help.",
    ),
    ClosedReason.MOVED: (
        "its ledger was moved to another store, so that nothing is spent here",
        "Restart this gateway with KOI_REDIS_URL of that store and the same KOI_DATA_DIR.",
    ),
    ClosedReason.RESTORING: (
        "a backup is being restored into it; nothing is spent until that is done",
        "Wait for it. If it was interrupted, run the same `koi restore` again.",
    ),
    ClosedReason.UPGRADING: (
        "its data is being upgraded; nothing is spent until that is done",
        "Wait for it. If it was interrupted, run `koi store upgrade` again.",
    ),
    ClosedReason.VERSION: (
        "its data is of another version than this gateway, so that nothing is spent",
        "Run the version of Koi that wrote it; after an update, `koi store upgrade`.",
    ),
}

LOST_FIX = "run `koi ledger rebuild`; until then nothing is spent"
UNREADABLE_FIX = (
    "the store is empty and the journal here cannot be read: put its files back, rebuild or "
    "restore; `koi doctor` says more, also how to start anew; until then nothing is spent"
)


class LedgerCondition:
    """Told once in the log each time it changes."""

    def __init__(self) -> None:
        self.closed: ClosedReason | None = None
        self.moved_to: str | None = None
        """Where an operator moved the ledger to."""

    @property
    def intact(self) -> bool:
        return self.closed is None

    def check_verdict(self, found: Fields) -> None:
        """What `open_epoch.lua` found. Raises `LedgerDataLost`, `LedgerMoved`,
        `DataVersionUnknown`."""
        verdict, suspect = found["verdict"], found.get("suspect") or ""
        if verdict in USABLE:
            return
        if verdict == "version":
            upgrading = suspect == "upgrading"
            self.note(ClosedReason.UPGRADING if upgrading else ClosedReason.VERSION)
            raise DataVersionUnknown(found["version"], keyspace.DATA_VERSION)
        if verdict == "unreadable":
            self.note(ClosedReason.LOST, fix=UNREADABLE_FIX)
            raise JournalUnreadable
        self.note(_read_reason(suspect), found.get("place"))
        raise explain_quarantine(suspect)

    def note(
        self, closed: ClosedReason | None, place: str | None = None, fix: str = LOST_FIX
    ) -> None:
        """None when it is as it should be."""
        if closed is self.closed:
            return
        self.closed, self.moved_to = closed, place
        log = structlog.get_logger("koi.ledger")
        if closed is None:
            log.warning("ledger_found_again")
        elif closed is ClosedReason.MOVED:
            log.error("ledger_moved", to=place, fix=closed.fix)
        elif closed is ClosedReason.LOST:
            log.error("ledger_lost", fix=fix)
        else:
            log.error("ledger_closed", reason=closed.value, fix=closed.fix)


def check_version(found: Fields) -> None:
    """What `read_epoch.lua` found. Raises `DataVersionUnknown`."""
    if found["version"] != keyspace.DATA_VERSION:
        raise DataVersionUnknown(found["version"], keyspace.DATA_VERSION)


def check_unquarantined(found: Fields) -> None:
    """The same; raises `LedgerDataLost`, `LedgerMoved` too."""
    check_version(found)
    if found["quarantined"]:
        raise explain_quarantine(found["suspect"])


def explain_quarantine(suspect: Any) -> LedgerDataLost:
    """Why a quarantined store may not be used."""
    reason = _read_reason(suspect)
    if reason is ClosedReason.MOVED:
        return LedgerMoved(suspect.partition(" ")[2])
    if reason is ClosedReason.LOST:
        return LedgerDataLost()
    return LedgerDataLost(f"The store is closed: {reason.sentence}.")


def _read_reason(suspect: str) -> ClosedReason:
    """What the store says of why it is closed; without a word of ours it lost data."""
    word = suspect.partition(" ")[0]
    known = {"moved", "restoring", "upgrading"}
    return ClosedReason(word) if word in known else ClosedReason.LOST
