"""Whether this process may use the ledger, as the store said last, and why not."""

from typing import Any

import structlog

from app.adapters.redis import keyspace
from app.adapters.redis.replies import Fields
from app.domain.errors import LedgerDataLost
from app.domain.other_store import DataVersionUnknown, LedgerMoved

USABLE = ("same", "continued")


class LedgerCondition:
    """Told once in the log each time it changes."""

    def __init__(self) -> None:
        self.intact = True
        self.moved_to: str | None = None
        """Where an operator moved the ledger to."""

    def check_verdict(self, found: Fields) -> None:
        """What `open_epoch.lua` found. Raises `LedgerDataLost`, `LedgerMoved`,
        `DataVersionUnknown`."""
        verdict = found["verdict"]
        if verdict in USABLE:
            return
        self.note(intact=False, place=found.get("place"))
        if verdict == "version":
            raise DataVersionUnknown(found["version"], keyspace.DATA_VERSION)
        if verdict == "moved":
            raise LedgerMoved(found["place"])
        raise LedgerDataLost

    def note(self, *, intact: bool, place: str | None = None) -> None:
        if intact is self.intact:
            return
        self.intact, self.moved_to = intact, place
        log = structlog.get_logger("koi.ledger")
        if intact:
            log.warning("ledger_found_again")
        elif place is not None:
            fix = "restart with KOI_REDIS_URL of that store and the same KOI_DATA_DIR"
            log.error("ledger_moved", to=place, fix=fix)
        else:
            log.error("ledger_lost", fix="run `koi ledger rebuild`; until then nothing is spent")


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
    word, _, place = suspect.partition(" ")
    return LedgerMoved(place) if word == "moved" else LedgerDataLost()
