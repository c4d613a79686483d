"""What the journals of all hosts remember of the books, put together in any order."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.journal import ChangeKind, JournalRecord, StoreChange
from app.domain.rebuild import JournalGap

STATE_RANK = {"R": 0, "D": 1, "U": 2, "S": 3, "X": 3}
"""A job's states in the order it can pass through them: the later one knows more."""
STATELESS_RANK = 4
"""What was told of a job in any state is told by nothing else."""

REBUILT_AUTHOR = "rebuilt"
"""Who rose the number that a rebuilt life begins with."""

JobFields = dict[str, str]


@dataclass(slots=True)
class JournalMerge:
    """`reported` is what was told of each job in each state; `records` are (when, text) by kind and
    name; `known_seqs` the accounted numbers by epoch, `last_seq` the highest number told of each,
    and `first_seqs` the one it began after, where somebody wrote that down."""

    jobs_by_state: dict[str, dict[int, JobFields]] = field(default_factory=dict)
    entries: dict[str, Sequence[str]] = field(default_factory=dict)
    records: dict[ChangeKind, dict[str, tuple[int, str]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    seen_seqs: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    max_seqs: dict[str, int] = field(default_factory=dict)
    first_seqs: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, steps: Iterable[JournalRecord]) -> "JournalMerge":
        merge = cls()
        for record in steps:
            merge.add(record)
        return merge

    @property
    def jobs(self) -> Iterator[tuple[str, JobFields]]:
        """Each job as its states followed each other, in whatever order they were read."""
        for id, states in self.jobs_by_state.items():
            yield (
                id,
                {name: text for _, part in sorted(states.items()) for name, text in part.items()},
            )

    @property
    def highest_seq(self) -> int:
        """The highest sequence number anybody wrote down, in any life."""
        return max(self.max_seqs.values(), default=0)

    def add(self, record: JournalRecord) -> None:
        mark = record.mark
        self.max_seqs[mark.epoch] = max(self.max_seqs.get(mark.epoch, 0), mark.seq)
        if mark.seq == 0 or mark.who == REBUILT_AUTHOR:
            self.first_seqs[mark.epoch] = mark.seq
        for change in record.changes:
            if change.seq:
                self.seen_seqs[mark.epoch].add(change.seq)
            self._merge_change(change, record.at_ms)

    def _merge_change(self, change: StoreChange, at_ms: int) -> None:
        if change.kind is ChangeKind.JOB:
            fields = unflatten(change.fields)
            rank = STATE_RANK.get(fields.get("state", ""), STATELESS_RANK)
            self.jobs_by_state.setdefault(change.id, {}).setdefault(rank, {}).update(fields)
        elif change.kind is ChangeKind.ENTRY:
            self.entries[change.id] = change.fields
        elif change.kind is ChangeKind.EPOCH:
            self.first_seqs[change.id] = int(unflatten(change.fields)["begins"])
        else:
            before = self.records[change.kind].get(change.id, (-1, ""))
            self.records[change.kind][change.id] = max(before, (at_ms, change.fields[1]))

    def find_gaps(self, store_seqs: Mapping[str, int]) -> list[JournalGap]:
        """Numbers that are known to exist but that nobody at hand wrote down, beside those that the
        store itself still `store_seqs`: of each life, up to which one."""
        found = []
        for epoch, last_seq in self.max_seqs.items():
            before = max(self._first_seq(epoch), store_seqs.get(epoch, 0))
            known = (number for number in self.seen_seqs.get(epoch, ()) if number > before)
            for number in (*sorted(known), last_seq + 1):
                if number > before + 1:
                    found.append(JournalGap(epoch, before + 1, number - 1))
                before = number
        return found + self._earlier_gaps(store_seqs)

    def _earlier_gaps(self, store_seqs: Mapping[str, int]) -> list[JournalGap]:
        """A life that begins at a number continues others up to there, whether or not anybody at
        hand knows how far they came."""
        found = []
        ends = {*store_seqs.values(), *self.max_seqs.values()}
        for begins in sorted({begins for begins in self.first_seqs.values() if begins}):
            known = max((end for end in ends if end < begins), default=0)
            if known < begins - 1:
                found.append(JournalGap("", known + 1, begins - 1))
        return found

    def _first_seq(self, epoch: str) -> int:
        """The number a life began after: 0, or where the one before it had come to.

        Early versions wrote it down only by chance; then it is the end of another life.
        """
        if epoch in self.first_seqs:
            return self.first_seqs[epoch]
        first = min(self.seen_seqs.get(epoch, ()), default=self.max_seqs[epoch] + 1)
        ends = (end for other, end in self.max_seqs.items() if other != epoch)
        return max((end for end in ends if end < first), default=0)


def merge_accounts(known: JobFields, reported: Mapping[str, str]) -> JobFields:
    """Two accounts of one job: where they differ, the one from its later state is right."""
    if (
        "state" in reported
        and "state" in known
        and STATE_RANK[reported["state"]] < STATE_RANK[known["state"]]
    ):
        return {**reported, **known}
    return {**known, **reported}


def unflatten(flat: Sequence[str]) -> JobFields:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def flat(fields: Mapping[str, str]) -> list[str]:
    return [text for pair in fields.items() for text in pair]
