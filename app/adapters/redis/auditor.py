"""Recomputes every counter of the ledger from its entries and the open jobs (invariant I3).

This is consistent under traffic: the counters, the open jobs and the id of the newest entry are of
one moment (`audit_scan.py`), and entries up to that id never change afterwards. So their sums are
remembered, and the next audit of this process reads on from there.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator

from app.adapters.redis.audit_scan import AuditScan, scan_ledger
from app.adapters.redis.codec import EntryId, Record, entry_id
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.scope_set import HOUSE_SCOPE_KEY, scope_keys_of
from app.domain.ledger import CounterDifference, LedgerAudit

COUNTER_FIELDS = ("images", "micros", "held_images", "held_micros")
ZERO_TOTALS = (0, 0, 0, 0)
OPEN_FIELDS = ("R", "D", "U", "images", "micros")


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


class Auditor:
    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts
        self._lock = asyncio.Lock()
        self._sums: dict[str, CounterTotals] = defaultdict(CounterTotals)
        self._listed: set[str] = set()
        self._summed_up_to: EntryId = (0, 0)
        self._entries = 0

    async def audit(self) -> LedgerAudit:
        """A difference counts when a second look finds it, too: an earlier version beside this one
        makes a job ambiguous without a change that the scan could notice."""
        async with self._lock:
            scan = await self._scan()
            found = list(self._differences(scan))
            if found:
                scan = await self._scan()
                again = set(self._differences(scan))
                found = [difference for difference in found if difference in again]
        counted = len(OPEN_FIELDS) + sum(
            len(COUNTER_FIELDS) * len(scan.windows[label]) for label in scan.labels
        )
        return LedgerAudit(self._entries, len(scan.jobs), counted, tuple(found))

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
