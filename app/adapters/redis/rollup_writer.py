"""Rolls up the ledger's entries behind their back: hours from entries, days from hours, months from
days, each once it is over. Days so old that their hours would not be kept are made from entries.

An hour is over when a later entry exists: ids of entries never go back, even when the store's clock
does. Every process may do this at any time: whoever is slower finds that the position has moved.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.rollup_sums import GroupSums, by_month, sum_hours, total_of
from app.adapters.redis.rollups import RedisRollups, RollupState
from app.domain.rollups import (
    FINER,
    RETENTION_MS,
    RollupCoverage,
    RollupLevel,
    RollupSpan,
    RollupView,
    UsageSums,
)


class RollupWriter:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts
        self._rollups = RedisRollups(scripts)

    async def step(self) -> bool:
        """Make the next rollups; false when there is none yet, or another process made them."""
        state = await self._rollups.state()
        if state.epoch is None or state.quarantined or not state.newest_ms:
            return False
        coverage = _begun(state)
        for level, finer in reversed(FINER.items()):
            span = RollupSpan.around(level, coverage.until_ms(level))
            if span.ends_ms <= coverage.until_ms(finer):
                sums = await self._sum_rollups(span.parts())
                sums = by_month(sums) if level is RollupLevel.MONTH else sums
                return await self._rollups.save(state, {span: sums}, coverage.advanced(span))
        return await self._roll_up_entries(state, coverage)

    async def _roll_up_entries(self, state: RollupState, coverage: RollupCoverage) -> bool:
        """The hours of one day that are over, or the whole of a day long ago."""
        day = RollupSpan.around(RollupLevel.DAY, coverage.hours_ms)
        newest = RollupSpan.around(RollupLevel.HOUR, state.newest_ms)
        until_ms = min(day.ends_ms, newest.starts_ms)
        if until_ms <= coverage.hours_ms:
            return False
        hours = await sum_hours(self._scripts, coverage.hours_ms, until_ms)
        made: Mapping[RollupSpan, GroupSums] = hours
        after = replace(coverage, hours_ms=until_ms)
        old = day.ends_ms + RETENTION_MS[RollupLevel.HOUR] < coverage.now_ms
        if old and (coverage.hours_ms, until_ms) == (day.starts_ms, day.ends_ms):
            made, after = {day: total_of(hours.values())}, after.advanced(day)
        return await self._rollups.save(state, made, after)

    async def _sum_rollups(self, spans: Sequence[RollupSpan]) -> GroupSums:
        sums: GroupSums = {}
        async for _, group, amounts in self._rollups.rows(spans, RollupView.ATTRIBUTED):
            sums.setdefault(group, UsageSums()).add(amounts)
        return sums


def _begun(state: RollupState) -> RollupCoverage:
    """Where each level goes on; before the first rollup, at the day of the oldest entry."""
    coverage = state.coverage
    if coverage.from_ms:
        return coverage
    month = RollupSpan.around(RollupLevel.MONTH, state.oldest_ms)
    day = RollupSpan.around(RollupLevel.DAY, state.oldest_ms)
    return replace(
        coverage,
        from_ms=month.starts_ms,
        hours_ms=day.starts_ms,
        days_ms=day.starts_ms,
        months_ms=month.starts_ms,
    )
