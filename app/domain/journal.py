"""The second copy of the books: what each change of the store was, kept on this machine's disk.

The store is the truth. The journal lets an operator rebuild it when it vanished, and tells a fresh
process how much of the store's life it must find again (reliability study, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.domain.job import Outcome, PartResult


@dataclass(frozen=True, slots=True)
class Position:
    """How much of a store's life somebody has seen.

    `seq` rises by one with every admission, dispatch, task id or result of a part, ledger entry and
    change of a user, team or key; `who` names what rose it, so that two histories with the same
    number can be told apart. `epoch` is the random name of the life.
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
    """Where some process writes its journal: a rebuild names those it was not given."""
    EPOCH = "life"
    """The number a life of the store began at: `begins`, number."""


@dataclass(frozen=True, slots=True)
class StoreChange:
    """Fields that one record of the store took on, as field, value, field, value …

    An entry's and a user's, team's or key's are whole; a job's add to what it had, and an empty
    value takes a field away. `seq` is the sequence number it took, 0 for none.
    """

    kind: ChangeKind
    id: str
    fields: Sequence[str]
    seq: int = 0


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """One write of the store: where its life stood afterwards, what changed, and when by this
    machine's clock (Unix milliseconds). A write that is repeated, because its reply was lost, may
    be told twice."""

    mark: Position
    changes: Sequence[StoreChange]
    at_ms: int


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
    """Up to which place it holds what operators changed elsewhere."""

    @property
    def location(self) -> str:
        return f"{self.path} on {self.host}"


@dataclass(frozen=True, slots=True)
class OutboxOutcome:
    """How a job ended, which the store does not know yet."""

    job_id: str
    outcome: Outcome

    @property
    def name(self) -> str:
        return self.job_id


@dataclass(frozen=True, slots=True)
class OutboxPart:
    """The provider's ids or the result of one part of a job, which the store does not know yet."""

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
    """The second copy of the books. What it cannot take now it takes later, in order."""

    @property
    def position(self) -> Position | None:
        """The latest mark in it when it was opened; None for a new one."""

    def append(self, record: JournalRecord) -> None:
        """Write a step down. Never raises; see `ready`."""

    def ready(self) -> bool:
        """False while steps cannot be written: nothing may be spent then (fault F66)."""


class Outbox(Protocol):
    """What the store could not be told yet, kept on disk until it was (fault F71)."""

    async def enqueue(self, message: OutboxMessage) -> bool:
        """Keep it through the death of this process; false when the disk does not take it."""

    async def ack(self, message: OutboxMessage) -> None: ...

    async def pending(self) -> Sequence[OutboxMessage]:
        """Everything owed by processes of this machine, living or dead. What cannot be read is set
        aside."""

    async def dead_letter(self, message: OutboxMessage, reason: str) -> None:
        """Keep a debt that can never be paid, out of the way of those that can."""
