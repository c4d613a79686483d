"""Recomputes every counter of the ledger from its entries and the open jobs (invariant I3).

This is consistent under traffic: the counters, the open jobs and the id of the newest entry are of
one moment (`audit_scan.py`), and entries up to that id never change afterwards. So their sums are
remembered, and the next audit of this process reads on from there. The first one begins with the
rollups, which a full audit compares with the entries they were made from.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator

from app.adapters.redis.audit_scan import AuditScan, scan_ledger
from app.adapters.redis.codec import EntryId, entry_id
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
OPEN_FIELDS = ("R", "D", "U", "images", "micros")


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

    async def audit(self, *, full: bool = False, files: bool = True) -> LedgerAudit:
        """`full`: compare the rollups with all entries, too, or without `files` with those in the
        store.

        A difference counts when a second look finds it, too: an earlier version beside this one
        makes a job ambiguous without a change that the scan could notice."""
        async with self._lock:
            await self._begin()
            scan = await self._scan()
            found = list(self._differences(scan))
            if found:
                scan = await self._scan()
                again = set(self._differences(scan))
                found = [difference for difference in found if difference in again]
        unread: list[str] = []
        if full:
            findings = await find_rollup_differences(self._scripts, files=files)
            found += findings.differences
            unread = findings.unread
        counted = len(OPEN_FIELDS) + sum(
            len(COUNTER_FIELDS) * len(scan.windows[label]) for label in scan.labels
        )
        return LedgerAudit(self._entries, len(scan.jobs), counted, tuple(found), tuple(unread))

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

    async def _scan(self) -> AuditScan:
        scan = await scan_ledger(self._scripts)
        await self._sum_entries(scan.last_entry)
        self._drop_expired(scan.labels)
        return scan

    async def _sum_entries(self, last: EntryId) -> None:
        """Add the entries up to this one that were not summed yet."""
        since, until = "({}-{}".format(*self._summed_up_to), "{}-{}".format(*last)
        async for id, row in self._scripts.entries(since, until):
            for label in (row["day"], row["month"]):
                self._sums[label].add_entry(row)
            self._entries += 1
            self._summed_up_to = entry_id(id)

    def _differences(self, scan: AuditScan) -> Iterator[CounterDifference]:
        yield from _open_differences(scan)
        held: dict[str, CounterTotals] = defaultdict(CounterTotals)
        for job in scan.jobs.values():
            for label in (job["day"], job["month"]):
                held[label].add_open_job(job)
        for label in scan.labels:
            counted = scan.windows[label]
            expected = _sum(self._sums[label], held[label])
            for scope_key in sorted(counted.keys() | expected.keys()):
                rows = counted.get(scope_key, ZERO_TOTALS), expected.get(scope_key, ZERO_TOTALS)
                for name, counter, ledger in zip(COUNTER_FIELDS, *rows, strict=True):
                    if counter != ledger:
                        yield CounterDifference(scope_key, label, name, counter, ledger)

    def _drop_expired(self, labels: list[str]) -> None:
        for expired in self._listed.difference(labels):
            self._sums.pop(expired, None)
        self._listed = set(labels)


def _sum(settled: CounterTotals, held: CounterTotals) -> dict[str, list[int]]:
    total = {scope_key: list(sums) for scope_key, sums in settled.by_scope_key.items()}
    for scope_key, (_, _, images, micros) in held.by_scope_key.items():
        sums = total.setdefault(scope_key, list(ZERO_TOTALS))
        sums[2], sums[3] = sums[2] + images, sums[3] + micros
    return total


def _open_differences(scan: AuditScan) -> Iterator[CounterDifference]:
    actual: Counter[str] = Counter()
    for job in scan.jobs.values():
        images = int(job["n"])
        actual[job["state"]] += 1
        actual["images"] += images
        actual["micros"] += images * int(job.get("unit", 0))
    for name in OPEN_FIELDS:
        if scan.open_counts[name] != actual[name]:
            yield CounterDifference(
                HOUSE_SCOPE_KEY, "open", name, scan.open_counts[name], actual[name]
            )
