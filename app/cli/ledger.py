"""`koi ledger`: audit and export of the ledger, and corrections as new entries."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo

from cyclopts import App, Parameter, validators

from app.cli.audit_output import audit_record, print_audit
from app.cli.errors import EXIT_FAILED, CommandFailed, usage_error
from app.cli.import_bill import import_bill
from app.cli.options import AsJson, parse_signed_micros, parse_time_ms, require_text
from app.cli.output import (
    format_csv_line,
    print_json,
    print_json_line,
    print_line,
    write_output,
)
from app.cli.rebuild import rebuild
from app.cli.records import entry_record
from app.cli.session import run_operation
from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.domain.ledger import Entry, EntryKind, LedgerAudit
from app.domain.money import format_micros

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

MAX_ADJUSTED_IMAGES = 1_000_000
"""Of one correction: more is a typing error, and counters are exact only up to 2^53."""
ledger = App(name="ledger", help="Audit, export, correct and rebuild the ledger.")
ledger.command(import_bill)
ledger.command(rebuild)


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What an operator wants changed: images, and money (None: at the catalog's price)."""

    images: int
    micros: int | None
    note: str | None


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
    format: Annotated[Literal["jsonl", "csv"], Parameter(help="jsonl or csv.")] = "jsonl",
    since: Annotated[str | None, Parameter(help="From this day or time.")] = None,
    until: Annotated[str | None, Parameter(help="Before this day or time.")] = None,
    json: AsJson = False,
) -> None:
    """Write the ledger to standard output, one entry a line, oldest first.

    Example: koi ledger export --format csv --since 2026-11-01 > november.csv
    """

    async def work(context: "OperatorContext") -> None:
        zone = ZoneInfo(context.settings.timezone)
        since_ms = 0 if since is None else parse_time_ms("--since", since, zone)
        until_ms = None if until is None else parse_time_ms("--until", until, zone)
        as_csv = format == "csv" and not json
        if as_csv:
            write_output(format_csv_line(list(entry_record(_empty_entry("", "", ""), ""))))
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
    json: AsJson = False,
) -> None:
    """Correct the ledger with a new entry; nothing is ever rewritten.

    Example: koi ledger adjust --job task_… --images -1 --note "refunded by the provider"
    """
    target.check()
    if images == 0 and amount is None:
        raise usage_error(
            "Say what to correct: --images N, --amount X, or both; negative takes back."
        )
    micros = None if amount is None else parse_signed_micros("--amount", amount)
    adjustment = Adjustment(images, micros, note)

    async def work(context: "OperatorContext") -> None:
        currency = context.catalog.currency
        if target.job is not None:
            total = await _sum_job(context, target.job)
            entry = _adjustment_entry(total.own, adjustment, context.catalog)
            total.check(entry, currency)
        else:
            blank = await _user_entry(context, target.user or "", target.model or "")
            entry = _adjustment_entry(blank, adjustment, context.catalog)
        _print_adjusted(await context.adjust(entry), currency, json)

    run_operation(work, activity="Reading the ledger")


def _print_adjusted(entry: Entry, currency: str, json: bool) -> None:
    if json:
        print_json(entry_record(entry, currency))
    else:
        cost = "unknown" if entry.micros is None else f"{format_micros(entry.micros)} {currency}"
        print_line(f"Entry {entry.id}: user {entry.user}, {entry.images:+d} images, money {cost}.")


@dataclass(frozen=True, slots=True)
class JobTotal:
    """What a job is charged by now: its own entry, which says whose days and months it counts in,
    and the sums of all its entries, corrections included."""

    own: Entry
    images: int
    micros: int

    def check(self, entry: Entry, currency: str) -> None:
        """A job gives back no more than it is charged, however often a script asks."""
        if self.images + entry.images < 0 or self.micros + (entry.micros or 0) < 0:
            raise CommandFailed(
                f"Job {self.own.job} is charged {self.images} images and "
                f"{format_micros(self.micros)} {currency} by now, its corrections included; this "
                "would take back more. Nothing was changed."
            )


async def _sum_job(context: "OperatorContext", job_id: str) -> JobTotal:
    own, images, micros = None, 0, 0
    async for entry in context.ledger.entries():
        if entry.job == job_id:
            images, micros = images + entry.images, micros + (entry.micros or 0)
            if own is None and entry.kind is not EntryKind.ADJUST:
                own = entry
    if own is not None:
        return JobTotal(own, images, micros)
    if await context.ledger.job(job_id) is not None:
        raise CommandFailed(f"Job {job_id} has not been settled yet; correct it once it has.")
    raise CommandFailed(f"The ledger has no entry of a job {job_id!r}; see `koi ledger export`.")


async def _user_entry(context: "OperatorContext", name: str, model: str) -> Entry:
    """An empty entry that counts in a user's day and month of today."""
    user = await context.keys.user(name)
    found = context.catalog.find(model)
    if found is None:
        raise CommandFailed(f"There is no enabled model {model!r} in the catalog.")
    zone = ZoneInfo(context.settings.timezone)
    now = datetime.fromtimestamp(await context.keyring.now_ms() / 1000, UTC)
    today = Calendar(zone).day(now.astimezone(zone).date())
    blank = _empty_entry(name, today.label, today.month)
    return replace(blank, team=user.team, model=found.name)


def _empty_entry(user: str, day: str, month: str) -> Entry:
    return Entry(
        id="",
        kind=EntryKind.ADJUST,
        at_ms=0,
        job="",
        key="",
        user=user,
        team=None,
        model="",
        size="",
        quality="",
        images=0,
        micros=None,
        delivered=0,
        presumed=0,
        surplus=0,
        day=day,
        month=month,
    )


def _adjustment_entry(template: Entry, adjustment: Adjustment, catalog: Catalog) -> Entry:
    micros = adjustment.micros
    if micros is None:
        micros = _at_catalog_price(template, adjustment.images, catalog)
    return replace(
        template, id="", kind=EntryKind.ADJUST, images=adjustment.images, micros=micros,
        delivered=0, presumed=0, surplus=0, proof=None, code=None, note=adjustment.note,
        calls=(), dispatched_ms=None, asked=None,
    )  # fmt: skip


def _at_catalog_price(template: Entry, images: int, catalog: Catalog) -> int | None:
    """What the images cost: as the job was charged, else as the catalog says today."""
    if template.images and template.micros is not None:
        return images * template.micros // template.images
    found = catalog.find(template.model)
    if found is None:
        return None
    price = found.price(
        template.size or found.default_size, template.quality or found.default_quality
    )
    return None if price is None else images * price
