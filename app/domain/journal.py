"""The journal is a second copy of the ledger: each change of the store, on this machine's disk.

The store is the truth. The journal lets an operator rebuild it after a loss, and tells a new
process how much of the ledger's history the store must know, so that a loss is noticed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.domain.job import Outcome, PartResult


@dataclass(frozen=True, slots=True)
class Position:
    """How much of the ledger's history a process has seen.

    `seq` rises by one with every admission, dispatch, task id or result of a part, ledger entry and
    change of a user, team or key. `who` is the id of what raised it, so that two histories with the
    same number can be told apart. `epoch` is the random name of this history.
    """

    seq: int
    who: str = ""
    epoch: str = ""

    @property
    def text(self) -> str:
        """As the store's scripts write it: `<seq> <who>`, or `0`."""
        return f"{self.seq} {self.who}" if self.who else str(self.seq)

    @classmethod
    def parse(cls, epoch: str, text: str) -> "Position":
        seq, _, who = text.partition(" ")
        return cls(int(seq), who, epoch)


class ChangeKind(StrEnum):
    """What a change is about."""

    JOB = "job"
    ENTRY = "entry"
    USERS = "users"
    TEAMS = "teams"
    KEYS = "keys"
    STOPS = "stops"
    JOURNALS = "journals"
    """Where a process writes its journal: a rebuild lists those it was not given."""
    EPOCH = "life"
    """The sequence number an epoch began after: `begins`, number."""


@dataclass(frozen=True, slots=True)
class StoreChange:
    """Fields of one record of the store that changed, as field, value, field, value …

    Entries and records of users, teams and keys are complete. A job's fields add to what it had,
    and an empty value removes a field. `seq` is the sequence number it took, 0 for none.
    """

    kind: ChangeKind
    id: str
    fields: Sequence[str]
    seq: int = 0


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One write of the store: the position afterwards, what changed, and when by this machine's
    clock (Unix milliseconds). A write that is repeated because its reply was lost may be in the
    journal twice."""

    mark: Position
    changes: Sequence[StoreChange]
    at_ms: int


@dataclass(frozen=True, slots=True)
class JobChange:
    """One write of a job: this machine's clock (Unix milliseconds), the fields that changed, and
    the values of those that are no secret."""

    at_ms: int
    fields: tuple[str, ...]
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RegisteredJournal:
    """One journal directory as the store knows it.

    `id` is in its marker file, `host` and `path` say where it was, `last_ms` when a process last
    said that it writes there (the store's clock).
    """

    id: str
    host: str
    path: str
    last_ms: int = 0
    copied: str = ""
    """The id of the latest change of an operator elsewhere that it holds a copy of."""

    @property
    def location(self) -> str:
        return f"{self.path} on {self.host}"


@dataclass(frozen=True, slots=True)
class OutboxOutcome:
    """How a job ended; the store does not know it yet."""

    job_id: str
    outcome: Outcome

    @property
    def name(self) -> str:
        return self.job_id


@dataclass(frozen=True, slots=True)
class OutboxPart:
    """The provider's ids or the result of one part of a job; the store does not know them yet."""

    job_id: str
    part: int
    upstream_id: str | None = None
    result: PartResult | None = None
    request_id: str | None = None

    @property
    def name(self) -> str:
        return f"{self.job_id}-{self.part}"


OutboxMessage = OutboxOutcome | OutboxPart


class Journal(Protocol):
    """The second copy of the ledger. What cannot be written now is written later, in order."""

    @property
    def position(self) -> Position | None:
        """The latest position in it when it was opened; None for a new one."""

    @property
    def last_positions(self) -> Sequence[Position]:
        """The latest position of each of its newest files then: each process writes its own, and
        what one has seen may be unknown to the others."""

    @property
    def unreadable(self) -> bool:
        """Whether it had been written then, and no position could be read: what the store should
        know is unknown."""

    def append(self, record: JournalRecord) -> None:
        """Write a record. Never raises; see `ready`."""

    def add(self, record: JournalRecord) -> None:
        """Take a record that `flush` writes together with others."""

    def flush(self) -> None:
        """Write what was added. Never raises; see `ready`."""

    def ready(self) -> bool:
        """False while records cannot be written: nothing may be spent then, since it could not be
        rebuilt."""


class Outbox(Protocol):
    """What the store could not be told yet, kept on disk until it was."""

    async def enqueue(self, message: OutboxMessage) -> bool:
        """Keep it through the death of this process; false when the disk does not take it."""

    async def ack(self, message: OutboxMessage) -> None: ...

    async def pending(self) -> Sequence[OutboxMessage]:
        """All messages of this machine's processes, running or not. What cannot be read becomes a
        dead letter."""

    async def dead_letter(self, message: OutboxMessage, reason: str) -> None:
        """Keep a message that the store will never take, apart from those it will."""
