"""`koi ledger import-bill`: compares the provider's bill with the ledger, and corrects it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from app.cli.bill_report import BillReport, print_report, print_report_json
from app.cli.errors import EXIT_FAILED, usage_error
from app.cli.options import AsJson, parse_duration, parse_time_ms, require_text
from app.cli.output import format_time
from app.cli.session import run_operation
from app.domain.errors import InvalidRequest
from app.domain.ledger import Entry, EntryKind
from app.reconcile.bill import BillLine, BillPeriod, JobCharges, ReconciledItem
from app.reconcile.csv_file import (
    ROLES,
    BillReadOptions,
    ColumnOptions,
    SkippedLine,
    UnreadableLine,
    read_bill,
)
from app.reconcile.csv_text import NotABill
from app.reconcile.match import build_adjustment, reconcile

if TYPE_CHECKING:
    from app.domain.catalog import Catalog
    from app.wiring.operator import OperatorContext

DAY_MS = 86_400_000
MAX_NAMED = 20
DEFAULT_COLUMNS = ColumnOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class BillOptions:
    """Which part of the file is compared, and how loosely."""

    since: Annotated[str | None, Parameter(help="From this day or time; the first line.")] = None
    until: Annotated[
        str | None,
        Parameter(help="Before this day or time, which the file reaches; the last line."),
    ] = None
    within: Annotated[str, Parameter(help="How far a line may be from its call.")] = "15m"
    capability: Annotated[
        str | None, Parameter(help="Only lines whose capability contains this, such as image.")
    ] = None


WHOLE_BILL = BillOptions()


@dataclass(slots=True)
class ParsedBill:
    """The file as read: what can be compared, and what cannot."""

    lines: list[BillLine] = field(default_factory=list)
    unreadable: list[UnreadableLine] = field(default_factory=list)
    skipped: int = 0


def import_bill(
    file: Annotated[
        Path,
        Parameter(
            help="The provider's fee details as CSV; - is standard input.",
            allow_leading_hyphen=True,
        ),
    ],
    /,
    *,
    scope: BillOptions = WHOLE_BILL,
    columns: ColumnOptions = DEFAULT_COLUMNS,
    apply: Annotated[bool, Parameter(help="Enter the corrections as new entries.")] = False,
    all: Annotated[bool, Parameter(help="Print every difference, not the first 20.")] = False,
    json: AsJson = False,
) -> int:
    """Compare the provider's bill with the ledger; exits 1 when they differ.

    Matched by the provider's request ids; where an answer was lost and the id with it, by model,
    amount and time. The file is only read. Times without a zone are in KOI_TIMEZONE.

    Example: koi ledger import-bill fees.csv --since 2026-11-01 --until 2026-12-01
    """
    within_ms = round(parse_duration("--within", scope.within).total_seconds() * 1000)
    require_text("--capability", scope.capability)
    for role in ROLES:
        require_text(f"--{role}-column", columns.heading_for(role))

    async def work(context: "OperatorContext") -> int:
        bill, period = _read_bill(file, scope, columns, within_ms, context)
        if scope.until is not None:
            # No bill covers what is still to come.
            now_ms = await context.keyring.now_ms()
            period = replace(
                period, until_ms=max(min(period.until_ms, now_ms), period.since_ms + 1)
            )
        items = await _compare(bill, period, context)
        report = BillReport(file.name, period, items, bill.unreadable, bill.skipped)
        if apply:
            await _apply_adjustments(report, context)
        if json:
            print_report_json(report, context.catalog.currency)
        else:
            print_report(report, context.catalog.currency, most=None if all else 20)
        return EXIT_FAILED if report.differs else 0

    return run_operation(work, activity="Comparing the bill with the ledger", changes=apply)


def _read_bill(
    file: Path,
    scope: BillOptions,
    columns: ColumnOptions,
    within_ms: int,
    context: "OperatorContext",
) -> tuple[ParsedBill, BillPeriod]:
    """The lines of the span asked for; not asked for, the bill's own first and last line."""
    zone = ZoneInfo(context.settings.timezone)
    since = None if scope.since is None else parse_time_ms("--since", scope.since, zone)
    until = None if scope.until is None else parse_time_ms("--until", scope.until, zone)
    if since is not None and until is not None and since >= until:
        raise usage_error("--since must be before --until.")
    bill = ParsedBill()
    options = BillReadOptions(columns, zone, context.catalog.currency, scope.capability)
    for line in _bill_lines(file, options):
        if isinstance(line, UnreadableLine):
            bill.unreadable.append(line)
        elif isinstance(line, SkippedLine) or not _is_inside(line.at_ms, since, until):
            bill.skipped += 1
        else:
            bill.lines.append(line)
    moments = [line.at_ms for line in bill.lines]
    since = min(moments, default=None) if since is None else since
    until = max(moments, default=None) if until is None else until
    if since is None or until is None:
        raise usage_error(_explain_empty(file, bill))
    return bill, BillPeriod(since, max(until, since + 1), within_ms)


def _bill_lines(
    file: Path, options: BillReadOptions
) -> Iterator[BillLine | UnreadableLine | SkippedLine]:
    try:
        yield from read_bill(file, options)
    except NotABill as error:
        raise usage_error(str(error)) from None


def _explain_empty(file: Path, bill: ParsedBill) -> str:
    """Why there is nothing to compare, line by line where lines could not be read."""
    if bill.unreadable:
        named = "".join(f"\n{line}" for line in bill.unreadable[:MAX_NAMED])
        more = len(bill.unreadable) - MAX_NAMED
        rest = f"\n… and {more} more" if more > 0 else ""
        count = len(bill.unreadable)
        return f"None of {file} can be compared; lines that cannot be read: {count}.{named}{rest}"
    lines = "no line that was asked for" if bill.skipped else "no line"
    return f"{file} has {lines}; say what it covers with --since and --until."


def _is_inside(at_ms: int, since: int | None, until: int | None) -> bool:
    return (since is None or since <= at_ms) and (until is None or at_ms < until)


async def _compare(
    bill: ParsedBill, period: BillPeriod, context: "OperatorContext"
) -> list[ReconciledItem]:
    catalog = context.catalog
    charges = JobCharges(lambda entry: _price(entry, catalog))
    # An entry is written after its call, a correction at any time later. A day more on each side,
    # since a line is matched by its id also where the clocks differ.
    async for entry in context.ledger.entries(period.since_ms - period.within_ms - DAY_MS):
        sent_ms = entry.at_ms if entry.dispatched_ms is None else entry.dispatched_ms
        if entry.kind is EntryKind.ADJUST or sent_ms <= period.until_ms + period.within_ms + DAY_MS:
            charges.add_entry(entry)

    def ours(model: str) -> str:
        found = catalog.find(model)
        return model if found is None else found.name

    return reconcile(bill.lines, charges, period, ours)


def _price(entry: Entry, catalog: "Catalog") -> int | None:
    found = catalog.find(entry.model)
    return None if found is None else found.price(entry.size, entry.quality)


async def _apply_adjustments(report: BillReport, context: "OperatorContext") -> None:
    """Enter every correction that is certain; the other items say why they are not."""
    if report.unreadable or report.distrust_reason:
        return
    period = report.period
    bill = f"{format_time(period.since_ms)} to {format_time(period.until_ms)}"
    for place, item in enumerate(report.items):
        if item.adjustment:
            report.items[place] = await _adjust(item, bill, context)


async def _adjust(item: ReconciledItem, bill: str, context: "OperatorContext") -> ReconciledItem:
    try:
        entry = await context.adjust(build_adjustment(item, bill))
    except InvalidRequest as refusal:
        return replace(item, adjustment=0, advice=refusal.message)
    return replace(item, entered=entry.id)
