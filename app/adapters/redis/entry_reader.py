"""Reading the ledger's entries in order: those of closed months from files, the others from the
stream (decision 58)."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import LIST_ENTRIES, LIST_NEWEST_ENTRIES
from app.adapters.redis.closed_months import StoredMonth, find_places, read_months
from app.adapters.redis.codec import EntryId, Record, entry_id, unflatten
from app.domain.closed_months import EntryRow, MonthsMoved, MonthUnreadable

if TYPE_CHECKING:
    from app.adapters.redis.ledger_scripts import LedgerScripts

ENTRY_PAGE_SIZE = 200
NEVER_MOVED_MS = 27 * 86_400_000
"""Entries younger than this are in the stream: a month stays there for another whole one."""
LAST_COUNT = 2**63


@dataclass(frozen=True, slots=True)
class _Bounds:
    """The span of `XRANGE first last`, as ids that compare."""

    first: str
    last: str

    def hold(self, id: str) -> bool:
        found = entry_id(id)
        return self._follows(found) and self._precedes(found)

    def _follows(self, found: EntryId) -> bool:
        if self.first == "-":
            return True
        first = entry_id(self.first.lstrip("("))
        return found > first if self.first.startswith("(") else found >= first

    def _precedes(self, found: EntryId) -> bool:
        if self.last == "+":
            return True
        last = entry_id(self.last.lstrip("("))
        if "-" not in self.last:
            last = (last[0], LAST_COUNT)
        return found < last if self.last.startswith("(") else found <= last

    @property
    def first_ms(self) -> int:
        return 0 if self.first == "-" else entry_id(self.first.lstrip("("))[0]

    def touch(self, month: StoredMonth) -> bool:
        """Whether any of the month's entries may lie within."""
        ends = month.month.ends_ms
        in_time = self.last == "+" or entry_id(self.last.lstrip("("))[0] >= month.month.starts_ms
        return self.first_ms < ends and in_time

    def after(self, upto_ms: int) -> "_Bounds":
        """The part that is in the stream."""
        return self if self.first_ms >= upto_ms else _Bounds(str(upto_ms), self.last)


async def read_entries(
    scripts: "LedgerScripts", first: str, last: str, *, newest_first: bool
) -> AsyncIterator[tuple[str, Record]]:
    """Raises `LedgerUnavailable`: `MonthUnreadable` where the files are elsewhere, `MonthsMoved` at
    the end when a month left the stream meanwhile."""
    bounds = _Bounds(first, last)
    sources = [read_stream(scripts, first, last, newest_first=newest_first)]
    state = None
    if bounds.first_ms < scripts.host_ms() - NEVER_MOVED_MS:
        state = await read_months(scripts)
        inner = bounds.after(state.upto_ms)
        sources = [
            _read_month(scripts, stored, bounds, newest_first=newest_first)
            for stored in state.moved
            if bounds.touch(stored)
        ]
        sources.append(read_stream(scripts, inner.first, inner.last, newest_first=newest_first))
    for source in reversed(sources) if newest_first else sources:
        async for found in source:
            yield found
    if state and (await read_months(scripts)).upto_ms > max(state.upto_ms, bounds.first_ms):
        raise MonthsMoved


async def _read_month(
    scripts: "LedgerScripts", stored: StoredMonth, bounds: _Bounds, *, newest_first: bool
) -> AsyncIterator[tuple[str, Record]]:
    """Those within the bounds. Raises `MonthUnreadable`."""
    async for page in month_pages(scripts, stored, newest_first=newest_first):
        for id, flat in page:
            if bounds.hold(id):
                yield id, unflatten(flat)


async def month_pages(
    scripts: "LedgerScripts", stored: StoredMonth, *, newest_first: bool = False
) -> AsyncIterator[list[EntryRow]]:
    """Pages of a closed month, read in a thread. Raises `MonthUnreadable`."""
    pages = scripts.months.pages(stored.month, newest_first=newest_first)
    try:
        while (page := await asyncio.to_thread(_following, pages)) is not None:
            yield page
    except OSError as error:
        raise await _explain(scripts, stored, error) from error


def _following(pages: Iterator[list[EntryRow]]) -> list[EntryRow] | None:
    return next(pages, None)


async def _explain(
    scripts: "LedgerScripts", stored: StoredMonth, error: OSError
) -> MonthUnreadable:
    name, places = stored.month.file_name, await find_places(scripts, stored)
    here = "is not on this machine" if isinstance(error, FileNotFoundError) else f"({error})"
    return MonthUnreadable(
        stored.month.label,
        f"The file {name} {here}. It was written in {places}: run this there, or copy it from "
        "there into this machine's KOI_DATA_DIR/journal.",
    )


async def read_stream(
    scripts: "LedgerScripts",
    first: str = "-",
    last: str = "+",
    *,
    newest_first: bool = False,
    noun: str = "stream",
) -> AsyncIterator[tuple[str, Record]]:
    """What the stream itself holds, page by page."""
    stream = keyspace.key(noun)
    while True:
        command, span = LIST_ENTRIES, (first, last)
        if newest_first:
            command, span = LIST_NEWEST_ENTRIES, (last, first)
        page: Sequence[tuple[str, Sequence[str]]]
        page = await scripts.command(command, stream, *span, "COUNT", ENTRY_PAGE_SIZE)
        for id, flat in page:
            yield id, unflatten(flat)
        if len(page) < ENTRY_PAGE_SIZE:
            return
        if newest_first:
            last = f"({page[-1][0]}"
        else:
            first = f"({page[-1][0]}"
