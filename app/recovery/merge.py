"""What the journals of all hosts say about the ledger, merged in any order."""

import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from app.adapters.redis.codec import Record, to_json, unflatten
from app.domain.journal import ChangeKind, JournalRecord, StoreChange
from app.domain.rebuild import JournalGap

STATE_RANK = {"R": 0, "D": 1, "U": 2, "S": 3, "X": 3}
"""A job's states in the order it can pass through them: a later one knows more."""
STATELESS_RANK = 4
"""The rank of a change that names no state: no change of a state may overwrite it."""

REBUILT_AUTHOR = "rebuilt"
"""What raised the number that a rebuilt epoch begins with."""


def pack_fields(fields: Sequence[str]) -> bytes:
    """An entry's fields as JSON, in no more memory than that takes: what the encoder returns keeps
    the room of its buffer."""
    return bytes(memoryview(orjson.dumps(fields)))


def _numbers() -> "array[int]":
    return array("Q")


@dataclass(slots=True)
class JournalMerge:
    """`jobs_by_state` is what was reported of each job in each state. `records` are (time, text) by
    kind and name, `entries` their fields as JSON: there may be a million of them; `audit` the audit
    log's records by id. By epoch, `seen_seqs` are the sequence numbers whose change is known, in
    any order and perhaps twice, `max_seqs` the highest number mentioned, and `first_seqs` the
    number it began after, where it is known."""

    jobs_by_state: dict[str, dict[int, Record]] = field(default_factory=dict)
    entries: dict[str, bytes] = field(default_factory=dict)
    records: dict[ChangeKind, dict[str, tuple[int, str]]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    audit: dict[str, Sequence[str]] = field(default_factory=dict)
    seen_seqs: dict[str, "array[int]"] = field(default_factory=lambda: defaultdict(_numbers))
    max_seqs: dict[str, int] = field(default_factory=dict)
    first_seqs: dict[str, int] = field(default_factory=dict)
    epochs: set[str] = field(default_factory=set)
    """All that are mentioned, those that one of them continues included."""

    @classmethod
    def of(cls, records: Iterable[JournalRecord]) -> "JournalMerge":
        merge = cls()
        for record in records:
            merge.add(record)
        return merge

    @property
    def jobs(self) -> Iterator[tuple[str, Record]]:
        """Each job with its states applied in order, in whatever order they were read."""
        for id, states in self.jobs_by_state.items():
            whole: Record = {}
            for _, part in sorted(states.items()):
                whole = overwrite(whole, part)
            yield id, whole

    @property
    def highest_seq(self) -> int:
        """The highest sequence number in any journal, of any epoch."""
        return max(self.max_seqs.values(), default=0)

    def add(self, record: JournalRecord) -> None:
        mark = record.mark
        self.epochs.add(mark.epoch)
        self.max_seqs[mark.epoch] = max(self.max_seqs.get(mark.epoch, 0), mark.seq)
        if mark.seq == 0 or mark.who == REBUILT_AUTHOR:
            self.first_seqs[mark.epoch] = mark.seq
        for change in record.changes:
            if change.seq:
                self.seen_seqs[mark.epoch].append(change.seq)
            self._merge_change(change, record.at_ms)

    def _merge_change(self, change: StoreChange, at_ms: int) -> None:
        if change.kind is ChangeKind.JOB:
            if change.fields:
                self._merge_job(change)
        elif change.kind is ChangeKind.ENTRY:
            self._merge_entry(change)
        elif change.kind is ChangeKind.EPOCH:
            fields = unflatten(change.fields)
            self.first_seqs[change.id] = int(fields["begins"])
            self.epochs.update(fields.get("continues", "").split())
        else:
            before = self.records[change.kind].get(change.id, (-1, ""))
            self.records[change.kind][change.id] = max(before, (at_ms, change.fields[1]))
            self.audit |= read_audit(change)

    def _merge_entry(self, change: StoreChange) -> None:
        fields = change.fields
        if fields[-2] == "audit":
            self.audit |= read_audit(change)
            fields = fields[:-2]
        self.entries[change.id] = pack_fields(fields)

    def _merge_job(self, change: StoreChange) -> None:
        names = map(sys.intern, change.fields[::2])
        fields = dict(zip(names, change.fields[1::2], strict=True))
        rank = STATE_RANK.get(fields.get("state", ""), STATELESS_RANK)
        states = self.jobs_by_state.setdefault(change.id, {})
        states[rank] = overwrite(states.get(rank, {}), fields)

    def find_gaps(self, store_seqs: Mapping[str, int]) -> list[JournalGap]:
        """Sequence numbers that are known to exist, but whose change is in no journal at hand and
        not in the store either, which holds each epoch up to the number in `store_seqs`."""
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
        """An epoch that begins at a number continues others up to there, whether or not any journal
        knows how far they came."""
        found = []
        ends = {*store_seqs.values(), *self.max_seqs.values()}
        for begins in sorted({begins for begins in self.first_seqs.values() if begins}):
            known = max((end for end in ends if end < begins), default=0)
            if known < begins - 1:
                found.append(JournalGap("", known + 1, begins - 1))
        return found

    def _first_seq(self, epoch: str) -> int:
        """The number an epoch began after: 0, or the end of the epoch before it.

        Early versions did not always write it down; then it is the end of another known epoch.
        """
        if epoch in self.first_seqs:
            return self.first_seqs[epoch]
        first = min(self.seen_seqs.get(epoch, ()), default=self.max_seqs[epoch] + 1)
        ends = (end for other, end in self.max_seqs.items() if other != epoch)
        return max((end for end in ends if end < first), default=0)


def read_audit(change: StoreChange) -> dict[str, Sequence[str]]:
    """The audit log's record of a change, by its id; none in a journal of an earlier version."""
    text = unflatten(change.fields).get("audit")
    if text is None:
        return {}
    row = orjson.loads(text)
    return {row["id"]: row["fields"]}


def merge_accounts(known: Record, reported: Mapping[str, str]) -> Record:
    """Two accounts of one job: where they differ, the one of its later state is right."""
    if (
        "state" in reported
        and "state" in known
        and STATE_RANK[reported["state"]] < STATE_RANK[known["state"]]
    ):
        return overwrite(reported, known)
    return overwrite(known, reported)


def overwrite(older: Mapping[str, str], newer: Mapping[str, str]) -> Record:
    """The fields of both, as the newer one has them. Lists that only grow are joined: which journal
    is read first says nothing about which of two whole lists is the longer one."""
    whole = {**older, **newer}
    for name, join in GROWING.items():
        if name in older and name in newer and older[name] != newer[name]:
            whole[name] = join(older[name], newer[name])
    return whole


def _join_words(one: str, other: str) -> str:
    return " ".join(dict.fromkeys([*one.split(), *other.split()]))


def _join_hooks(one: str, other: str) -> str:
    hooks = [*orjson.loads(one), *orjson.loads(other)]
    return to_json(list({(hook["url"], hook["user"]): hook for hook in hooks}.values()))


GROWING = {"deleted": _join_words, "hooks": _join_hooks}
"""Fields of a job that are whole lists; nothing is ever taken out of one."""
