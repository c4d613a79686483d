"""Moves closed months out of the store, into files beside this gateway's journal (decision 58).

Each step can be stopped at any moment and is gone on with by whichever process comes next: the file
gets its name once it is whole, the store is told of it once it was read back, and entries leave the
store only after that. Every gateway whose journal is in use writes its own file first.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from app.adapters.journal.file import FileJournal
from app.adapters.journal.id_file import ID_FILE_NAME
from app.adapters.journal.months import EntryDigest, FileMonths, MonthWriter
from app.adapters.redis.closed_months import MonthsState, read_months, save_month, trim_entries
from app.adapters.redis.codec import flatten, read_entry
from app.adapters.redis.entry_reader import ENTRY_PAGE_SIZE, read_stream
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.rollup_sums import GroupSums, by_month, split_by_view
from app.adapters.redis.rollups import RedisRollups, RollupState
from app.domain.closed_months import ClosedMonth, EntryRow
from app.domain.rollups import (
    RollupLevel,
    RollupSpan,
    RollupView,
    UsageSums,
    group_entry,
    sum_entry,
)
from app.wiring.journal_replication import JOURNAL_TTL_MS

RECORDS_MARGIN = timedelta(days=7)
"""A month stays for so much longer than the records of its jobs: images may be collected late."""

log = structlog.get_logger("koi.ledger")


@dataclass(frozen=True, slots=True)
class MonthTerms:
    """`months` that are over stay in the store, 0: all; also those that `records` of jobs, kept for
    so long, may refer to. `own_store`: the store's files are on this machine's disk, too."""

    months: int
    records: timedelta
    own_store: bool


class MonthMover:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts, journal: FileJournal, terms: MonthTerms) -> None:
        self._scripts, self._journal, self._terms = scripts, journal, terms
        self._files, self._rollups = FileMonths(journal.directory), RedisRollups(scripts)
        self._said = ""

    async def step(self) -> bool:
        """Do the next thing that is due; false when there is nothing, or others must come first.
        Raises `OSError`."""
        state = await read_months(self._scripts)
        if not self._terms.months or state.epoch is None or state.quarantined:
            return False
        trimmed = await trim_entries(self._scripts, state.epoch) if state.upto_ms else 0
        if trimmed is None:
            self._say(
                "months_not_moved", reason="the store's user may not delete entries",
                fix="ACL SETUSER koi +xdel, or KOI_LEDGER_MONTHS=0 to keep all in the store",
            )  # fmt: skip
        if trimmed:
            return True
        rolled_up = await self._rollups.state()
        span = self._due(state, rolled_up)
        if span is None or not self._lasts(span):
            return False
        return await self._move(span, state, rolled_up)

    def _due(self, state: MonthsState, rolled_up: RollupState) -> RollupSpan | None:
        """The oldest month in the store, if it may leave."""
        first_ms = state.upto_ms or rolled_up.oldest_ms
        if not first_ms:
            return None
        span = RollupSpan.around(RollupLevel.MONTH, first_ms)
        kept = self._terms.records + RECORDS_MARGIN
        old = span.ends_ms + kept / timedelta(milliseconds=1) <= state.now_ms
        stay = _month_number(state.now_ms) - _month_number(span.starts_ms) <= self._terms.months
        whole = span.ends_ms <= rolled_up.coverage.months_ms
        return span if old and whole and not stay else None

    def _lasts(self, span: RollupSpan) -> bool:
        """Whether this journal's directory has outlived the month: one that is new, or goes with
        its container, must not become the only place of its entries."""
        if self._journal.id is None or self._journal.gone():
            return False
        since_ms = (self._journal.directory / ID_FILE_NAME).stat().st_mtime * 1000
        return self._terms.own_store or since_ms < span.ends_ms

    async def _move(self, span: RollupSpan, state: MonthsState, rolled_up: RollupState) -> bool:
        assert state.epoch is not None
        assert self._journal.id is not None
        known = {stored.month.starts_ms: stored.month for stored in state.months}
        month = known.get(span.starts_ms)
        if month is None or not await self._is_whole(month):
            month = await self._write(span, rolled_up)
            if month is None or not await self._is_whole(month):
                return False
        waiting = await save_month(
            self._scripts, state.epoch, month, self._journal.id, JOURNAL_TTL_MS
        )
        if waiting is None:
            self._say("months_differ", month=month.label, fix="see `koi ledger check --full`")
            return False
        if not waiting:
            log.info("month_moved", month=month.label, entries=month.entries)
        return not waiting

    async def _write(self, span: RollupSpan, rolled_up: RollupState) -> ClosedMonth | None:
        """The month in a file; None when its rollup says something else, or another process of
        this directory is at work."""
        mark = self._scripts.position
        if mark is None:
            return None
        with self._files.write(mark) as writer:
            if writer is None:
                return None
            month, sums = await self._copy(span, writer)
            if not await self._agrees(span, sums, rolled_up):
                self._say("month_differs", month=month.label, fix="run `koi ledger check --full`")
                return None
            if month.entries:
                await asyncio.to_thread(writer.commit, month)
        return month

    async def _copy(self, span: RollupSpan, writer: MonthWriter) -> tuple[ClosedMonth, GroupSums]:
        sums: GroupSums = {}
        page: list[EntryRow] = []
        stream = read_stream(self._scripts, str(span.starts_ms), str(span.ends_ms - 1))
        async for id, row in stream:
            entry = read_entry(id, row)
            sums.setdefault(group_entry(entry), UsageSums()).add(sum_entry(entry))
            page.append((id, flatten(row)))
            if len(page) == ENTRY_PAGE_SIZE:
                await asyncio.to_thread(writer.add, page)
                page = []
        if page:
            await asyncio.to_thread(writer.add, page)
        return _describe(span, writer.digest, sums), sums

    async def _agrees(self, span: RollupSpan, sums: GroupSums, rolled_up: RollupState) -> bool:
        """Whether the rollup, which goes on answering for these entries, says the same."""
        if not rolled_up.coverage.has(span):
            return True
        for view, expected in split_by_view(by_month(sums)).items():
            if view is RollupView.ATTRIBUTED and not await self._rollups.is_attributed(span):
                continue
            rows = self._rollups.rows([span], view)
            if {group: amounts async for _, group, amounts in rows} != expected:
                return False
        return True

    async def _is_whole(self, month: ClosedMonth) -> bool:
        """Read the file back, to its digest."""
        return self._files.holds(month) and await asyncio.to_thread(self._reads, month)

    def _reads(self, month: ClosedMonth) -> bool:
        try:
            for _ in self._files.pages(month):
                pass
        except OSError as error:
            log.warning("month_unreadable", file=month.file_name, reason=str(error))
            return False
        return True

    def _say(self, event: str, **what: str) -> None:
        """Once, until something else is the matter."""
        if self._said != event:
            self._said = event
            log.error(event, **what)


def _describe(span: RollupSpan, digest: EntryDigest, sums: GroupSums) -> ClosedMonth:
    whole = UsageSums()
    for part in sums.values():
        whole.add(part)
    return ClosedMonth(
        label=f"{datetime.fromtimestamp(span.starts_ms / 1000, UTC):%Y-%m}",
        starts_ms=span.starts_ms,
        ends_ms=span.ends_ms,
        entries=digest.count,
        images=whole.images,
        micros=whole.micros,
        surplus=whole.surplus,
        digest=digest.text,
    )


def _month_number(at_ms: int) -> int:
    moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    return moment.year * 12 + moment.month
