"""What the journals of all hosts remember of the books, put together in any order."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.domain.journal import Change, Kind, Step
from app.domain.rebuild import Gap

RANK = {"R": 0, "D": 1, "U": 2, "S": 3, "X": 3}
"""A job's states in the order it can pass through them: the later one knows more."""
NO_STATE = 4
"""What was told of a job in any state is told by nothing else."""

REBUILT = "rebuilt"
"""Who rose the number that a rebuilt life begins with."""

Fields = dict[str, str]


@dataclass(slots=True)
class Memory:
    """`told` is what was told of each job in each state; `records` are (when, text) by kind and
    name; `lives` the accounted numbers by epoch, `newest` the highest number told of each, and
    `begins` the one it began after, where somebody wrote that down."""

    told: dict[str, dict[int, Fields]] = field(default_factory=dict)
    entries: dict[str, Sequence[str]] = field(default_factory=dict)
    records: dict[Kind, dict[str, tuple[int, str]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    lives: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    newest: dict[str, int] = field(default_factory=dict)
    begins: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, steps: Iterable[Step]) -> "Memory":
        memory = cls()
        for step in steps:
            memory.add(step)
        return memory

    @property
    def jobs(self) -> Iterator[tuple[str, Fields]]:
        """Each job as its states followed each other, in whatever order they were read."""
        for id, states in self.told.items():
            yield (
                id,
                {name: text for _, part in sorted(states.items()) for name, text in part.items()},
            )

    @property
    def highest(self) -> int:
        """The highest sequence number anybody wrote down, in any life."""
        return max(self.newest.values(), default=0)

    def add(self, step: Step) -> None:
        mark = step.mark
        self.newest[mark.epoch] = max(self.newest.get(mark.epoch, 0), mark.seq)
        if mark.seq == 0 or mark.who == REBUILT:
            self.begins[mark.epoch] = mark.seq
        for change in step.changes:
            if change.seq:
                self.lives[mark.epoch].add(change.seq)
            self._take(change, step.at_ms)

    def _take(self, change: Change, at_ms: int) -> None:
        if change.kind is Kind.JOB:
            fields = pairs(change.fields)
            rank = RANK.get(fields.get("state", ""), NO_STATE)
            self.told.setdefault(change.id, {}).setdefault(rank, {}).update(fields)
        elif change.kind is Kind.ENTRY:
            self.entries[change.id] = change.fields
        elif change.kind is Kind.LIFE:
            self.begins[change.id] = int(pairs(change.fields)["begins"])
        else:
            before = self.records[change.kind].get(change.id, (-1, ""))
            self.records[change.kind][change.id] = max(before, (at_ms, change.fields[1]))

    def gaps(self, held: Mapping[str, int]) -> list[Gap]:
        """Numbers that are known to exist but that nobody at hand wrote down, beside those that the
        store itself still `held`: of each life, up to which one."""
        found = []
        for life, newest in self.newest.items():
            before = max(self._begin(life), held.get(life, 0))
            known = (number for number in self.lives.get(life, ()) if number > before)
            for number in (*sorted(known), newest + 1):
                if number > before + 1:
                    found.append(Gap(life, before + 1, number - 1))
                before = number
        return found + self._earlier_gaps(held)

    def _earlier_gaps(self, held: Mapping[str, int]) -> list[Gap]:
        """A life that begins at a number continues others up to there, whether or not anybody at
        hand knows how far they came."""
        found = []
        ends = {*held.values(), *self.newest.values()}
        for begins in sorted({begins for begins in self.begins.values() if begins}):
            known = max((end for end in ends if end < begins), default=0)
            if known < begins - 1:
                found.append(Gap("", known + 1, begins - 1))
        return found

    def _begin(self, life: str) -> int:
        """The number a life began after: 0, or where the one before it had come to.

        Early versions wrote it down only by chance; then it is the end of another life.
        """
        if life in self.begins:
            return self.begins[life]
        first = min(self.lives.get(life, ()), default=self.newest[life] + 1)
        ends = (end for other, end in self.newest.items() if other != life)
        return max((end for end in ends if end < first), default=0)


def merged(known: Fields, told: Mapping[str, str]) -> Fields:
    """Two accounts of one job: where they differ, the one from its later state is right."""
    if "state" in told and "state" in known and RANK[told["state"]] < RANK[known["state"]]:
        return {**told, **known}
    return {**known, **told}


def pairs(flat: Sequence[str]) -> Fields:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def flat(fields: Mapping[str, str]) -> list[str]:
    return [text for pair in fields.items() for text in pair]
