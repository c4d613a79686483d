"""Recomputes every counter of the ledger from its entries and the open jobs (invariant I3).

This is consistent under traffic: each window is read together with the open jobs and the id of the
newest entry, in one script, and entries up to that id never change afterwards. So their sums are
remembered, and the next audit of this process reads on from there.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.adapters.redis.codec import EntryId, Record, entry_id, unflatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.scope_set import HOUSE_SCOPE_KEY, scope_keys_of
from app.domain.ledger import CounterDifference, LedgerAudit

COUNTER_FIELDS = ("images", "micros", "held_images", "held_micros")
ZERO_TOTALS = (0, 0, 0, 0)


class CounterTotals:
    """Scope key -> images, micros, held images, held micros. Records are summed as stored, since an
    audit reads all of them."""

    def __init__(self) -> None:
        self.by_scope_key: dict[str, list[int]] = defaultdict(lambda: list(ZERO_TOTALS))

    def add(self, scope_key: str, *amounts: int) -> None:
        sums = self.by_scope_key[scope_key]
        for index, amount in enumerate(amounts):
            sums[index] += amount

    def add_entry(self, row: Record) -> None:
        """Add what an entry charged to each scope it is counted in."""
        images, micros = int(row["images"]), int(row.get("micros", 0))
        for scope_key in scope_keys_of(row["key"], row["user"], row.get("team")):
            if scope_key == HOUSE_SCOPE_KEY:
                images += int(row["surplus"])
                micros += int(row.get("surplus_micros", 0))
            self.add(scope_key, images, micros)

    def add_open_job(self, job: Record) -> None:
        """Add what an open job holds in each scope it is counted in."""
        images = int(job["n"])
        micros = images * int(job.get("unit", 0))
        for scope_key in scope_keys_of(job["key"], job["user"], job.get("team")):
            self.add(scope_key, 0, 0, images, micros)


@dataclass(slots=True)
class _WindowCheck:
    """What the counters said at entry `last`, and what they should have said."""

    last: EntryId
    counted: dict[str, list[int]]
    expected: CounterTotals = field(default_factory=CounterTotals)

    def differences(self, label: str) -> Iterator[CounterDifference]:
        for scope_key in sorted(self.counted.keys() | self.expected.by_scope_key.keys()):
            counted = self.counted.get(scope_key, ZERO_TOTALS)
            expected = self.expected.by_scope_key.get(scope_key, ZERO_TOTALS)
            for name, counter, ledger in zip(COUNTER_FIELDS, counted, expected, strict=True):
                if counter != ledger:
                    yield CounterDifference(scope_key, label, name, counter, ledger)


class Auditor:
    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts
        self._lock = asyncio.Lock()
        self._sums: dict[str, CounterTotals] = defaultdict(CounterTotals)
        self._listed: set[str] = set()
        self._summed_up_to: EntryId = (0, 0)
        self._entries = 0

    async def audit(self) -> LedgerAudit:
        async with self._lock:
            recount = await self._scripts.run("recount_open_jobs")
            labels, counters = recount["labels"], recount["counters"]
            # Open jobs can be only in these: their own windows and the newest ones.
            holding = {*recount["holding"], *_newest(labels)}
            windows = {label: await self._window(label, label in holding) for label in labels}
            newer = await self._sum_entries(windows)
            self._drop_expired(labels)
        differences = [
            CounterDifference(HOUSE_SCOPE_KEY, "open", c["field"], c["counted"], c["actual"])
            for c in counters
            if c["counted"] != c["actual"]
        ]
        for label, window in windows.items():
            differences.extend(window.differences(label))
        counted = len(counters) + sum(
            len(COUNTER_FIELDS) * len(w.counted) for w in windows.values()
        )
        entries, open_jobs = self._entries + newer, recount["open_jobs"]
        return LedgerAudit(entries, open_jobs, counted, tuple(differences))

    async def _window(self, label: str, holding: bool) -> _WindowCheck:
        found = await self._scripts.run("snapshot_window", label, "held" if holding else "")
        counted = {
            scope_key: [int(number) for number in packed.split()]
            for scope_key, packed in unflatten(found["counters"]).items()
        }
        window = _WindowCheck(entry_id(found.get("last_entry") or "0-0"), counted)
        for held in found["held"]:
            window.expected.add(held["scope_key"], 0, 0, held["images"], held["micros"])
        return window

    async def _sum_entries(self, windows: dict[str, _WindowCheck]) -> int:
        """Add every window's entries to what is expected of it.

        Entries up to the first snapshot count for all windows and are remembered; how many are
        newer is returned.
        """
        snapshots = [window.last for window in windows.values()] or [self._summed_up_to]
        first, last, newer = min(snapshots), max(snapshots), 0
        since, until = "({}-{}".format(*self._summed_up_to), "{}-{}".format(*last)
        async for id, row in self._scripts.entries(since, until):
            entered = entry_id(id)
            if entered <= first:
                for label in (row["day"], row["month"]):
                    self._sums[label].add_entry(row)
                self._entries += 1
                self._summed_up_to = entered
                continue
            newer += 1
            for label in (row["day"], row["month"]):
                if label in windows and entered <= windows[label].last:
                    windows[label].expected.add_entry(row)
        for label, window in windows.items():
            for scope_key, amounts in self._sums[label].by_scope_key.items():
                window.expected.add(scope_key, *amounts)
        return newer

    def _drop_expired(self, labels: list[str]) -> None:
        for expired in self._listed.difference(labels):
            self._sums.pop(expired, None)
        self._listed = set(labels)


def _newest(labels: list[str]) -> list[str]:
    """The newest day and the newest month: a label's length says which it is."""
    return list({len(label): label for label in sorted(labels)}.values())
