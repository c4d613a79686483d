"""Compares every rollup that is kept with the entries it was made from, day by day."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.rollup_sums import (
    GroupSums,
    add_sums,
    by_month,
    split_by_view,
    sum_hours,
    total_of,
)
from app.adapters.redis.rollups import RedisRollups
from app.domain.ledger import CounterDifference
from app.domain.rollups import (
    SUM_FIELDS,
    RollupCoverage,
    RollupLevel,
    RollupSpan,
    RollupView,
    UsageSums,
    spans_between,
)


async def find_rollup_differences(scripts: LedgerScripts) -> list[CounterDifference]:
    """Reads every entry. Raises `LedgerUnavailable`."""
    rollups = RedisRollups(scripts)
    state = await rollups.state()
    check = _RollupCheck(scripts, rollups, state.coverage)
    differences = [found async for found in check.run()]
    # A ledger that was rebuilt meanwhile has other entries.
    return differences if (await rollups.state()).epoch == state.epoch else []


class _RollupCheck:
    def __init__(
        self, scripts: LedgerScripts, rollups: RedisRollups, coverage: RollupCoverage
    ) -> None:
        self._scripts, self._rollups, self._coverage = scripts, rollups, coverage

    async def run(self) -> AsyncIterator[CounterDifference]:
        coverage = self._coverage
        for month in spans_between(RollupLevel.MONTH, coverage.from_ms, coverage.hours_ms):
            whole: GroupSums = {}
            for day in month.parts():
                hours = await sum_hours(self._scripts, day.starts_ms, day.ends_ms)
                for hour, sums in hours.items():
                    async for found in self._compare(hour, sums):
                        yield found
                in_day = total_of(hours.values())
                async for found in self._compare(day, in_day):
                    yield found
                add_sums(whole, in_day)
            async for found in self._compare(month, by_month(whole)):
                yield found

    async def _compare(
        self, span: RollupSpan, actual: GroupSums
    ) -> AsyncIterator[CounterDifference]:
        if not self._coverage.has(span):
            return
        for view, expected in split_by_view(actual).items():
            if view is RollupView.ATTRIBUTED and not await self._rollups.is_attributed(span):
                continue
            stored = {group: sums async for _, group, sums in self._rollups.rows([span], view)}
            for difference in _differences(span, view, stored, expected):
                yield difference


def _differences(
    span: RollupSpan, view: RollupView, stored: GroupSums, expected: GroupSums
) -> Iterator[CounterDifference]:
    starts = datetime.fromtimestamp(span.starts_ms / 1000, UTC)
    label = f"{span.level} {starts:%Y-%m-%dT%H}"
    for group in {**stored, **expected}:
        counted = stored.get(group, UsageSums())
        actual = expected.get(group, UsageSums())
        scope = f"{view} {'/'.join(name or '-' for name in group)}"
        for name in SUM_FIELDS:
            if getattr(counted, name) != getattr(actual, name):
                yield CounterDifference(
                    scope, label, name, getattr(counted, name), getattr(actual, name)
                )
