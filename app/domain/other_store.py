"""A store that must not be used, though it is not known to have lost anything: another one has the
ledger, another version of Koi wrote it, or it is empty and perhaps should not be."""

from app.domain.errors import LedgerDataLost, LedgerUnavailable


class LedgerMoved(LedgerDataLost):
    """An operator moved the ledger to another store. `place` is for operators, not for callers."""

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(
            "The ledger was moved to another store, and this gateway still uses the old one; "
            "nothing was spent. Its operator has to restart it with the new settings."
        )


class JournalUnreadable(LedgerDataLost):
    """The store is empty, and what it should know cannot be read from this machine's journal."""


class DataVersionUnknown(LedgerUnavailable):
    """The store's data is of the version `found`, and this Koi works with `known`."""

    def __init__(self, found: int, known: int) -> None:
        self.found, self.known = found, known
        super().__init__(
            "The ledger is of another version than this gateway; nothing was spent. Its operator "
            "has to see to it."
        )
