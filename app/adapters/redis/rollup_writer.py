"""Rolls up the ledger's entries behind their back: hours from entries, days from hours, months from
days, each once it is over.

An hour is over when a later entry exists: ids of entries never go back, even when the store's clock
does. Every process may do this at any time: whoever is slower finds that the position has moved.
"""

from collections.abc import Sequence
from dataclasses import replace

from app.adapters.redis.codec import Record, read_entry
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.rollups import GroupSums, RedisRollups, RollupState
from app.domain.rollups import (
    RollupCoverage,
    RollupLevel,
    RollupSpan,
    RollupView,
    UsageSums,
    group_entry,
    sum_entry,
)

FINER = {RollupLevel.DAY: RollupLevel.HOUR, RollupLevel.MONTH: RollupLevel.DAY}


class RollupWriter:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts
        self._rollups = RedisRollups(scripts)

    async def step(self) -> bool:
        """Make the next rollup; false when there is none yet, or another process made it."""
        state = await self._rollups.state()
        if state.epoch is None or state.quarantined or not state.newest_ms:
            return False
        coverage = _begun(state)
        for level, finer in reversed(FINER.items()):
            span = RollupSpan.around(level, coverage.until_ms(level))
            if span.ends_ms <= coverage.until_ms(finer):
                sums = await self.sum_rollups(parts_of(span))
                sums = by_month(sums) if level is RollupLevel.MONTH else sums
                return await self._rollups.save(state, span, sums, coverage.advanced(span))
        span = RollupSpan.around(RollupLevel.HOUR, coverage.hours_ms)
        if span.ends_ms > state.newest_ms:
            return False
        sums = await self.sum_entries(span)
        coverage = replace(coverage, hours_ms=await self._next_hour(span))
        return await self._rollups.save(state, span, sums, coverage)

    async def sum_entries(self, span: RollupSpan) -> GroupSums:
        sums: GroupSums = {}
        async for id, row in self._scripts.entries(str(span.starts_ms), str(span.ends_ms - 1)):
            add_row(sums, id, row)
        return sums

    async def sum_rollups(self, spans: Sequence[RollupSpan]) -> GroupSums:
        sums: GroupSums = {}
        async for _, group, amounts in self._rollups.rows(spans, RollupView.ALL):
            sums.setdefault(group, UsageSums()).add(amounts)
        return sums

    async def _next_hour(self, span: RollupSpan) -> int:
        """Where the next hour with an entry begins: nothing is written in between any more."""
        async for id, _ in self._scripts.entries(str(span.ends_ms)):
            return RollupSpan.around(RollupLevel.HOUR, int(id.partition("-")[0])).starts_ms
        return span.ends_ms


def _begun(state: RollupState) -> RollupCoverage:
    """Where each level goes on; before the first rollup, at the oldest entry."""
    coverage, oldest = state.coverage, state.oldest_ms
    return replace(
        coverage,
        from_ms=coverage.from_ms or RollupSpan.around(RollupLevel.MONTH, oldest).starts_ms,
        hours_ms=coverage.hours_ms or RollupSpan.around(RollupLevel.HOUR, oldest).starts_ms,
        days_ms=coverage.days_ms or RollupSpan.around(RollupLevel.DAY, oldest).starts_ms,
        months_ms=coverage.months_ms or RollupSpan.around(RollupLevel.MONTH, oldest).starts_ms,
    )


def parts_of(span: RollupSpan) -> list[RollupSpan]:
    """The finer spans that a day or a month consists of."""
    parts, at_ms = [], span.starts_ms
    while at_ms < span.ends_ms:
        parts.append(RollupSpan.around(FINER[span.level], at_ms))
        at_ms = parts[-1].ends_ms
    return parts


def by_month(sums: GroupSums) -> GroupSums:
    """The same sums by the month instead of the day."""
    found: GroupSums = {}
    for (day, *rest), amounts in sums.items():
        group = ((day or "")[: len("2026-11")], *rest)
        found.setdefault(group, UsageSums()).add(amounts)
    return found


def add_row(sums: GroupSums, id: str, row: Record) -> None:
    """Add an entry as it is stored."""
    entry = read_entry(id, row)
    sums.setdefault(group_entry(entry), UsageSums()).add(sum_entry(entry))
