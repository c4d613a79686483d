"""What rebuilding the books takes and reports."""

from dataclasses import dataclass


class RebuildRefused(Exception):
    """Rebuilding would do harm or nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class Terms:
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
class Rebuilt:
    """What the rebuilt books hold, and where it came from.

    `entries` of which `from_journal` were gone from the store; `jobs` restored, of which `open`
    are still to be finished; `records` of users, teams and keys; `forgotten` counts changes whose
    numbers are known but which no journal at hand remembers.
    """

    entries: int
    from_journal: int
    jobs: int
    open: int
    records: int
    forgotten: int
