"""How the report of a reconciliation is printed."""

from collections.abc import Iterable, Sequence

from app.cli.output import format_time, print_line, print_table
from app.domain.money import format_micros
from app.reconcile.bill import BillFinding, MatchedBy, ReconciledItem
from app.reconcile.report import BillReport, FindingTotals, call_ids


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
        billed, charged = format_micros(found.billed_micros), found.charged_micros
        images = f"{found.billed_images}+?" if found.uncounted else found.billed_images
        rows.append(
            (
                *(finding, found.lines, found.jobs, images, found.charged_images, billed),
                "unknown" if charged is None else format_micros(charged),
            )
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
        call_ids(item),
        charge.entry.model if charge else item.calls[0].model,
        charge.entry.job if charge else None,
        _amount(item.billed_images, item.billed_micros) if item.calls else None,
        charged,
        _action(item),
    )


def _line_numbers(item: ReconciledItem) -> str:
    """As text, so that a column of them is not aligned like an amount."""
    return " ".join(str(line.number) for line in item.lines)


def _amount(images: int | None, micros: int | None) -> str:
    count = "?" if images is None else images
    return f"{count} for {'unknown' if micros is None else format_micros(micros)}"


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
        yield from _say_how_far_they_agree(report.totals(BillFinding.MATCHED))


def _say_how_far_they_agree(matched: FindingTotals) -> Iterable[str]:
    if not matched.unpriced:
        yield "The bill and the ledger agree."
        return
    yield (
        f"Every line has its job. What {matched.unpriced} of the jobs were charged is unknown, for "
        "want of a price, so amounts were not compared: set [models.prices] in the catalog "
        "(KOI_CATALOG)."
    )
    if matched.uncounted:
        yield f"Nor were the images of {matched.uncounted} lines, which the bill does not count."
