"""Recomputes every counter of the ledger from its entries and the open jobs (invariant I3).

This is consistent under traffic: each window is read together with the open jobs and the id of the
newest entry, in one script, and entries up to that id never change afterwards. So their sums are
remembered, and the next audit of this process reads on from there. The first one begins with the
rollups, which a full audit compares with the entries they were made from.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.adapters.redis.codec import EntryId, entry_id, unflatten
from app.adapters.redis.counter_totals import (
    COUNTER_FIELDS,
    ZERO_TOTALS,
    CounterTotals,
    sum_windows,
)
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.rollup_check import find_rollup_differences
from app.adapters.redis.rollups import RedisRollups
from app.adapters.redis.scope_set import HOUSE_SCOPE_KEY
from app.domain.ledger import CounterDifference, LedgerAudit

FULL_AUDIT_INTERVAL_MS = 86_400_000
MAX_ENTRY_COUNT = 2**63
"""No two entries of one millisecond are so far apart."""


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
        self._rollups = RedisRollups(scripts)
        self._epoch: str | None = None
        self._lock = asyncio.Lock()
        self._sums: dict[str, CounterTotals] = defaultdict(CounterTotals)
        self._listed: set[str] = set()
        self._summed_up_to: EntryId = (0, 0)
        self._entries = 0

    async def audit(self, *, full: bool = False) -> LedgerAudit:
        """`full`: compare the rollups with all entries too."""
        async with self._lock:
            await self._begin()
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
        if full:
            differences.extend(await find_rollup_differences(self._scripts))
        counted = len(counters) + sum(
            len(COUNTER_FIELDS) * len(w.counted) for w in windows.values()
        )
        entries, open_jobs = self._entries + newer, recount["open_jobs"]
        return LedgerAudit(entries, open_jobs, counted, tuple(differences))

    async def full_audit_due(self) -> bool:
        """Whether it is time for the next full audit of all processes; then it is this one's."""
        state = await self._rollups.state()
        now_ms = state.coverage.now_ms
        if state.quarantined or now_ms - state.audited_ms < FULL_AUDIT_INTERVAL_MS:
            return False
        await self._rollups.note_audit(now_ms)
        return state.audited_ms > 0

    async def _begin(self) -> None:
        """Begin with the rollups, and begin again with a ledger that was rebuilt."""
        state = await self._rollups.state()
        if self._epoch == state.epoch and self._summed_up_to > (0, 0):
            return
        found = await sum_windows(self._rollups, state.coverage)
        self._epoch, self._sums, self._entries = state.epoch, found.by_label, found.entries
        hours_ms = state.coverage.hours_ms
        self._summed_up_to = (hours_ms - 1, MAX_ENTRY_COUNT) if hours_ms else (0, 0)

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
