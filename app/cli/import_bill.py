"""`koi ledger import-bill`: compares the provider's bill with the ledger, and corrects it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from app.cli.bill_report import print_report
from app.cli.errors import EXIT_FAILED, usage_error
from app.cli.options import AsJson, parse_duration, parse_time_ms, require_text
from app.cli.output import print_json
from app.cli.session import run_operation
from app.domain.catalog_providers import provider_of
from app.reconcile.compare import BillComparison, BillScope, enter_corrections
from app.reconcile.csv_file import ROLES, ColumnOptions
from app.reconcile.csv_text import NotABill
from app.reconcile.report import describe_report

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext


def _column(what: str) -> Parameter:
    return Parameter(help=f"Heading of the {what}'s column; found by itself where it is usual.")


@Parameter(name="*")
@dataclass(frozen=True)
class TypedColumns(ColumnOptions):
    """Headings as typed."""

    id_column: Annotated[str | None, _column("request id")] = None
    model_column: Annotated[str | None, _column("model")] = None
    amount_column: Annotated[str | None, _column("amount")] = None
    time_column: Annotated[str | None, _column("time")] = None
    count_column: Annotated[str | None, _column("image count")] = None


DEFAULT_COLUMNS = TypedColumns()


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
    provider: Annotated[
        str | None, Parameter(help="Whose bill it is: a name of [[providers]]; else main.")
    ] = None


WHOLE_BILL = BillOptions()


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
    columns: TypedColumns = DEFAULT_COLUMNS,
    apply: Annotated[bool, Parameter(help="Enter the corrections as new entries.")] = False,
    all: Annotated[bool, Parameter(help="Print every difference, not the first 20.")] = False,
    json: AsJson = False,
) -> int:
    """Compare the provider's bill with the ledger; exits 1 when they differ.

    Matched by the provider's request ids; where an answer was lost and the id with it, by model,
    amount and time. The file is only read. Times without a zone are in KOI_TIMEZONE. Only what was
    charged for the provider of the bill is compared with it.

    Example: koi ledger import-bill fees.csv --since 2026-11-01 --until 2026-12-01
    """
    within_ms = round(parse_duration("--within", scope.within).total_seconds() * 1000)
    require_text("--capability", scope.capability)
    require_text("--provider", scope.provider)
    for role in ROLES:
        require_text(f"--{role}-column", columns.heading_for(role))

    async def work(context: "OperatorContext") -> int:
        zone, currency = ZoneInfo(context.settings.timezone), context.catalog.currency
        now_ms = await context.keyring.now_ms()
        comparison = BillComparison(context.ledger, context.catalog, zone, now_ms)
        asked = _parse_scope(scope, within_ms, zone)
        try:
            report = await comparison.compare(file, file.name, asked, columns)
        except NotABill as error:
            raise usage_error(str(error)) from None
        if apply:
            await enter_corrections(report, context.adjust)
        if json:
            print_json(describe_report(report, currency))
        else:
            print_report(report, currency, most=None if all else 20)
        return EXIT_FAILED if report.differs else 0

    return run_operation(work, activity="Comparing the bill with the ledger", changes=apply)


def _parse_scope(scope: BillOptions, within_ms: int, zone: ZoneInfo) -> BillScope:
    since = None if scope.since is None else parse_time_ms("--since", scope.since, zone)
    until = None if scope.until is None else parse_time_ms("--until", scope.until, zone)
    if since is not None and until is not None and since >= until:
        raise usage_error("--since must be before --until.")
    return BillScope(since, until, within_ms, scope.capability, provider_of(scope.provider))
