"""What a rebuild of the ledger needs and what it reports."""

from dataclasses import dataclass

from app.domain.journal import RegisteredJournal


class RebuildRefused(Exception):
    """A rebuild would do harm, or nothing; the message says why. `complete`: nothing is missing."""

    def __init__(self, message: str, *, complete: bool = False) -> None:
        super().__init__(message)
        self.complete = complete


@dataclass(frozen=True, slots=True)
class RetentionTerms:
    """How long restored records are kept, in milliseconds.

    `reserved_ms` is the longest wait for a dispatch, `silence_ms` for its answer, `hold_ms` for
    evidence about an ambiguous charge; `task_ms` is how long an ended job is kept, and `image_ms` a
    picture.
    """

    reserved_ms: int
    silence_ms: int
    hold_ms: int
    task_ms: int
    image_ms: int


@dataclass(frozen=True, slots=True)
class JournalGap:
    """Changes `first` to `last` of an epoch that are known to have happened and are in no journal
    at hand. An empty `epoch`: one that is known only because a later one continued it."""

    epoch: str
    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What the rebuilt ledger holds, and where it came from.

    Of `entries`, `from_journal` were gone from the store. Of `jobs` restored, `open` are still to
    be finished. `records` counts users, teams and keys. `gaps` are changes that happened and are in
    no journal; `absent` are journals that wrote into this ledger and were not given. `blind`: there
    was no journal at all, so nobody knows what the store has lost.
    """

    entries: int
    from_journal: int
    jobs: int
    open: int
    records: int
    gaps: tuple[JournalGap, ...] = ()
    absent: tuple[RegisteredJournal, ...] = ()
    blind: bool = False

    @property
    def lost_changes(self) -> int:
        """How many changes are in no journal at hand."""
        return sum(gap.count for gap in self.gaps)
