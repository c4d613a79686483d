"""What rebuilding the books takes and reports."""

from dataclasses import dataclass

from app.domain.journal import RegisteredJournal


class RebuildRefused(Exception):
    """Rebuilding would do harm or nothing; the message says why. `complete`: nothing is missing."""

    def __init__(self, message: str, *, complete: bool = False) -> None:
        super().__init__(message)
        self.complete = complete


@dataclass(frozen=True, slots=True)
class RetentionTerms:
    """How long restored records live, in milliseconds.

    `reserved` is the wait for a dispatch, `silence` for an answer to one, `hold` for proof of an
    ambiguous charge; `task` is the life of an ended job and `image` of a picture.
    """

    reserved_ms: int
    silence_ms: int
    hold_ms: int
    task_ms: int
    image_ms: int


@dataclass(frozen=True, slots=True)
class JournalGap:
    """Changes `first` to `last` of the life `epoch` (empty: one that is known only by what came
    after it) that are known to have happened, and that no journal at hand remembers."""

    epoch: str
    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What the rebuilt books hold, and where it came from.

    `entries` of which `from_journal` were gone from the store; `jobs` restored, of which `open`
    are still to be finished; `records` of users, teams and keys; `gaps` are the changes that are
    known but remembered nowhere; `absent` the journals that wrote into these books and were not
    given. `blind`: there was no journal at all, so nobody knows what the store has lost.
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
        """How many changes nobody at hand remembers."""
        return sum(gap.count for gap in self.gaps)
