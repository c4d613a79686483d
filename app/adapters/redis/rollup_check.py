"""Compares every rollup that is kept with the entries it was made from, day by day."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from app.adapters.redis.closed_months import StoredMonth, read_months
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


@dataclass(frozen=True, slots=True)
class RollupFindings:
    """`unread` are months whose entries are in files on other machines."""

    differences: list[CounterDifference]
    unread: list[str]


async def find_rollup_differences(scripts: LedgerScripts, *, files: bool) -> RollupFindings:
    """Reads every entry that can be read here; without `files` of closed months only those in the
    store. Raises `LedgerUnavailable`."""
    rollups = RedisRollups(scripts)
    state = await rollups.state()
    check = _RollupCheck(scripts, rollups, state.coverage, files=files)
    differences = [found async for found in check.run()]
    # A ledger that was rebuilt meanwhile has other entries.
    same = (await rollups.state()).epoch == state.epoch
    return RollupFindings(differences if same else [], check.unread)


class _RollupCheck:
    def __init__(
        self,
        scripts: LedgerScripts,
        rollups: RedisRollups,
        coverage: RollupCoverage,
        *,
        files: bool,
    ) -> None:
        self._scripts, self._rollups, self._coverage = scripts, rollups, coverage
        self._files = files
        self.unread: list[str] = []

    async def run(self) -> AsyncIterator[CounterDifference]:
        coverage = self._coverage
        months = await read_months(self._scripts)
        moved = {stored.month.starts_ms: stored for stored in months.moved}
        for month in spans_between(RollupLevel.MONTH, coverage.from_ms, coverage.hours_ms):
            spans = self._spans(month, moved.get(month.starts_ms))
            if not spans:
                continue
            whole: GroupSums = {}
            for span in spans:
                hours = await sum_hours(self._scripts, span.starts_ms, span.ends_ms)
                async for found in self._compare_days(month, hours):
                    yield found
                add_sums(whole, total_of(hours.values()))
            async for found in self._compare(month, by_month(whole)):
                yield found

    def _spans(self, month: RollupSpan, stored: StoredMonth | None) -> list[RollupSpan]:
        """By what to read a month: a file at once, since each time it is read from its beginning;
        by nothing where it is not to be read, or cannot."""
        if stored is None:
            return month.parts()
        if self._files and self._scripts.months.holds(stored.month):
            return [month]
        self.unread += [stored.month.label] if self._files else []
        return []

    async def _compare_days(
        self, month: RollupSpan, hours: Mapping[RollupSpan, GroupSums]
    ) -> AsyncIterator[CounterDifference]:
        """Those days of the month that these hours are of, and the hours."""
        for day in month.parts():
            within = [hours[hour] for hour in day.parts() if hour in hours]
            if not within:
                continue
            for hour in day.parts():
                async for found in self._compare(hour, hours[hour]):
                    yield found
            async for found in self._compare(day, total_of(within)):
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
