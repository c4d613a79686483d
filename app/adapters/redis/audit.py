"""Recomputes every counter from the ledger and the open jobs (invariant I3).

Consistent under traffic: each window is read together with the open jobs and the id of the newest
entry, in one script; the entries up to that id never change afterwards. So what they add up to is
remembered, and the next audit of this process reads on from there.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.adapters.redis.book import Book
from app.adapters.redis.bound import HOUSE
from app.adapters.redis.entries import EntryId, entry_id, rows
from app.adapters.redis.sums import FIELDS, NOTHING, Sums
from app.domain.ledger import Audit, Difference


@dataclass(slots=True)
class _Window:
    """What the counters said at entry `last`, and what they should have said."""

    last: EntryId
    counted: dict[str, list[int]]
    expected: Sums = field(default_factory=Sums)

    def differences(self, label: str) -> Iterator[Difference]:
        for line in sorted(self.counted.keys() | self.expected.lines.keys()):
            counted = self.counted.get(line, NOTHING)
            expected = self.expected.lines.get(line, NOTHING)
            for name, counter, ledger in zip(FIELDS, counted, expected, strict=True):
                if counter != ledger:
                    yield Difference(line, label, name, counter, ledger)


class Auditor:
    def __init__(self, book: Book) -> None:
        self._book = book
        self._one_at_a_time = asyncio.Lock()
        self._sums: dict[str, Sums] = defaultdict(Sums)
        self._listed: set[str] = set()
        self._read_to: EntryId = (0, 0)
        self._entries = 0

    async def audit(self) -> Audit:
        async with self._one_at_a_time:
            counters, labels, holding, open_jobs = await self._book.read("recount")
            # Only these can hold anything: the newest, and those the open jobs are in.
            holding = {*holding, *_newest(labels)}
            windows = {label: await self._window(label, label in holding) for label in labels}
            newer = await self._add_up(windows)
            self._forget_all_but(labels)
        differences = [
            Difference(HOUSE, "open", name, counter, actual)
            for name, counter, actual in counters
            if counter != actual
        ]
        for label, window in windows.items():
            differences.extend(window.differences(label))
        counted = len(counters) + sum(len(FIELDS) * len(w.counted) for w in windows.values())
        return Audit(self._entries + newer, open_jobs, counted, tuple(differences))

    async def _window(self, label: str, holding: bool) -> _Window:
        last, flat, held = await self._book.read("snapshot", label, "held" if holding else "")
        counted = {
            line: [int(number) for number in packed.split()]
            for line, packed in zip(flat[::2], flat[1::2], strict=True)
        }
        window = _Window(entry_id(last or "0-0"), counted)
        for line, images, micros in held:
            window.expected.add(line, 0, 0, images, micros)
        return window

    async def _add_up(self, windows: dict[str, _Window]) -> int:
        """Add every window's entries to what is expected of it.

        Entries up to the first snapshot count for all windows and are remembered; how many are
        newer is returned.
        """
        snapshots = [window.last for window in windows.values()] or [self._read_to]
        first, last, newer = min(snapshots), max(snapshots), 0
        since, until = "({}-{}".format(*self._read_to), "{}-{}".format(*last)
        async for id, row in rows(self._book, since, until):
            entered = entry_id(id)
            if entered <= first:
                for label in (row["day"], row["month"]):
                    self._sums[label].enter(row)
                self._entries += 1
                self._read_to = entered
                continue
            newer += 1
            for label in (row["day"], row["month"]):
                if label in windows and entered <= windows[label].last:
                    windows[label].expected.enter(row)
        for label, window in windows.items():
            for line, amounts in self._sums[label].lines.items():
                window.expected.add(line, *amounts)
        return newer

    def _forget_all_but(self, labels: list[str]) -> None:
        for expired in self._listed.difference(labels):
            self._sums.pop(expired, None)
        self._listed = set(labels)


def _newest(labels: list[str]) -> list[str]:
    """The newest day and the newest month: a label's length says which it is."""
    return list({len(label): label for label in sorted(labels)}.values())
