"""The report of a reconciliation: totals by finding, the differences, and what to do about them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.cli.output import format_time, money_record, print_json, print_line, print_table
from app.domain.money import format_micros
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


@dataclass(frozen=True, slots=True)
class FindingTotals:
    """One finding in figures; `uncounted` lines say nothing about their number of images."""

    lines: int
    jobs: int
    billed_images: int
    charged_images: int
    billed_micros: int
    charged_micros: int
    uncounted: int


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
        uncertain = bool(self.unreadable) or self.distrust_reason == CLOCK_OFF
        return uncertain or any(item.differs for item in self.items)

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
            _call_ids(item) for item in known
        ):
            return NO_ID
        middle = sorted(map(_clock_offset_ms, known))[len(known) // 2]
        return CLOCK_OFF if abs(middle) > self.period.within_ms else None

    def totals(self, finding: BillFinding) -> FindingTotals:
        return _total([item for item in self.items if item.finding is finding])


def _clock_offset_ms(item: ReconciledItem) -> int:
    """How much later the bill has a call than the ledger, which knows when it began and ended."""
    assert item.charge is not None
    at_ms = item.calls[0].at_ms
    return min(at_ms - item.charge.sent_ms, 0) + max(at_ms - item.charge.entry.at_ms, 0)


def _total(items: Sequence[ReconciledItem]) -> FindingTotals:
    billed = [item.billed_images for item in items]
    charges = [item.charge for item in items if item.charge is not None]
    return FindingTotals(
        lines=sum(len(item.lines) for item in items),
        jobs=len(charges),
        billed_images=sum(images or 0 for images in billed),
        charged_images=sum(charge.images for charge in charges),
        billed_micros=sum(item.billed_micros for item in items),
        charged_micros=sum(charge.micros or 0 for charge in charges),
        uncounted=sum(
            len(item.lines) for item, images in zip(items, billed, strict=True) if images is None
        ),
    )


def print_report(report: BillReport, currency: str, most: int | None) -> None:
    """Text; at most `most` differences, or all."""
    period = report.period
    print_line(
        f"{report.name}, from {format_time(period.since_ms)} to {format_time(period.until_ms)}"
    )
    _print_totals(report, currency)
    _print_rows("Matched by model, amount and time:", report.matched_by(MatchedBy.TIME), most)
    _print_rows("Differences:", report.differences, most)
    for line in report.unreadable[:most]:
        print_line(str(line))
    if most is not None and len(report.unreadable) > most:
        print_line(f"… and {len(report.unreadable) - most} unreadable lines more; see --all.")
    print_line()
    for sentence in _next_steps(report):
        print_line(sentence)


def _print_totals(report: BillReport, currency: str) -> None:
    rows: list[tuple[object, ...]] = []
    for finding in BillFinding:
        found = report.totals(finding)
        billed, charged = format_micros(found.billed_micros), format_micros(found.charged_micros)
        images = f"{found.billed_images}+?" if found.uncounted else found.billed_images
        rows.append(
            (finding, found.lines, found.jobs, images, found.charged_images, billed, charged)
        )
    rows.append(("unreadable", len(report.unreadable), *[None] * 5))
    if report.skipped:
        rows.append(("not asked for", report.skipped, *[None] * 5))
    print_table(
        (
            "finding", "lines", "jobs", "images billed", "charged", f"{currency} billed", "charged"
        ),
        rows,
    )  # fmt: skip


def _print_rows(title: str, items: Sequence[ReconciledItem], most: int | None) -> None:
    if not items:
        return
    print_line()
    print_line(title)
    headings = ("finding", "lines", "call", "model", "job", "billed", "charged", "correction")
    print_table(headings, [_row(item) for item in items[:most]])
    if most is not None and len(items) > most:
        print_line(f"… and {len(items) - most} more; see --all.")


def _row(item: ReconciledItem) -> tuple[object, ...]:
    charge = item.charge
    charged = None if charge is None else _amount(charge.images, charge.micros)
    return (
        item.finding,
        _line_numbers(item),
        _call_ids(item),
        charge.entry.model if charge else item.calls[0].model,
        charge.entry.job if charge else None,
        _amount(item.billed_images, item.billed_micros) if item.calls else None,
        charged,
        _action(item),
    )


def _call_ids(item: ReconciledItem) -> str:
    """The provider's ids as on the bill, else as in the provider's answers."""
    if item.calls or item.charge is None:
        return " ".join(call.id for call in item.calls if call.id is not None)
    return " ".join(item.charge.entry.calls)


def _line_numbers(item: ReconciledItem) -> str:
    """As text, so that a column of them is not aligned like an amount."""
    return " ".join(str(line.number) for line in item.lines)


def _amount(images: int | None, micros: int | None) -> str:
    count = "?" if images is None else images
    return f"{count} for {'?' if micros is None else format_micros(micros)}"


def _action(item: ReconciledItem) -> str:
    if item.entered is not None:
        return f"{item.adjustment:+d} entered as {item.entered}"
    return f"{item.adjustment:+d}" if item.adjustment else item.advice


def _next_steps(report: BillReport) -> Iterable[str]:
    if report.distrust_reason is not None:
        yield report.distrust_reason
    if report.unreadable:
        yield "Correct the unreadable lines first: one of them may be what is missing."
    elif report.open_adjustments and report.distrust_reason is None:
        count = report.open_adjustments
        yield f"Next: the same with --apply enters {count} of them as new entries."
    if report.entered:
        yield f"Corrections entered: {report.entered}; koi ledger check must print difference 0."
    left = sum(1 for item in report.items if item.differs and not item.adjustment)
    if left:
        yield f"Yours to decide: {left} (koi ledger adjust --job … --images … --note …)"
    undecided = report.totals(BillFinding.UNDECIDED).jobs
    if undecided:
        yield f"Jobs so near an end of the bill that the next bill decides: {undecided}."
    if not report.differs:
        yield "The bill and the ledger agree."


def print_report_json(report: BillReport, currency: str) -> None:
    """Everything, for a script."""
    sums = {
        finding.value: _totals_record(report.totals(finding), currency) for finding in BillFinding
    }
    print_json(
        {
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
                _item_record(item, currency) for item in report.matched_by(MatchedBy.TIME)
            ],
            "differences": [_item_record(item, currency) for item in report.differences],
            "refused": report.distrust_reason,
        }
    )


def _totals_record(found: FindingTotals, currency: str) -> dict[str, Any]:
    return {
        "lines": found.lines,
        "jobs": found.jobs,
        "images_billed": found.billed_images,
        "images_charged": found.charged_images,
        "billed": money_record(found.billed_micros, currency),
        "charged": money_record(found.charged_micros, currency),
        "lines_without_images": found.uncounted,
    }


def _item_record(item: ReconciledItem, currency: str) -> dict[str, Any]:
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
