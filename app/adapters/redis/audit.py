"""Recomputes every counter from the ledger and the open jobs (invariant I3).

Consistent under traffic: each window is read together with the open jobs and the id of the newest
entry, in one script; the entries up to that id never change afterwards.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.adapters.redis.book import Book
from app.adapters.redis.bound import HOUSE, lines_of
from app.adapters.redis.entries import EntryId, entry_id, rows
from app.domain.ledger import Audit, Difference

FIELDS = ("images", "micros", "held_images", "held_micros")
OPEN = "open"
Sums = dict[str, list[int]]
"""line -> images, micros, held images, held micros"""


@dataclass(slots=True)
class _Window:
    """One window: what the counters said at entry `last`, and what they should have said."""

    label: str
    last: EntryId
    counted: Sums
    expected: Sums = field(default_factory=dict)

    def add(self, line: str, images: int, micros: int) -> None:
        sums = self.expected.setdefault(line, [0, 0, 0, 0])
        sums[0] += images
        sums[1] += micros

    def differences(self) -> Iterator[Difference]:
        for line in sorted(self.counted.keys() | self.expected.keys()):
            counted = self.counted.get(line, [0, 0, 0, 0])
            expected = self.expected.get(line, [0, 0, 0, 0])
            for name, counter, ledger in zip(FIELDS, counted, expected, strict=True):
                if counter != ledger:
                    yield Difference(line, self.label, name, counter, ledger)


async def audit(book: Book) -> Audit:
    open_rows, labels, open_jobs = await book.read("recount")
    windows = {label: _window(label, await book.read("snapshot", label)) for label in labels}
    entries = 0
    async for id, row in rows(book):
        entries += 1
        for label in (row["day"], row["month"]):
            if label in windows and entry_id(id) <= windows[label].last:
                _enter(windows[label], row)
    differences = [
        Difference(HOUSE, OPEN, name, counter, actual)
        for name, counter, actual in open_rows
        if counter != actual
    ]
    for window in windows.values():
        differences.extend(window.differences())
    counters = len(open_rows) + sum(
        len(FIELDS) * len(window.counted) for window in windows.values()
    )
    return Audit(entries, open_jobs, counters, tuple(differences))


def _window(label: str, snapshot: Any) -> _Window:
    last, flat, held = snapshot
    counted = {
        line: [int(number) for number in packed.split()]
        for line, packed in zip(flat[::2], flat[1::2], strict=True)
    }
    window = _Window(label, entry_id(last or "0-0"), counted)
    for line, images, micros in held:
        window.expected[line] = [0, 0, images, micros]
    return window


def _enter(window: _Window, row: dict[str, str]) -> None:
    images, micros = int(row["images"]), int(row.get("micros", 0))
    for line in lines_of(row["key"], row["user"], row.get("team")):
        if line == HOUSE:
            images += int(row["surplus"])
            micros += int(row.get("surplus_micros", 0))
        window.add(line, images, micros)
