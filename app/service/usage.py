"""Use cases about usage: what is left of a caller's limits, and sums over the ledger."""

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.ledger import Entry, EntryKind
from app.domain.limits import LimitSnapshot
from app.domain.principal import Principal
from app.domain.queries import UsageBucket, UsageQuery, UsageRow

if TYPE_CHECKING:
    from app.domain.ports import Ledger


class UsageReports:
    def __init__(self, ledger: "Ledger") -> None:
        self._ledger = ledger

    async def read_limits(self, principal: Principal) -> LimitSnapshot:
        return await self._ledger.read_limits(principal)

    async def report(self, query: UsageQuery) -> tuple[UsageBucket, ...]:
        """Add up the ledger's entries. Empty buckets are included."""
        width = query.bucket_ms or max(query.until_ms - query.since_ms, 1)
        sums: dict[int, dict[UsageRow, UsageRow]] = defaultdict(dict)
        async for entry in self._ledger.entries(query.since_ms, query.until_ms):
            rows = sums[(entry.at_ms - query.since_ms) // width]
            if entry.kind is not EntryKind.RELEASE and _asked_for(entry, query):
                group = _grouped(entry, query.by)
                rows[group] = _added(rows.get(group, group), entry)
            if entry.surplus and _asked_for(entry, query, house=True):
                group = replace(_grouped(entry, query.by), user=None, team=None, key=None)
                rows[group] = _with_surplus(rows.get(group, group), entry)
        spans = range(query.since_ms, query.until_ms, width)
        return tuple(
            UsageBucket(start, min(start + width, query.until_ms), tuple(sums[index].values()))
            for index, start in enumerate(spans)
        )


def _asked_for(entry: Entry, query: UsageQuery, *, house: bool = False) -> bool:
    """Whether the query includes this entry, or (`house`) its surplus, which the house pays."""
    filters = (
        (query.users, None if house else entry.user),
        (query.teams, None if house else entry.team),
        (query.keys, None if house else entry.key),
        (query.models, entry.model),
        (query.sizes, entry.size),
    )
    return all(not allowed or value in allowed for allowed, value in filters)


def _grouped(entry: Entry, by: tuple[str, ...]) -> UsageRow:
    return UsageRow(
        user=entry.user if "user" in by else None,
        team=entry.team if "team" in by else None,
        key=entry.key if "key" in by else None,
        model=entry.model if "model" in by else None,
        size=entry.size if "size" in by else None,
        day=entry.day if "day" in by else None,
    )


def _added(row: UsageRow, entry: Entry) -> UsageRow:
    unknown = row.micros is None or (entry.micros is None and entry.images != 0)
    return replace(
        row,
        images=row.images + entry.images,
        delivered=row.delivered + entry.delivered,
        presumed=row.presumed + entry.presumed,
        requests=row.requests + (1 if entry.kind is EntryKind.SETTLE else 0),
        micros=None if unknown else (row.micros or 0) + (entry.micros or 0),
    )


def _with_surplus(row: UsageRow, entry: Entry) -> UsageRow:
    unknown = row.micros is None or entry.micros is None
    return replace(
        row,
        images=row.images + entry.surplus,
        surplus=row.surplus + entry.surplus,
        micros=None if unknown else (row.micros or 0) + entry.surplus_micros,
    )
