"""Rollups: sums over the ledger's entries of one hour, day or month, from which reports are made.

Hours, days and months are UTC's and count by the time an entry was written. A rollup is made once,
from entries that never change any more, and never changes either (decision 37).
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from app.domain.ledger import Entry, EntryKind

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class RollupLevel(StrEnum):
    """How long a rollup is; its days and months hold what its hours hold."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


RETENTION_MS = {
    RollupLevel.HOUR: 40 * DAY_MS,
    RollupLevel.DAY: 400 * DAY_MS,
    RollupLevel.MONTH: 3660 * DAY_MS,
}
"""How long after its end a rollup is kept. Where it is gone, reports read the entries."""
FINER = {RollupLevel.DAY: RollupLevel.HOUR, RollupLevel.MONTH: RollupLevel.DAY}
"""What the rollups of a level are made from."""


@dataclass(frozen=True, slots=True, order=True)
class RollupSpan:
    """One hour, day or month. Times are Unix milliseconds, `ends_ms` exclusive."""

    level: RollupLevel
    starts_ms: int
    ends_ms: int

    @classmethod
    def around(cls, level: RollupLevel, at_ms: int) -> "RollupSpan":
        """The span of that level that holds a moment."""
        if level is not RollupLevel.MONTH:
            width = HOUR_MS if level is RollupLevel.HOUR else DAY_MS
            starts_ms = at_ms - at_ms % width
            return cls(level, starts_ms, starts_ms + width)
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
        following = moment.year + moment.month // 12, moment.month % 12 + 1
        return cls(level, _month_starts_ms(moment.year, moment.month), _month_starts_ms(*following))

    def parts(self) -> list["RollupSpan"]:
        """The finer spans that a day or a month consists of."""
        return spans_between(FINER[self.level], self.starts_ms, self.ends_ms)

    def expires_ms(self) -> int:
        return self.ends_ms + RETENTION_MS[self.level]


def spans_between(level: RollupLevel, since_ms: int, until_ms: int) -> list[RollupSpan]:
    """The spans of a level that hold all of that time."""
    spans, at_ms = [], since_ms
    while at_ms < until_ms:
        spans.append(RollupSpan.around(level, at_ms))
        at_ms = spans[-1].ends_ms
    return spans


def _month_starts_ms(year: int, month: int) -> int:
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp() * 1000)


@dataclass(slots=True)
class UsageSums:
    """What some entries add up to. `micros` leave out images without a price, which `unpriced`
    counts by entries; the surplus is the house's, and counted apart. `releases` are entries that
    charge nothing because their job was free."""

    entries: int = 0
    requests: int = 0
    images: int = 0
    micros: int = 0
    delivered: int = 0
    presumed: int = 0
    unpriced: int = 0
    surplus: int = 0
    surplus_micros: int = 0
    surplus_unpriced: int = 0
    releases: int = 0

    def add(self, other: "UsageSums") -> None:
        # Spelled out: a report adds up thousands of these.
        self.entries += other.entries
        self.requests += other.requests
        self.images += other.images
        self.micros += other.micros
        self.delivered += other.delivered
        self.presumed += other.presumed
        self.unpriced += other.unpriced
        self.surplus += other.surplus
        self.surplus_micros += other.surplus_micros
        self.surplus_unpriced += other.surplus_unpriced
        self.releases += other.releases

    @property
    def row(self) -> list[int]:
        """In the order of the fields, without zeros at the end."""
        numbers = [getattr(self, name) for name in SUM_FIELDS]
        while numbers and numbers[-1] == 0:
            numbers.pop()
        return numbers


SUM_FIELDS = tuple(field.name for field in fields(UsageSums))

KNOWN_OF_ALL = ("day", "user", "team", "key", "model", "size", "quality")
ATTRIBUTIONS = ("project", "tag", "end_user")
DIMENSIONS = (*KNOWN_OF_ALL, *ATTRIBUTIONS)
"""What every hour is grouped by. `day` is the day the job is counted in; in a month's rollup it is
that month. What callers say for whom and what a job is comes last; its values are bounded where it
is written, and most jobs have none."""
NOT_ATTRIBUTED: tuple[None, ...] = (None,) * len(ATTRIBUTIONS)
Group = tuple[str | None, ...]


class RollupView(StrEnum):
    """A rollup is kept grouped by everything that every job has, coarser for reports that ask for
    less, and, where some job says for whom or what it is, by that too."""

    CALLERS = "callers"
    PICTURES = "pictures"
    ALL = "all"
    ATTRIBUTED = "attributed"

    @property
    def dimensions(self) -> tuple[str, ...]:
        return VIEW_DIMENSIONS[self]

    def narrow(self, group: Group) -> Group:
        """A group of `DIMENSIONS` as this view has it."""
        return tuple(group[index] for index in VIEW_INDEXES[self])


VIEW_DIMENSIONS = {
    RollupView.CALLERS: ("day", "user", "team"),
    RollupView.PICTURES: ("day", "model", "size", "quality"),
    RollupView.ALL: KNOWN_OF_ALL,
    RollupView.ATTRIBUTED: DIMENSIONS,
}
VIEW_INDEXES = {
    view: tuple(DIMENSIONS.index(name) for name in names) for view, names in VIEW_DIMENSIONS.items()
}


def smallest_view(dimensions: Iterable[str]) -> RollupView:
    """The coarsest view that tells these dimensions apart."""
    asked = set(dimensions)
    views = (RollupView.PICTURES, RollupView.CALLERS, RollupView.ALL, RollupView.ATTRIBUTED)
    return next(view for view in views if asked <= set(view.dimensions))


def sum_entry(entry: Entry) -> UsageSums:
    """One entry as sums."""
    released = entry.kind is EntryKind.RELEASE
    return UsageSums(
        entries=1,
        requests=int(entry.kind is EntryKind.SETTLE),
        images=entry.images,
        micros=entry.micros or 0,
        delivered=entry.delivered,
        presumed=entry.presumed,
        unpriced=int(entry.micros is None and entry.images != 0),
        surplus=entry.surplus,
        surplus_micros=entry.surplus_micros,
        surplus_unpriced=int(entry.micros is None and entry.surplus != 0),
        releases=int(released),
    )


def group_entry(entry: Entry) -> Group:
    known = tuple(getattr(entry, name) for name in KNOWN_OF_ALL)
    said = entry.attribution
    return known + (NOT_ATTRIBUTED if said is None else (said.project, said.tag, said.end_user))


@dataclass(frozen=True, slots=True)
class RollupCoverage:
    """Up to where rollups are whole, Unix milliseconds: what is written later is in entries alone.

    The ledger has no entry before `from_ms`. All are 0 while there are no rollups. `now_ms` is the
    store's clock. No entry before `attributed_ms` has an attribution: they were written by versions
    that knew none."""

    now_ms: int
    from_ms: int = 0
    hours_ms: int = 0
    days_ms: int = 0
    months_ms: int = 0
    attributed_ms: int = 0

    def until_ms(self, level: RollupLevel) -> int:
        return {
            RollupLevel.HOUR: self.hours_ms,
            RollupLevel.DAY: self.days_ms,
            RollupLevel.MONTH: self.months_ms,
        }[level]

    def advanced(self, span: RollupSpan) -> "RollupCoverage":
        """The same once the span is rolled up, too."""
        return replace(self, **{f"{span.level}s_ms": span.ends_ms})

    def has(self, span: RollupSpan) -> bool:
        """Whether the span's rollup is whole and still kept."""
        return span.ends_ms <= self.until_ms(span.level) and span.expires_ms() > self.now_ms

    def largest(
        self, starts_ms: int, ends_ms: int, levels: Sequence[RollupLevel]
    ) -> RollupSpan | None:
        """The longest rollup that begins there and ends by then."""
        for level in levels:
            span = RollupSpan.around(level, starts_ms)
            if span.starts_ms == starts_ms and span.ends_ms <= ends_ms and self.has(span):
                return span
        return None


LARGEST_FIRST = (RollupLevel.MONTH, RollupLevel.DAY, RollupLevel.HOUR)


@dataclass(frozen=True, slots=True)
class EntrySpan:
    """Entries written in this time have to be read one by one."""

    starts_ms: int
    ends_ms: int


def plan_report(
    coverage: RollupCoverage,
    cuts: Iterable[tuple[int, int]],
    levels: Sequence[RollupLevel] = LARGEST_FIRST,
) -> Iterator[RollupSpan | EntrySpan]:
    """How to cover time spans that follow each other: by the largest rollups that lie within one of
    them, and by entries where there is none. In order; entries that follow each other are one."""
    reading: EntrySpan | None = None
    for starts_ms, ends_ms in cuts:
        at_ms = max(starts_ms, coverage.from_ms)
        while at_ms < ends_ms:
            span = coverage.largest(at_ms, ends_ms, levels)
            if span is not None:
                if reading:
                    yield reading
                    reading = None
                yield span
                at_ms = span.ends_ms
                continue
            later = RollupSpan.around(RollupLevel.HOUR, at_ms).ends_ms
            upto = ends_ms if at_ms >= coverage.hours_ms else min(later, ends_ms)
            reading = EntrySpan(reading.starts_ms if reading else at_ms, upto)
            at_ms = upto
    if reading:
        yield reading


class Rollups(Protocol):
    """Reading rollups. Closed: raises `LedgerUnavailable`."""

    async def coverage(self) -> RollupCoverage: ...

    def rows(
        self, spans: Sequence[RollupSpan], view: RollupView
    ) -> AsyncIterator[tuple[RollupSpan, Group, UsageSums]]:
        """What the rollups of these spans hold, in no order."""
