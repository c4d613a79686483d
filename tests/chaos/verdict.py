"""The invariants (decision 29), judged from three witnesses after the storm:
what the callers got, what the ledger says, what the provider was asked and charges."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.domain.job import Job
from app.domain.ledger import Entry, EntryKind, LedgerAudit
from tests.chaos.calls import Call, End


@dataclass(frozen=True)
class Evidence:
    """`posts` by prompt; `limits` in images a day by user."""

    calls: list[Call]
    entries: list[Entry]
    audit: LedgerAudit
    posts: Counter[str]
    posts_told: int
    billed: int
    limits: Mapping[str, int]
    overdrawn: list[str]
    left_open: list[Job]
    crashes: list[str]

    @property
    def metered(self) -> int:
        return sum(entry.images + entry.surplus for entry in self.entries)

    @property
    def presumed(self) -> int:
        return sum(entry.presumed for entry in self.entries)

    @property
    def duplicates(self) -> int:
        """Calls that were sent upstream again although nothing had been released."""
        entries = self.by_key()
        return sum(
            _too_many_posts(call, entries[call.key_id], self.posts[call.prompt])
            for call in self.calls
        )

    def by_key(self) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            found[entry.key].append(entry)
        return found

    def problems(self) -> list[str]:
        """Everything that contradicts an invariant, in words."""
        entries = self.by_key()
        found = [*self._totals()]
        for call in self.calls:
            found += contradictions(call, entries[call.key_id], self.posts[call.prompt])
        return found

    def _totals(self) -> Iterator[str]:
        if self.audit.difference or self.audit.open_jobs:
            yield f"I3: {self.audit}"
        if not self.metered - self.presumed <= self.billed <= self.metered:
            yield f"I5: metered {self.metered}, presumed {self.presumed}, billed {self.billed}"
        if self.posts.total() != self.posts_told:
            yield f"the witness saw {self.posts.total()} of {self.posts_told} POSTs"
        ends = [entry for entry in self.entries if entry.kind is not EntryKind.DELIVERY]
        for job, times in Counter(entry.job for entry in ends).items():
            if times > 1:
                yield f"I4: {job} ended {times} times"
        for user, limit in self.limits.items():
            used = sum(entry.images for entry in self.entries if entry.user == user)
            if used > limit:
                yield f"I1: {user} used {used} of {limit}"
        yield from (f"I9: still open: {job}" for job in self.left_open)
        yield from (f"I1: seen {row}" for row in self.overdrawn)
        yield from (f"crashed: {line}" for line in self.crashes)

    def summary(self) -> str:
        ends = Counter(call.end.value for call in self.calls)
        released = sum(entry.kind is EntryKind.RELEASE for entry in self.entries)
        slowest = max((call.took_s for call in self.calls), default=0)
        told = {
            "calls": len(self.calls),
            **dict(sorted(ends.items())),
            "attempts": sum(call.attempts for call in self.calls),
            "posts": self.posts_told,
            "billed": self.billed,
            "metered": self.metered,
            "presumed": self.presumed,
            "released": released,
            "duplicates": self.duplicates,
            "slowest_s": round(slowest, 1),
        }
        return " ".join(f"{name}={value}" for name, value in told.items())


def contradictions(call: Call, entries: list[Entry], posts: int) -> list[str]:
    """What contradicts an invariant in one call, given its entries and its POSTs, in words."""
    found = list(_call_problems(call, entries))
    if _too_many_posts(call, entries, posts):
        found.append(f"I8: {posts} POSTs")
    if posts and not entries:
        found.append("I5: sent, but not in the ledger")
    return [f"{problem} [{call}]" for problem in found]


def _too_many_posts(call: Call, entries: list[Entry], posts: int) -> bool:
    """I8: one job's upstream calls at most, and those of each job that was released (X)."""
    released = sum(entry.kind is EntryKind.RELEASE for entry in entries)
    return posts > call.parts * (1 + released)


def _call_problems(call: Call, entries: list[Entry]) -> Iterator[str]:
    yield from call.complaints
    charges = [entry for entry in entries if entry.kind is EntryKind.SETTLE]
    if len(charges) > 1:
        yield f"I7: charged {len(charges)} times"
    if call.end is End.TIRED:
        yield "a call without an end"
    if call.end is End.PICTURES:
        delivered = [entry.delivered for entry in charges]
        if delivered != [call.pictures]:
            yield f"I13: got {call.pictures} pictures, the ledger says {delivered}"
    for entry in charges:
        if entry.images != entry.delivered + entry.presumed:
            yield f"paid and lost: {entry.images} charged, {entry.delivered} delivered"
