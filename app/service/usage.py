"""Use cases about usage: what is left of a caller's limits, and sums over the ledger."""

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from app.domain.limits import LimitSnapshot
from app.domain.principal import Principal
from app.domain.queries import NOBODY, UsageBucket, UsageQuery, UsageRow
from app.domain.rollups import (
    ATTRIBUTIONS,
    DIMENSIONS,
    LARGEST_FIRST,
    EntrySpan,
    Group,
    Rollups,
    RollupSpan,
    UsageSums,
    group_entry,
    plan_report,
    smallest_view,
    sum_entry,
)
from app.domain.single_flight import SingleFlight
from app.domain.team_bounds import TeamBounds

if TYPE_CHECKING:
    from app.domain.ports import Ledger

RECALL_S, MAX_RECALLED = 1.0, 1_000
"""How long the limits of a refused key are taken as known, and of how many keys."""
HOUSE_HIDES = frozenset({"user", "team", "key", *ATTRIBUTIONS})
"""What images beyond those asked for do not have: the deployment pays for them."""


class UsageReports:
    def __init__(
        self, ledger: "Ledger", rollups: Rollups, bounds: TeamBounds | None = None
    ) -> None:
        self._ledger, self._rollups, self._bounds = ledger, rollups, bounds
        self._told: OrderedDict[str, tuple[Principal, float, LimitSnapshot]] = OrderedDict()
        self._reads: SingleFlight[LimitSnapshot] = SingleFlight()

    def held_to(self, bounds: TeamBounds) -> "UsageReports":
        """What one team used."""
        return UsageReports(self._ledger, self._rollups, bounds)

    async def read_limits(self, principal: Principal) -> LimitSnapshot:
        return await self._ledger.read_limits(principal)

    async def recall_limits(self, principal: Principal) -> LimitSnapshot:
        """The same, up to a second old while the limits themselves stay: for refusals, of which
        there may be many."""
        if told := self._told.get(principal.key_id):
            asker, at_s, snapshot = told
            if asker.scopes == principal.scopes and time.monotonic() - at_s < RECALL_S:
                return snapshot
        return await self._reads.ask(principal.key_id, partial(self._read_and_keep, principal))

    async def _read_and_keep(self, principal: Principal) -> LimitSnapshot:
        snapshot = await self._ledger.read_limits(principal)
        self._told[principal.key_id] = principal, time.monotonic(), snapshot
        self._told.move_to_end(principal.key_id)
        if len(self._told) > MAX_RECALLED:
            self._told.popitem(last=False)
        return snapshot

    async def report(self, query: UsageQuery) -> tuple[UsageBucket, ...]:
        """Add up rollups, and entries where there is no rollup. Empty buckets are included."""
        if self._bounds is not None:
            query = replace(query, teams=self._bounds.narrow(query.teams))
        report = _Report(query)
        view = smallest_view(query.dimensions)
        levels = LARGEST_FIRST if "day" not in query.by else LARGEST_FIRST[1:]
        plan = list(plan_report(await self._rollups.coverage(), report.cuts(), levels))
        rollups = [span for span in plan if isinstance(span, RollupSpan)]
        reading = _Grouping(query, view.dimensions)
        async for span, group, sums in self._rollups.rows(rollups, view):
            report.add(span.starts_ms, reading, group, sums)
        reading = _Grouping(query, DIMENSIONS)
        for written in (span for span in plan if isinstance(span, EntrySpan)):
            async for entry in self._ledger.entries(written.starts_ms, written.ends_ms):
                report.add(entry.at_ms, reading, group_entry(entry), sum_entry(entry))
        return tuple(report.buckets())


class _Grouping:
    """How groups with these dimensions are filtered and grouped as a query asks."""

    def __init__(self, query: UsageQuery, dimensions: Sequence[str]) -> None:
        self._filters = [
            (dimensions.index(name), name in HOUSE_HIDES, allowed)
            for name, allowed in query.filters.items()
            if allowed
        ]
        asked = [name for name in DIMENSIONS if name in query.by]
        self._pick = itemgetter(*(dimensions.index(name) for name in asked)) if asked else None
        self._many = len(asked) > 1
        self._hidden = [index for index, name in enumerate(asked) if name in HOUSE_HIDES]

    def lets_through(self, group: Group, *, house: bool = False) -> bool:
        """Whether the query asks for the group, or (`house`) for its surplus."""
        return all(
            not (house and hidden) and (group[index] or NOBODY) in allowed
            for index, hidden, allowed in self._filters
        )

    def narrow(self, group: Group) -> Group:
        if self._pick is None:
            return ()
        return self._pick(group) if self._many else (self._pick(group),)

    def narrow_house(self, group: Group) -> Group:
        found = list(self.narrow(group))
        for index in self._hidden:
            found[index] = None
        return tuple(found)


class _Report:
    """The rows of each bucket of time as they are added up."""

    def __init__(self, query: UsageQuery) -> None:
        self._query = query
        self._width = query.bucket_ms or max(query.until_ms - query.since_ms, 1)
        self._by = [name for name in DIMENSIONS if name in query.by]
        self._sums: dict[int, dict[Group, UsageSums]] = {}

    def cuts(self) -> Iterator[tuple[int, int]]:
        query = self._query
        for start in range(query.since_ms, query.until_ms, self._width):
            yield start, min(start + self._width, query.until_ms)

    def add(self, at_ms: int, reading: _Grouping, group: Group, sums: UsageSums) -> None:
        rows = self._sums.setdefault((at_ms - self._query.since_ms) // self._width, {})
        if sums.entries > sums.releases and reading.lets_through(group):
            own = rows.setdefault(reading.narrow(group), UsageSums())
            own.add(_without_surplus(sums) if sums.surplus else sums)
        if sums.surplus and reading.lets_through(group, house=True):
            house = rows.setdefault(reading.narrow_house(group), UsageSums())
            house.add(
                UsageSums(
                    surplus=sums.surplus,
                    surplus_micros=sums.surplus_micros,
                    surplus_unpriced=sums.surplus_unpriced,
                )
            )

    def buckets(self) -> Iterator[UsageBucket]:
        for index, (starts_ms, ends_ms) in enumerate(self.cuts()):
            rows = self._sums.get(index, {}).items()
            yield UsageBucket(starts_ms, ends_ms, tuple(self._row(*row) for row in rows))

    def _row(self, group: Group, sums: UsageSums) -> UsageRow:
        unknown = sums.unpriced or sums.surplus_unpriced
        return UsageRow(
            images=sums.images + sums.surplus,
            delivered=sums.delivered,
            presumed=sums.presumed,
            surplus=sums.surplus,
            requests=sums.requests,
            micros=None if unknown else sums.micros + sums.surplus_micros,
            **dict(zip(self._by, group, strict=True)),
        )


def _without_surplus(sums: UsageSums) -> UsageSums:
    return replace(sums, surplus=0, surplus_micros=0, surplus_unpriced=0)


def total_row(rows: Sequence[UsageRow]) -> UsageRow:
    """What all rows of a report add up to."""
    unknown = any(row.micros is None for row in rows)
    return UsageRow(
        images=sum(row.images for row in rows),
        delivered=sum(row.delivered for row in rows),
        presumed=sum(row.presumed for row in rows),
        surplus=sum(row.surplus for row in rows),
        requests=sum(row.requests for row in rows),
        micros=None if unknown else sum(row.micros or 0 for row in rows),
    )
