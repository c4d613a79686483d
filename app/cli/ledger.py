"""`koi ledger`: audit and export of the ledger, and corrections as new entries."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo

from cyclopts import App, Parameter, validators

from app.cli.audit_output import audit_record, print_audit
from app.cli.entry_records import entry_record
from app.cli.errors import EXIT_FAILED, usage_error
from app.cli.import_bill import import_bill
from app.cli.options import AsJson, choose_format, parse_signed_micros, parse_time_ms, require_text
from app.cli.output import (
    print_json,
    print_json_line,
    print_line,
    write_output,
)
from app.cli.rebuild import rebuild
from app.cli.session import run_operation
from app.domain.ledger import Entry, LedgerAudit
from app.domain.money import format_micros
from app.service.adjustments import Adjustment, empty_entry
from app.service.csv_text import format_csv_line

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

MAX_ADJUSTED_IMAGES = 1_000_000
"""Of one correction: more is a typing error, and counters are exact only up to 2^53."""
ledger = App(name="ledger", help="Audit, export, correct and rebuild the ledger.")
ledger.command(import_bill)
ledger.command(rebuild)


@ledger.command
def check(
    *,
    full: Annotated[
        bool, Parameter(help="Compare the rollups with every entry, too.", negative=())
    ] = False,
    json: AsJson = False,
) -> int:
    """Recompute every counter from the ledger and the open jobs; exits 1 when one differs.

    Entries of hours that are over are taken from their rollups, which the gateways compare with all
    entries once a day.

    Example: koi ledger check --json
             koi ledger check --full
    """

    async def work(context: "OperatorContext") -> LedgerAudit:
        return await context.ledger.audit(full=full)

    audit = run_operation(
        work, activity="Recomputing every counter from the ledger", reads_ledger=True, changes=False
    )
    if json:
        print_json(audit_record(audit))
    else:
        print_audit(audit)
    return EXIT_FAILED if audit.differences else 0


@ledger.command
def export(
    *,
    format: Annotated[
        Literal["jsonl", "csv"] | None, Parameter(help="jsonl (without it) or csv.")
    ] = None,
    since: Annotated[str | None, Parameter(help="From this day or time.")] = None,
    until: Annotated[str | None, Parameter(help="Before this day or time.")] = None,
    json: AsJson = False,
) -> None:
    """Write the ledger to standard output, one entry a line, oldest first.

    Example: koi ledger export --format csv --since 2026-11-01 > november.csv
    """

    as_csv = choose_format(format, "jsonl", json) == "csv"

    async def work(context: "OperatorContext") -> None:
        zone = ZoneInfo(context.settings.timezone)
        since_ms = 0 if since is None else parse_time_ms("--since", since, zone)
        until_ms = None if until is None else parse_time_ms("--until", until, zone)
        if as_csv:
            write_output(format_csv_line(list(entry_record(empty_entry("", "", ""), ""))))
        async for entry in context.ledger.entries(since_ms, until_ms):
            record = entry_record(entry, context.catalog.currency)
            if as_csv:
                write_output(format_csv_line(list(record.values())), flush=False)
            else:
                print_json_line(record)
        write_output("")

    run_operation(work, activity="Reading the ledger", reads_ledger=True, changes=False)


@Parameter(name="*")
@dataclass(frozen=True)
class AdjustmentTarget:
    """What a correction is about: a job, or a user and a model."""

    job: Annotated[str | None, Parameter(help="The job whose entry is corrected.")] = None
    user: Annotated[str | None, Parameter(help="Or a user, with --model.")] = None
    model: Annotated[str | None, Parameter(help="The model the correction is about.")] = None

    def check(self) -> None:
        for name in ("job", "user", "model"):
            require_text(f"--{name}", getattr(self, name))
        whole = self.user is not None and self.model is not None
        if (self.job is None) != whole or (self.job is not None and (self.user or self.model)):
            raise usage_error("Name what to correct: --job ID, or --user NAME with --model MODEL.")


NO_TARGET = AdjustmentTarget()


@ledger.command
def adjust(
    *,
    target: AdjustmentTarget = NO_TARGET,
    images: Annotated[
        int,
        Parameter(
            help="Images to add; negative takes back.",
            allow_leading_hyphen=True,
            validator=validators.Number(gte=-MAX_ADJUSTED_IMAGES, lte=MAX_ADJUSTED_IMAGES),
        ),
    ] = 0,
    amount: Annotated[
        str | None,
        Parameter(
            help="Money to add; negative takes back. Not given: images at the catalog's price.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    note: Annotated[str | None, Parameter(help="Why; kept in the entry.")] = None,
    id: Annotated[
        str | None,
        Parameter(help="With --user: a name of yours; under one name it is entered once a day."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Correct the ledger with a new entry; nothing is ever rewritten.

    Example: koi ledger adjust --job task_… --images -1 --note "refunded by the provider"
    """
    target.check()
    require_text("--id", id)
    if id is not None and target.job is not None:
        raise usage_error("--id goes with --user; of a job the same correction is known by itself.")
    if images == 0 and amount is None:
        raise usage_error(
            "Say what to correct: --images N, --amount X, or both; negative takes back."
        )
    micros = None if amount is None else parse_signed_micros("--amount", amount)
    adjustment = Adjustment(images, micros, note)

    async def work(context: "OperatorContext") -> None:
        if target.job is not None:
            entry = await context.adjustments.adjust_job(target.job, adjustment)
        else:
            user, model = target.user or "", target.model or ""
            entry = await context.adjustments.adjust_user(user, model, adjustment, id)
        _print_adjusted(entry, context.catalog.currency, json)

    run_operation(work, activity="Reading the ledger")


def _print_adjusted(entry: Entry, currency: str, json: bool) -> None:
    if json:
        print_json(entry_record(entry, currency))
    else:
        cost = "unknown" if entry.micros is None else f"{format_micros(entry.micros)} {currency}"
        print_line(f"Entry {entry.id}: user {entry.user}, {entry.images:+d} images, money {cost}.")
