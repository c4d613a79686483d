"""Rolls up the ledger's entries behind their back: hours from entries, days from hours, months from
days, each once it is over. Days so old that their hours would not be kept are made from entries.

An hour is over when a later entry exists: ids of entries never go back, even when the store's clock
does. Every process may do this at any time: whoever is slower finds that the position has moved.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from app.adapters.redis.codec import Record, read_entry
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.rollups import GroupSums, RedisRollups, RollupState
from app.domain.rollups import (
    FINER,
    RETENTION_MS,
    RollupCoverage,
    RollupLevel,
    RollupSpan,
    RollupView,
    UsageSums,
    group_entry,
    spans_between,
    sum_entry,
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
        async for _, group, amounts in self._rollups.rows(spans, RollupView.ALL):
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


async def sum_hours(
    scripts: LedgerScripts, since_ms: int, until_ms: int
) -> dict[RollupSpan, GroupSums]:
    """What the entries of each of these hours add up to. Raises `LedgerUnavailable`."""
    hours: dict[RollupSpan, GroupSums] = {
        hour: {} for hour in spans_between(RollupLevel.HOUR, since_ms, until_ms)
    }
    async for id, row in scripts.entries(str(since_ms), str(until_ms - 1)):
        written_ms = int(id.partition("-")[0])
        _add_row(hours[RollupSpan.around(RollupLevel.HOUR, written_ms)], id, row)
    return hours


def _add_row(sums: GroupSums, id: str, row: Record) -> None:
    entry = read_entry(id, row)
    sums.setdefault(group_entry(entry), UsageSums()).add(sum_entry(entry))


def total_of(parts: Iterable[GroupSums]) -> GroupSums:
    """What all of them add up to, by the same groups."""
    whole: GroupSums = {}
    for part in parts:
        add_sums(whole, part)
    return whole


def add_sums(whole: GroupSums, part: GroupSums) -> None:
    for group, sums in part.items():
        whole.setdefault(group, UsageSums()).add(sums)


def by_month(sums: GroupSums) -> GroupSums:
    """The same sums by the month instead of the day."""
    found: GroupSums = {}
    for (day, *rest), amounts in sums.items():
        group = ((day or "")[: len("2026-11")], *rest)
        found.setdefault(group, UsageSums()).add(amounts)
    return found
