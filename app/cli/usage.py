"""`koi usage`: what was used, added up from the ledger."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from app.cli.attribution_options import SourceOptions
from app.cli.errors import usage_error
from app.cli.options import SINCE_HELP, AsJson, choose_format, parse_names, parse_time_ms
from app.cli.output import (
    format_time,
    money_record,
    print_json,
    print_line,
    print_notice,
    print_table,
    write_output,
)
from app.cli.session import run_operation
from app.domain.queries import USAGE_DIMENSIONS, UsageQuery, UsageRow
from app.service.usage import total_row
from app.service.usage_export import (
    COUNTS,
    FOCUS_DIMENSIONS,
    UsageReport,
    cost_of,
    counts_of,
    csv_lines,
    focus_lines,
    group_of,
)

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring.operator import OperatorContext

UNKNOWN_COSTS = (
    "koi: Costs that are empty are unknown, for want of a price in the catalog. FOCUS wants a "
    "number there and forbids a 0 that stands for none, so a strict tool may refuse these charges."
)
OutputFormat = Literal["table", "csv", "json", "focus"]


def usage(
    *,
    since: Annotated[str | None, Parameter(help=f"{SINCE_HELP} Month start.")] = None,
    until: Annotated[str | None, Parameter(help="Before this day or time; now.")] = None,
    scopes: SourceOptions | None = None,
    by: Annotated[str, Parameter(help=f"Any of {', '.join(USAGE_DIMENSIONS)}.")] = "user",
    format: Annotated[
        OutputFormat | None, Parameter(help="table (without it), csv, json or focus.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Add up what was used.

    Images are what the provider bills; surplus ones were made beyond what was asked and are
    charged to the deployment itself (user -). Days are days of KOI_TIMEZONE; a cost is unknown
    where the catalog has no price. project, tag and end_user are what requests said; beyond
    KOI_ATTRIBUTED_VALUES of a user and month they are (other). `focus` is CSV in FOCUS 1.2 for cost
    tools, one charge for each day, key, model, size and what was said; --by does not count then.

    Example: koi usage --since 2026-11-01 --by user,model --format csv
             koi usage --since yesterday --user ann --by key
             koi usage --by tag,end_user --project proj_website
             koi usage --since 2026-11-01 --until 2026-12-01 --format focus > november.csv
    """
    form = choose_format(format, "table", json)
    as_focus = form == "focus"
    dimensions = FOCUS_DIMENSIONS if as_focus else _parse_dimensions(by)
    options = scopes or SourceOptions()
    names, said = options.selected, options.said

    async def work(context: "OperatorContext") -> None:
        span = _parse_period_ms(since, until, context.settings)
        question = UsageQuery(
            *span,
            dimensions,
            users=names.users,
            teams=names.teams,
            keys=names.keys,
            projects=said.projects,
            tags=said.tags,
            end_users=said.end_users,
        )
        buckets = await context.usage.report(question)
        rows = tuple(row for bucket in buckets for row in bucket.rows)
        if not rows:
            await options.require_known(context.keyring)
        report = UsageReport(
            question,
            tuple(sorted(rows, key=lambda row: group_of(row, dimensions))),
            total_row(rows),
            context.catalog.currency,
        )
        if as_focus:
            write_output("".join(focus_lines(report.rows, context.focus_terms)))
            if report.total.micros is None:
                print_notice(UNKNOWN_COSTS)
        else:
            PRINTERS[form](report)

    run_operation(work, activity="Adding up the ledger", reads_ledger=True, changes=False)


def _parse_dimensions(text: str) -> tuple[str, ...]:
    parse_names("--by", text)
    chosen = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in chosen:
        if word not in USAGE_DIMENSIONS:
            raise usage_error(f"--by knows {', '.join(USAGE_DIMENSIONS)}; not {word!r}.")
    return chosen


def _parse_period_ms(since: str | None, until: str | None, settings: "Settings") -> tuple[int, int]:
    zone = ZoneInfo(settings.timezone)
    now = datetime.now(zone)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    since_ms = _ms(month) if since is None else parse_time_ms("--since", since, zone)
    until_ms = _ms(now) + 1 if until is None else parse_time_ms("--until", until, zone)
    if since_ms >= until_ms:
        raise usage_error("--since must be before --until.")
    return since_ms, until_ms


def _ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)


def _print_table(report: UsageReport) -> None:
    by = report.question.by
    span = f"{format_time(report.question.since_ms)} to {format_time(report.question.until_ms)}"
    if not report.rows:
        print_line(f"Nothing was used from {span}.")
        return
    rows = [
        (*group_of(row, by), *counts_of(row), cost_of(row) or "unknown")
        for row in ((*report.rows, report.total) if by else report.rows)
    ]
    if by:
        rows[-1] = ("total", *rows[-1][1:])
    print_line(f"Used from {span}")
    print_table((*by, *COUNTS, f"cost {report.currency}"), rows)


def _print_csv(report: UsageReport) -> None:
    write_output("".join(csv_lines(report)))


def _print_json(report: UsageReport) -> None:
    by = report.question.by
    print_json(
        {
            "since": format_time(report.question.since_ms),
            "until": format_time(report.question.until_ms),
            "by": list(by),
            "rows": [_record(row, by, report.currency) for row in report.rows],
            "total": _record(report.total, (), report.currency),
        }
    )


def _record(row: UsageRow, by: tuple[str, ...], currency: str) -> dict[str, Any]:
    groups: dict[str, Any] = {name: getattr(row, name) for name in by}
    counts = dict(zip(COUNTS, counts_of(row), strict=True))
    return groups | counts | {"cost": money_record(row.micros, currency)}


PRINTERS = {"table": _print_table, "csv": _print_csv, "json": _print_json}
