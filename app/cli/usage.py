"""`koi usage`: what was used, added up from the ledger."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from cyclopts import Parameter

from app.cli.failure import misused
from app.cli.options import AsJson, moment_ms, words
from app.cli.out import csv_line, emit, money, say, say_json, say_table, time_text
from app.cli.session import in_office
from app.cli.whose import SINCE, Whose
from app.domain.money import format_micros
from app.domain.usage import DIMENSIONS, UsageQuestion, UsageRow

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring import Office

Format = Literal["table", "csv", "json"]
COUNTS = ("requests", "images", "delivered", "presumed", "surplus")
ACCOUNTS = ("user", "key")
"""Everything but what the house pays for has these."""


@dataclass(frozen=True, slots=True)
class Report:
    question: UsageQuestion
    rows: tuple[UsageRow, ...]
    total: UsageRow
    currency: str


def usage(
    *,
    since: Annotated[str | None, Parameter(help=f"{SINCE} Month start.")] = None,
    until: Annotated[str | None, Parameter(help="Before this day or time; now.")] = None,
    whose: Whose | None = None,
    by: Annotated[str, Parameter(help="Any of user, team, key, model, size, day.")] = "user",
    format: Annotated[Format, Parameter(help="table, csv or json.")] = "table",
    json: AsJson = False,
) -> None:
    """Add up what was used.

    Images are what the provider bills; surplus ones were made beyond what was asked and are
    charged to the house (user -). Days are days of KOI_TIMEZONE; a cost is unknown where the
    catalog has no price.

    Example: koi usage --since 2026-11-01 --by user,model --format csv
             koi usage --since yesterday --user ann --by key
    """
    dimensions = _dimensions(by)
    asked = whose or Whose()
    names = asked.names

    async def work(office: "Office") -> None:
        span = _span(since, until, office.settings)
        question = UsageQuestion(
            *span, dimensions, users=names.users, teams=names.teams, keys=names.keys
        )
        buckets = await office.usage.report(question)
        total = await office.usage.report(replace(question, by=()))
        rows = tuple(row for bucket in buckets for row in bucket.rows)
        if not rows:
            await asked.check(office.keyring)
        report = Report(
            question,
            tuple(sorted(rows, key=lambda row: _group(row, dimensions))),
            next((row for bucket in total for row in bucket.rows), UsageRow(micros=0)),
            office.catalog.currency,
        )
        PRINTERS["json" if json else format](report)

    in_office(work, what="Adding up the ledger", reads=True)


def _dimensions(text: str) -> tuple[str, ...]:
    words("--by", text)
    chosen = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in chosen:
        if word not in DIMENSIONS:
            raise misused(f"--by knows {', '.join(DIMENSIONS)}; not {word!r}.")
    return chosen


def _span(since: str | None, until: str | None, settings: "Settings") -> tuple[int, int]:
    zone = ZoneInfo(settings.timezone)
    now = datetime.now(zone)
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    since_ms = _ms(month) if since is None else moment_ms("--since", since, zone)
    until_ms = _ms(now) + 1 if until is None else moment_ms("--until", until, zone)
    if since_ms >= until_ms:
        raise misused("--since must be before --until.")
    return since_ms, until_ms


def _ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)


def _group(row: UsageRow, by: tuple[str, ...]) -> tuple[str, ...]:
    """As people read it: `-` stands for the house, which pays for images nobody asked for."""
    return tuple(getattr(row, name) or ("-" if name in ACCOUNTS else "") for name in by)


def _counts(row: UsageRow) -> tuple[int, ...]:
    return tuple(getattr(row, name) for name in COUNTS)


def _cost(row: UsageRow) -> str | None:
    return None if row.micros is None else format_micros(row.micros)


def _say_table(report: Report) -> None:
    by = report.question.by
    span = f"{time_text(report.question.since_ms)} to {time_text(report.question.until_ms)}"
    if not report.rows:
        say(f"Nothing was used from {span}.")
        return
    rows = [
        (*_group(row, by), *_counts(row), _cost(row) or "unknown")
        for row in ((*report.rows, report.total) if by else report.rows)
    ]
    if by:
        rows[-1] = ("total", *rows[-1][1:])
    say(f"Used from {span}")
    say_table((*by, *COUNTS, f"cost {report.currency}"), rows)


def _say_csv(report: Report) -> None:
    by = report.question.by
    lines = [csv_line((*by, *COUNTS, "cost", "currency"))]
    lines += [
        csv_line((*_group(row, by), *_counts(row), _cost(row), report.currency))
        for row in report.rows
    ]
    emit("".join(lines))


def _say_json(report: Report) -> None:
    by = report.question.by
    say_json(
        {
            "since": time_text(report.question.since_ms),
            "until": time_text(report.question.until_ms),
            "by": list(by),
            "rows": [_record(row, by, report.currency) for row in report.rows],
            "total": _record(report.total, (), report.currency),
        }
    )


def _record(row: UsageRow, by: tuple[str, ...], currency: str) -> dict[str, Any]:
    groups: dict[str, Any] = {name: getattr(row, name) for name in by}
    counts = dict(zip(COUNTS, _counts(row), strict=True))
    return groups | counts | {"cost": money(row.micros, currency)}


PRINTERS = {"table": _say_table, "csv": _say_csv, "json": _say_json}
