"""Use cases around what was used: a caller's standing, and sums over the ledger."""

from collections import defaultdict
from dataclasses import replace

from app.domain.ledger import Entry, EntryKind
from app.domain.limits import Standing
from app.domain.ports import Ledger
from app.domain.principal import Principal
from app.domain.usage import UsageBucket, UsageQuestion, UsageRow


class Usage:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def standing(self, principal: Principal) -> Standing:
        return await self._ledger.standing(principal)

    async def report(self, question: UsageQuestion) -> tuple[UsageBucket, ...]:
        """Add up the ledger. Every bucket of the span is there, empty ones too."""
        width = question.bucket_ms or max(question.until_ms - question.since_ms, 1)
        sums: dict[int, dict[UsageRow, UsageRow]] = defaultdict(dict)
        async for entry in self._ledger.entries(question.since_ms, question.until_ms):
            rows = sums[(entry.at_ms - question.since_ms) // width]
            if entry.kind is not EntryKind.RELEASE and _asked_for(entry, question):
                group = _grouped(entry, question.by)
                rows[group] = _added(rows.get(group, group), entry)
            if entry.surplus and _asked_for(entry, question, house=True):
                group = replace(_grouped(entry, question.by), user=None, team=None, key=None)
                rows[group] = _with_surplus(rows.get(group, group), entry)
        spans = range(question.since_ms, question.until_ms, width)
        return tuple(
            UsageBucket(start, min(start + width, question.until_ms), tuple(sums[index].values()))
            for index, start in enumerate(spans)
        )


def _asked_for(entry: Entry, question: UsageQuestion, *, house: bool = False) -> bool:
    """Whether the question is about this entry, or about what the house pays for in it."""
    filters = (
        (question.users, None if house else entry.user),
        (question.teams, None if house else entry.team),
        (question.keys, None if house else entry.key),
        (question.models, entry.model),
        (question.sizes, entry.size),
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
