"""The provider's bill compared with the ledger, and the corrections that follow from it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import Protocol

from app.domain.calendar import format_time
from app.domain.catalog import Catalog
from app.domain.errors import InvalidRequest
from app.domain.ledger import Entry, EntryKind
from app.reconcile.bill import BillLine, BillPeriod, JobCharges, ReconciledItem
from app.reconcile.csv_file import (
    NO_COLUMNS,
    BillReadOptions,
    ColumnOptions,
    SkippedLine,
    UnreadableLine,
    read_bill,
)
from app.reconcile.csv_text import NotABill
from app.reconcile.match import build_adjustment, reconcile
from app.reconcile.report import BillReport

DAY_MS = 86_400_000
MAX_NAMED = 20
DEFAULT_WITHIN_MS = 900_000

Adjust = Callable[[Entry], Awaitable[Entry]]


class EntryReader(Protocol):
    """The part of the ledger that is compared."""

    def entries(self, since_ms: int = 0, until_ms: int | None = None) -> AsyncIterator[Entry]: ...


@dataclass(frozen=True, slots=True)
class BillScope:
    """Which part of a bill is compared, in Unix milliseconds, and how loosely. Without bounds it
    speaks for the time from its first to its last line. `capability` keeps lines that contain
    it. `provider` is whose bill it is, None for the main one: only what was charged for that
    provider can be missing on it."""

    since_ms: int | None = None
    until_ms: int | None = None
    within_ms: int = DEFAULT_WITHIN_MS
    capability: str | None = None
    provider: str | None = None

    def contains(self, at_ms: int) -> bool:
        after = self.since_ms is None or self.since_ms <= at_ms
        return after and (self.until_ms is None or at_ms < self.until_ms)


@dataclass(slots=True)
class ParsedBill:
    """The file as read: what can be compared, and what cannot."""

    lines: list[BillLine] = field(default_factory=list)
    unreadable: list[UnreadableLine] = field(default_factory=list)
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class BillComparison:
    """`name` is what the report calls the bill; `now_ms` the store's clock."""

    ledger: EntryReader
    catalog: Catalog
    zone: tzinfo
    now_ms: int

    async def compare(
        self, file: Path, name: str, scope: BillScope, columns: ColumnOptions = NO_COLUMNS
    ) -> BillReport:
        """Raises `NotABill`, also when no line can be compared. Reading and matching happen in a
        thread, because a bill may be long."""
        bill, period = await asyncio.to_thread(self._read, file, scope, columns)
        if scope.until_ms is not None:
            # No bill covers what is still to come.
            until_ms = max(min(period.until_ms, self.now_ms), period.since_ms + 1)
            period = replace(period, until_ms=until_ms)
        charges = await self._read_charges(period, scope.provider)
        named = partial(self._name_model, scope.provider)
        items = await asyncio.to_thread(reconcile, bill.lines, charges, period, named)
        return BillReport(name, period, items, bill.unreadable, bill.skipped)

    def _read(
        self, file: Path, scope: BillScope, columns: ColumnOptions
    ) -> tuple[ParsedBill, BillPeriod]:
        options = BillReadOptions(columns, self.zone, self.catalog.currency, scope.capability)
        bill = ParsedBill()
        for line in read_bill(file, options):
            if isinstance(line, UnreadableLine):
                bill.unreadable.append(line)
            elif isinstance(line, SkippedLine) or not scope.contains(line.at_ms):
                bill.skipped += 1
            else:
                bill.lines.append(line)
        moments = [line.at_ms for line in bill.lines]
        since = min(moments, default=None) if scope.since_ms is None else scope.since_ms
        until = max(moments, default=None) if scope.until_ms is None else scope.until_ms
        if since is None or until is None:
            raise NotABill(_explain_empty(file, bill))
        return bill, BillPeriod(since, max(until, since + 1), scope.within_ms)

    async def _read_charges(self, period: BillPeriod, provider: str | None) -> JobCharges:
        charges = JobCharges(self._price)
        # An entry is written after its call, a correction at any time later. A day more on each
        # side, since a line is matched by its id also where the clocks differ.
        async for entry in self.ledger.entries(period.since_ms - period.within_ms - DAY_MS):
            sent_ms = entry.at_ms if entry.dispatched_ms is None else entry.dispatched_ms
            ends_ms = period.until_ms + period.within_ms + DAY_MS
            sent = entry.provider == provider and sent_ms <= ends_ms
            if entry.kind is EntryKind.ADJUST or sent:
                charges.add_entry(entry)
        return charges

    def _name_model(self, provider: str | None, model: str) -> str:
        """The catalog's name of what the provider calls `model`."""
        own = (m for m in self.catalog.models if m.provider == provider and m.sent_name == model)
        found = next(own, None) or self.catalog.find(model)
        return model if found is None else found.name

    def _price(self, entry: Entry) -> int | None:
        """Of one image by the catalog. None where it depends on what the job was given, too."""
        found = self.catalog.find(entry.model)
        if found is None or found.reference_micros:
            return None
        return found.price(entry.size, entry.quality)


async def enter_corrections(
    report: BillReport, adjust: Adjust, jobs: Collection[str] | None = None
) -> None:
    """Enter every correction that is certain, or those of some `jobs`; the other items say why they
    are not."""
    if not report.may_correct:
        return
    period = report.period
    bill = f"{format_time(period.since_ms)} to {format_time(period.until_ms)}"
    for place, item in enumerate(report.items):
        wanted = jobs is None or (item.charge is not None and item.charge.entry.job in jobs)
        if item.adjustment and wanted:
            report.items[place] = await _adjust(item, bill, adjust)


async def _adjust(item: ReconciledItem, bill: str, adjust: Adjust) -> ReconciledItem:
    try:
        entry = await adjust(build_adjustment(item, bill))
    except InvalidRequest as refusal:
        return replace(item, adjustment=0, advice=refusal.message)
    return replace(item, entered=entry.id)


def _explain_empty(file: Path, bill: ParsedBill) -> str:
    """Why there is nothing to compare, line by line where lines could not be read."""
    if bill.unreadable:
        named = "".join(f"\n{line}" for line in bill.unreadable[:MAX_NAMED])
        more = len(bill.unreadable) - MAX_NAMED
        rest = f"\n… and {more} more" if more > 0 else ""
        count = len(bill.unreadable)
        return f"None of {file} can be compared; lines that cannot be read: {count}.{named}{rest}"
    lines = "no line that was asked for" if bill.skipped else "no line"
    return f"{file} has {lines}; say what it covers with --since and --until."
