"""What all entries of a rebuilt ledger charge, added up in one pass: there may be a million."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import orjson

from app.adapters.redis.codec import Record, unflatten
from app.adapters.redis.counter_totals import CounterTotals

ChargedGroup = tuple[str, str, str, str, str | None]
"""Day, month, key, user and team."""


@dataclass(slots=True)
class Charges:
    """By group: images, micros, surplus images and their micros. `ended` are those of the given
    jobs that have an entry of their end."""

    by_group: dict[ChargedGroup, list[int]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, entries: Iterable[bytes], jobs: Collection[str]) -> "Charges":
        """`entries` are their fields as JSON."""
        charges = cls()
        for fields in entries:
            row = unflatten(orjson.loads(fields))
            if row["job"] in jobs and row["kind"] != "adjust":
                charges.ended.add(row["job"])
            charges.add(row)
        return charges

    def add(self, row: Record) -> None:
        """Add what an entry charged."""
        group = row["day"], row["month"], row["key"], row["user"], row.get("team")
        sums = self.by_group.setdefault(group, [0, 0, 0, 0])
        sums[0] += int(row["images"])
        sums[1] += int(row.get("micros", 0))
        sums[2] += int(row["surplus"])
        sums[3] += int(row.get("surplus_micros", 0))

    def totals(self) -> dict[str, CounterTotals]:
        """What the counters of each window should say, without what open jobs hold."""
        totals: dict[str, CounterTotals] = {}
        for (day, month, *scopes), sums in self.by_group.items():
            for label in (day, month):
                key, user, team = scopes
                window = totals.setdefault(label, CounterTotals())
                window.add_charge((key or "", user or "", team), *sums)
        return totals
