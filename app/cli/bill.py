"""`koi ledger import-bill`: the provider's bill beside the ledger, and corrections from it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from app.cli.bill_file import ROLES, Columns, Reading, SetAside, Unreadable, read_bill
from app.cli.bill_report import Report, say_report, say_report_json
from app.cli.failure import FAILED, misused
from app.cli.options import AsJson, duration, filled, moment_ms
from app.cli.out import time_text
from app.cli.session import in_office
from app.domain.bill import Accounts, BillLine, Pair, Span
from app.domain.errors import InvalidRequest
from app.domain.ledger import Entry, EntryKind
from app.domain.reconciliation import correction, reconcile

if TYPE_CHECKING:
    from app.domain.catalog import Catalog
    from app.wiring import Office

DAY_MS = 86_400_000
MOST_NAMED = 20
EVERY_COLUMN_FOUND = Columns()


@Parameter(name="*")
@dataclass(frozen=True)
class Scope:
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


WHOLE_FILE = Scope()


@dataclass(slots=True)
class Bill:
    """The file as read: what can be compared, and what cannot."""

    lines: list[BillLine] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    aside: int = 0


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
    scope: Scope = WHOLE_FILE,
    columns: Columns = EVERY_COLUMN_FOUND,
    apply: Annotated[bool, Parameter(help="Enter the corrections as new entries.")] = False,
    all: Annotated[bool, Parameter(help="Print every difference, not the first 20.")] = False,
    json: AsJson = False,
) -> int:
    """Compare the provider's bill with the ledger; exits 1 when they differ.

    Matched by the provider's request ids; where an answer was lost and the id with it, by model,
    amount and time. The file is only read. Times without a zone are in KOI_TIMEZONE.

    Example: koi ledger import-bill fees.csv --since 2026-11-01 --until 2026-12-01
    """
    within_ms = round(duration("--within", scope.within).total_seconds() * 1000)
    filled("--capability", scope.capability)
    for role in ROLES:
        filled(f"--{role}-column", columns.named(role))

    async def work(office: "Office") -> int:
        bill, span = _read(file, scope, columns, within_ms, office)
        if scope.until is not None:
            # No bill covers what is still to come.
            now_ms = await office.keyring.now_ms()
            span = replace(span, until_ms=max(min(span.until_ms, now_ms), span.since_ms + 1))
        pairs = await _compared(bill, span, office)
        report = Report(file.name, span, pairs, bill.unreadable, bill.aside)
        if apply:
            await _apply(report, office)
        if json:
            say_report_json(report, office.catalog.currency)
        else:
            say_report(report, office.catalog.currency, most=None if all else 20)
        return FAILED if report.differs else 0

    return in_office(work, what="Comparing the bill with the ledger")


def _read(
    file: Path, scope: Scope, columns: Columns, within_ms: int, office: "Office"
) -> tuple[Bill, Span]:
    """The lines of the span asked for; not asked for, the bill's own first and last line."""
    zone = ZoneInfo(office.settings.timezone)
    since = None if scope.since is None else moment_ms("--since", scope.since, zone)
    until = None if scope.until is None else moment_ms("--until", scope.until, zone)
    if since is not None and until is not None and since >= until:
        raise misused("--since must be before --until.")
    bill = Bill()
    reading = Reading(columns, zone, office.catalog.currency, scope.capability)
    for line in read_bill(file, reading):
        if isinstance(line, Unreadable):
            bill.unreadable.append(line)
        elif isinstance(line, SetAside) or not _inside(line.at_ms, since, until):
            bill.aside += 1
        else:
            bill.lines.append(line)
    moments = [line.at_ms for line in bill.lines]
    since = min(moments, default=None) if since is None else since
    until = max(moments, default=None) if until is None else until
    if since is None or until is None:
        raise misused(_nothing(file, bill))
    return bill, Span(since, max(until, since + 1), within_ms)


def _nothing(file: Path, bill: Bill) -> str:
    """Why there is nothing to compare, line by line where lines could not be read."""
    if bill.unreadable:
        named = "".join(f"\n{line}" for line in bill.unreadable[:MOST_NAMED])
        more = len(bill.unreadable) - MOST_NAMED
        rest = f"\n… and {more} more" if more > 0 else ""
        count = len(bill.unreadable)
        return f"None of {file} can be compared; lines that cannot be read: {count}.{named}{rest}"
    lines = "no line that was asked for" if bill.aside else "no line"
    return f"{file} has {lines}; say what it covers with --since and --until."


def _inside(at_ms: int, since: int | None, until: int | None) -> bool:
    return (since is None or since <= at_ms) and (until is None or at_ms < until)


async def _compared(bill: Bill, span: Span, office: "Office") -> list[Pair]:
    catalog = office.catalog
    accounts = Accounts(lambda entry: _price(entry, catalog))
    # An entry is written after its call, a correction at any time later. A day more on each side:
    # an id tells whose a line is, also where the clocks do not agree.
    async for entry in office.ledger.entries(span.since_ms - span.within_ms - DAY_MS):
        sent_ms = entry.at_ms if entry.dispatched_ms is None else entry.dispatched_ms
        if entry.kind is EntryKind.ADJUST or sent_ms <= span.until_ms + span.within_ms + DAY_MS:
            accounts.enter(entry)

    def ours(model: str) -> str:
        found = catalog.find(model)
        return model if found is None else found.name

    return reconcile(bill.lines, accounts, span, ours)


def _price(entry: Entry, catalog: "Catalog") -> int | None:
    found = catalog.find(entry.model)
    return None if found is None else found.price(entry.size, entry.quality)


async def _apply(report: Report, office: "Office") -> None:
    """Enter every correction that can be made by itself; what was not, says why."""
    if report.unreadable or report.strange:
        return
    span = report.span
    bill = f"{time_text(span.since_ms)} to {time_text(span.until_ms)}"
    for place, pair in enumerate(report.pairs):
        if pair.fix:
            report.pairs[place] = await _corrected(pair, bill, office)


async def _corrected(pair: Pair, bill: str, office: "Office") -> Pair:
    try:
        entry = await office.ledger.adjust(correction(pair, bill))
    except InvalidRequest as refusal:
        return replace(pair, fix=0, advice=refusal.message)
    return replace(pair, entered=entry.id)
