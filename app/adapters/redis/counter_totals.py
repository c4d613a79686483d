"""What the counters of a window should say: sums of entries, or of their rollups, and open jobs."""

from collections import defaultdict
from dataclasses import dataclass, field

from app.adapters.redis.codec import Record
from app.adapters.redis.rollups import RedisRollups
from app.adapters.redis.scope_set import HOUSE_SCOPE_KEY, scope_keys_of
from app.domain.rollups import (
    DAY_MS,
    DIMENSIONS,
    Group,
    RollupCoverage,
    RollupLevel,
    RollupView,
    UsageSums,
    spans_between,
)

COUNTER_FIELDS = ("images", "micros", "held_images", "held_micros")
ZERO_TOTALS = (0, 0, 0, 0)
DAY_WINDOWS_MS = 45 * DAY_MS
"""Windows of days are kept a little shorter than this."""
MONTH_LABEL = len("2026-11")


class CounterTotals:
    """Scope key -> images, micros, held images, held micros. Records are summed as stored, since an
    audit reads all of them."""

    def __init__(self) -> None:
        self.by_scope_key: dict[str, list[int]] = defaultdict(lambda: list(ZERO_TOTALS))

    def add(self, scope_key: str, *amounts: int) -> None:
        sums = self.by_scope_key[scope_key]
        for index, amount in enumerate(amounts):
            sums[index] += amount

    def add_charge(
        self, who: tuple[str, str, str | None], images: int, micros: int, *surplus: int
    ) -> None:
        """Add what was charged to each scope that a key, user and team are counted in. Images and
        micros of the `surplus` are the house's."""
        for scope_key in scope_keys_of(*who):
            if scope_key == HOUSE_SCOPE_KEY:
                self.add(scope_key, images + surplus[0], micros + surplus[1])
            else:
                self.add(scope_key, images, micros)

    def add_entry(self, row: Record) -> None:
        """Add what an entry charged."""
        who = row["key"], row["user"], row.get("team")
        surplus = int(row["surplus"]), int(row.get("surplus_micros", 0))
        self.add_charge(who, int(row["images"]), int(row.get("micros", 0)), *surplus)

    def add_rollup(self, group: Group, sums: UsageSums) -> None:
        """Add what the entries of a group charged."""
        found = dict(zip(DIMENSIONS, group, strict=False))
        who = found["key"] or "", found["user"] or "", found["team"]
        self.add_charge(who, sums.images, sums.micros, sums.surplus, sums.surplus_micros)

    def add_open_job(self, job: Record) -> None:
        """Add what an open job holds in each scope it is counted in."""
        images = int(job["n"])
        micros = images * int(job.get("unit", 0))
        for scope_key in scope_keys_of(job["key"], job["user"], job.get("team")):
            self.add(scope_key, 0, 0, images, micros)


@dataclass(slots=True)
class WindowTotals:
    """By label of a window; `entries` is how many were added up."""

    by_label: dict[str, CounterTotals] = field(default_factory=lambda: defaultdict(CounterTotals))
    entries: int = 0


async def sum_windows(rollups: RedisRollups, coverage: RollupCoverage) -> WindowTotals:
    """What the entries of all hours that are rolled up add up to in each window.

    Months come from the longest rollups, and days from those of days and hours, as far back as
    windows of days are kept.
    """
    totals = WindowTotals()
    since_ms = {
        RollupLevel.MONTH: coverage.from_ms,
        RollupLevel.DAY: coverage.months_ms,
        RollupLevel.HOUR: coverage.days_ms,
    }
    for level, first_ms in since_ms.items():
        days_since = coverage.days_ms if level is RollupLevel.HOUR else _first_day_ms(coverage)
        starts = first_ms if level is RollupLevel.MONTH else min(first_ms, days_since)
        spans = spans_between(level, starts, coverage.until_ms(level))
        async for span, group, sums in rollups.rows(spans, RollupView.ALL):
            label = group[0] or ""
            if span.starts_ms >= first_ms:
                totals.entries += sums.entries
                totals.by_label[label[:MONTH_LABEL]].add_rollup(group, sums)
            if len(label) > MONTH_LABEL:
                totals.by_label[label].add_rollup(group, sums)
    return totals


def _first_day_ms(coverage: RollupCoverage) -> int:
    return max(coverage.from_ms, coverage.now_ms - coverage.now_ms % DAY_MS - DAY_WINDOWS_MS)
