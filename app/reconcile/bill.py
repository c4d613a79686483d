"""The values of a reconciliation: the provider's calls, the ledger's charges, and their pairs."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from app.domain.ledger import Entry, EntryKind

UnitPrice = Callable[[Entry], int | None]
"""Micro-units of one image like those of an entry, as the catalog has it today."""


@dataclass(frozen=True, slots=True)
class BillLine:
    """One line of the provider's bill; a refund has a negative amount.

    `number` is its line in the file, `call` the provider's id as `encode_call_id` writes it, if
    there is one, `at_ms` Unix milliseconds, `images` None where the bill does not count them.
    """

    number: int
    at_ms: int
    model: str
    micros: int
    call: str | None = None
    images: int | None = None


@dataclass(frozen=True, slots=True)
class BilledCall:
    """All that the bill says about one call: what it cost and what was given back."""

    lines: tuple[BillLine, ...]

    @property
    def id(self) -> str | None:
        return self.lines[0].call

    @property
    def at_ms(self) -> int:
        return self.lines[0].at_ms

    @property
    def model(self) -> str:
        return self.lines[0].model

    @property
    def micros(self) -> int:
        return sum(line.micros for line in self.lines)

    def images(self, unit_micros: int | None = None) -> int | None:
        """As the bill counts them, else its amount by the price `unit_micros`; None when neither
        can."""
        counts = [line.images for line in self.lines if line.images is not None]
        if len(counts) == len(self.lines):
            return sum(counts)
        if not unit_micros or self.micros % unit_micros:
            return None
        return self.micros // unit_micros


@dataclass(frozen=True, slots=True)
class JobCharge:
    """What the ledger holds against one job: its own entry and every correction of it.

    `images` and `micros` include the surplus that the deployment pays; `micros` is None where the
    job had no price, `unit_micros` is what one image of it costs. `presumed` images are charged
    without evidence; `newest` is the id of the latest entry.
    """

    entry: Entry
    images: int
    micros: int | None
    presumed: int
    unit_micros: int | None
    newest: str

    @property
    def sent_ms(self) -> int:
        """When its calls were sent; for entries without that, when they were written."""
        entry = self.entry
        return entry.at_ms if entry.dispatched_ms is None else entry.dispatched_ms

    @property
    def chargeable_images(self) -> int:
        """How many more images its user may be charged (I7: never more than were asked)."""
        return max((self.entry.asked or 0) - self.images + self.entry.surplus, 0)

    def with_adjustment(self, entry: Entry) -> "JobCharge":
        micros = None if self.micros is None else self.micros + (entry.micros or 0)
        return replace(
            self,
            images=self.images + entry.images,
            micros=micros,
            presumed=self.presumed + entry.presumed,
            newest=entry.id,
        )


def group_by_call(lines: Iterable[BillLine]) -> list[BilledCall]:
    """The bill's lines by call; a line without an id is a call of its own."""
    named: dict[str, list[BillLine]] = {}
    calls: list[BilledCall] = []
    for line in lines:
        if line.call is None:
            calls.append(BilledCall((line,)))
        else:
            named.setdefault(line.call, []).append(line)
    return [*calls, *(BilledCall(tuple(of_one)) for of_one in named.values())]


class JobCharges:
    """The ledger by job, from its entries in order. Corrections without a job are not here: no
    line of the bill can be theirs."""

    def __init__(self, price: UnitPrice) -> None:
        self._price = price
        self._by_job: dict[str, JobCharge] = {}

    def add_entry(self, entry: Entry) -> None:
        known = self._by_job.get(entry.job)
        if entry.kind is EntryKind.DELIVERY:
            return
        if entry.kind is not EntryKind.ADJUST:
            self._by_job[entry.job] = self._opened(entry)
        elif known is not None:
            self._by_job[entry.job] = known.with_adjustment(entry)

    def __iter__(self) -> Iterator[JobCharge]:
        return iter(self._by_job.values())

    def _opened(self, entry: Entry) -> JobCharge:
        unit_micros = self._price(entry)
        if entry.images and entry.micros is not None:
            unit_micros = entry.micros // entry.images
        micros = None if entry.micros is None else entry.micros + entry.surplus * (unit_micros or 0)
        images = entry.images + entry.surplus
        return JobCharge(entry, images, micros, entry.presumed, unit_micros, entry.id)


class BillFinding(StrEnum):
    MATCHED = "matched"
    MISSING = "missing"
    """Billed by the provider and not charged here."""
    SURPLUS = "surplus"
    """Charged here and not on the bill."""
    MISMATCHED = "mismatched"
    """On both sides with another number of images or another amount."""
    UNDECIDED = "undecided"
    """Charged here so near an end of the bill that its line may stand in the next one."""


class MatchedBy(StrEnum):
    ID = "id"
    TIME = "model, amount and time"


@dataclass(frozen=True, slots=True)
class BillPeriod:
    """The time a bill speaks for, in Unix milliseconds, `until_ms` exclusive. `within_ms` is how
    far a line's time may be from its call's."""

    since_ms: int
    until_ms: int
    within_ms: int

    def covers(self, at_ms: int) -> bool:
        """Whether a call of that moment must be on the bill."""
        return self.since_ms + self.within_ms <= at_ms <= self.until_ms - self.within_ms

    def contains(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms < self.until_ms


@dataclass(frozen=True, slots=True)
class ReconciledItem:
    """What the bill and the ledger say about the same work; one of the sides may be missing.

    `adjustment` images, added to the ledger, would make the two agree; `advice` says why Koi does
    not decide that. `entered` is the id of the entry that corrected it.
    """

    finding: BillFinding
    calls: tuple[BilledCall, ...] = ()
    charge: JobCharge | None = None
    matched_by: MatchedBy | None = None
    adjustment: int = 0
    advice: str = ""
    entered: str | None = None

    @property
    def differs(self) -> bool:
        agreed = (BillFinding.MATCHED, BillFinding.UNDECIDED)
        return self.finding not in agreed and self.entered is None

    @property
    def lines(self) -> tuple[BillLine, ...]:
        return tuple(line for call in self.calls for line in call.lines)

    @property
    def billed_micros(self) -> int:
        return sum(call.micros for call in self.calls)

    @property
    def billed_images(self) -> int | None:
        """None when the bill neither counts them nor can be divided by the job's price."""
        unit_micros = None if self.charge is None else self.charge.unit_micros
        counts = [call.images(unit_micros) for call in self.calls]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None
