"""The second copy of the books: what each change of the store was, kept on this machine's disk.

The store is the truth. The journal lets an operator rebuild it when it vanished, and tells a fresh
process how much of the store's life it must find again (reliability study, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.job import Outcome, PartResult


@dataclass(frozen=True, slots=True)
class Mark:
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
    def read(cls, epoch: str, text: str) -> "Mark":
        seq, _, who = text.partition(" ")
        return cls(int(seq), who, epoch)


class Kind(StrEnum):
    """What a change is about."""

    JOB = "job"
    ENTRY = "entry"
    USERS = "users"
    TEAMS = "teams"
    KEYS = "keys"
    STOPS = "stops"


@dataclass(frozen=True, slots=True)
class Change:
    """Fields that one record of the store took on, as field, value, field, value …

    An entry's and a user's, team's or key's are whole; a job's add to what it had, and an empty
    value takes a field away. `seq` is the sequence number it took, 0 for none.
    """

    kind: Kind
    id: str
    fields: Sequence[str]
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One write of the store: where its life stood afterwards, what changed, and when by this
    machine's clock (Unix milliseconds). A write that is repeated, because its reply was lost, may
    be told twice."""

    mark: Mark
    changes: Sequence[Change]
    at_ms: int


@dataclass(frozen=True, slots=True)
class OwedEnd:
    """How a job ended, which the store does not know yet."""

    job_id: str
    outcome: Outcome

    @property
    def name(self) -> str:
        return self.job_id


@dataclass(frozen=True, slots=True)
class OwedPart:
    """The provider's ids or the result of one part of a job, which the store does not know yet."""

    job_id: str
    part: int
    upstream_id: str | None = None
    result: PartResult | None = None
    request_id: str | None = None

    @property
    def name(self) -> str:
        return f"{self.job_id}-{self.part}"


Debt = OwedEnd | OwedPart
