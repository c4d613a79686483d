"""The report of a reconciliation: totals by finding, the differences, and whether to trust it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.domain.calendar import format_time
from app.domain.money import money_record
from app.reconcile.bill import BillFinding, BillPeriod, MatchedBy, ReconciledItem
from app.reconcile.csv_file import UnreadableLine

NO_JOB = (
    "No line of this bill belongs to a job of this ledger; is it the bill of another key? "
    "Nothing is corrected."
)
NO_LINE = "None of its lines was asked for. Nothing is corrected."
NO_ID = "None of its ids is known here: it was matched by time alone. Nothing is corrected."
CLOCK_OFF = (
    "Its times are off by more than --within; is the bill in another time zone than KOI_TIMEZONE? "
    "Nothing is corrected."
)
UNCERTAIN = (CLOCK_OFF, NO_ID, NO_JOB)
"""With these nothing is known to agree, whatever the pairs say."""


@dataclass(frozen=True, slots=True)
class FindingTotals:
    """One finding in figures; `uncounted` lines say nothing about their number of images, and
    nobody knows what `unpriced` jobs were charged: `charged_micros` is None with them."""

    lines: int
    jobs: int
    billed_images: int
    charged_images: int
    billed_micros: int
    charged_micros: int | None
    uncounted: int
    unpriced: int


@dataclass
class BillReport:
    """`items` change while corrections are entered; `skipped` counts the lines that the
    options leave out."""

    name: str
    period: BillPeriod
    items: list[ReconciledItem]
    unreadable: Sequence[UnreadableLine]
    skipped: int

    @property
    def differences(self) -> list[ReconciledItem]:
        return [item for item in self.items if item.finding is not BillFinding.MATCHED]

    @property
    def differs(self) -> bool:
        uncertain = bool(self.unreadable) or self.distrust_reason in UNCERTAIN
        return uncertain or any(item.differs for item in self.items)

    @property
    def may_correct(self) -> bool:
        return not self.unreadable and self.distrust_reason is None

    @property
    def open_adjustments(self) -> int:
        return sum(1 for item in self.items if item.adjustment and item.entered is None)

    @property
    def entered(self) -> int:
        return sum(1 for item in self.items if item.entered is not None)

    def matched_by(self, matched_by: MatchedBy) -> list[ReconciledItem]:
        return [item for item in self.items if item.matched_by is matched_by]

    @cached_property
    def distrust_reason(self) -> str | None:
        """Why this bill cannot be trusted to correct anything."""
        known = [item for item in self.items if item.calls and item.charge is not None]
        if not known:
            if any(item.calls for item in self.items):
                return NO_JOB
            return NO_LINE if self.skipped else None
        if all(item.matched_by is MatchedBy.TIME for item in known) and any(
            call_ids(item) for item in known
        ):
            return NO_ID
        middle = sorted(map(_clock_offset_ms, known))[len(known) // 2]
        return CLOCK_OFF if abs(middle) > self.period.within_ms else None

    def totals(self, finding: BillFinding) -> FindingTotals:
        return _total([item for item in self.items if item.finding is finding])


def call_ids(item: ReconciledItem) -> str:
    """The provider's ids as on the bill, else as in the provider's answers."""
    if item.calls or item.charge is None:
        return " ".join(call.id for call in item.calls if call.id is not None)
    return " ".join(item.charge.entry.calls)


def describe_report(report: BillReport, currency: str) -> dict[str, Any]:
    """Everything, as JSON for a script or the console."""
    sums = {
        finding.value: _describe_totals(report.totals(finding), currency) for finding in BillFinding
    }
    return {
        "since": format_time(report.period.since_ms),
        "until": format_time(report.period.until_ms),
        "agrees": not report.differs,
        **sums,
        "unreadable": [
            {"line": line.number, "column": line.heading, "why": line.why}
            for line in report.unreadable
        ],
        "not_asked_for": report.skipped,
        "matched_by_time": [
            _describe_item(item, currency) for item in report.matched_by(MatchedBy.TIME)
        ],
        "differences": [_describe_item(item, currency) for item in report.differences],
        "refused": report.distrust_reason,
    }


def _clock_offset_ms(item: ReconciledItem) -> int:
    """How much later the bill has a call than the ledger, which knows when it began and ended."""
    assert item.charge is not None
    at_ms = item.calls[0].at_ms
    return min(at_ms - item.charge.sent_ms, 0) + max(at_ms - item.charge.entry.at_ms, 0)


def _total(items: Sequence[ReconciledItem]) -> FindingTotals:
    billed = [item.billed_images for item in items]
    charges = [item.charge for item in items if item.charge is not None]
    unpriced = sum(1 for charge in charges if charge.micros is None and charge.images)
    return FindingTotals(
        lines=sum(len(item.lines) for item in items),
        jobs=len(charges),
        billed_images=sum(images or 0 for images in billed),
        charged_images=sum(charge.images for charge in charges),
        billed_micros=sum(item.billed_micros for item in items),
        charged_micros=None if unpriced else sum(charge.micros or 0 for charge in charges),
        uncounted=sum(
            len(item.lines) for item, images in zip(items, billed, strict=True) if images is None
        ),
        unpriced=unpriced,
    )


def _describe_totals(found: FindingTotals, currency: str) -> dict[str, Any]:
    return {
        "lines": found.lines,
        "jobs": found.jobs,
        "images_billed": found.billed_images,
        "images_charged": found.charged_images,
        "billed": money_record(found.billed_micros, currency),
        "charged": money_record(found.charged_micros, currency),
        "lines_without_images": found.uncounted,
        "jobs_without_price": found.unpriced,
    }


def _describe_item(item: ReconciledItem, currency: str) -> dict[str, Any]:
    charge = item.charge
    return {
        "finding": item.finding,
        "how": item.matched_by,
        "lines": [line.number for line in item.lines],
        "calls": [call.id for call in item.calls],
        "job": None if charge is None else charge.entry.job,
        "user": None if charge is None else charge.entry.user,
        "model": item.calls[0].model if charge is None else charge.entry.model,
        "images_billed": item.billed_images,
        "images_charged": 0 if charge is None else charge.images,
        "billed": money_record(item.billed_micros, currency),
        "charged": money_record(0 if charge is None else charge.micros, currency),
        "fix": item.adjustment,
        "entered": item.entered,
        "advice": item.advice or None,
    }
