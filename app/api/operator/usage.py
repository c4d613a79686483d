"""GET /v1/koi/usage: what was used, as a table, as CSV or in FOCUS 1.2, as `koi usage` has it."""

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import islice

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.api import parameters
from app.api.operator.standing import money_text
from app.api.operator.wire import KoiUsageBody, KoiUsageRow
from app.api.organization.access import Administrator, admin_route
from app.api.organization.paging import object_response, seconds
from app.api.parameters import INTEGER, Schema, describe_list, describe_query
from app.domain.administration import AdminScope
from app.domain.queries import USAGE_DIMENSIONS, UsageQuery, UsageRow
from app.service.usage import total_row
from app.service.usage_export import (
    COUNTS,
    FOCUS_DIMENSIONS,
    UsageReport,
    csv_lines,
    focus_lines,
    group_of,
)
from app.service.usage_periods import UsagePeriod, span_of

FORMATS = ("json", "csv", "focus")
READ_TOKENS = 10
MAX_ROWS = 1_000
LINES_AT_ONCE = 200
MAX_SPAN_S = 10 * 366 * 86_400
FILTERS = ("users", "teams", "keys", "models", "sizes", "projects", "tags", "end_users")
USAGE_PARAMETERS: list[Schema] = [
    describe_query("period", {"type": "string", "enum": [*UsagePeriod]}, "Missing: month."),
    describe_query("since", INTEGER, "Unix seconds, instead of a period."),
    describe_query("until", INTEGER, "Unix seconds, exclusive; missing: now."),
    describe_list("group_by", "Dimensions to group by; missing: user.", USAGE_DIMENSIONS),
    *(describe_list(name, "Only these.") for name in FILTERS),
    describe_query("format", {"type": "string", "enum": [*FORMATS]}, "Missing: json."),
]


@admin_route(AdminScope.READ, for_team_admins=True)
async def read(request: Request, admin: Administrator) -> Response:
    """What was used in a span of time, grouped and filtered. FOCUS groups by itself."""
    query = request.query_params
    form = parameters.parse_query_choice(query, "format", FORMATS) or "json"
    since_ms, until_ms = await _parse_span(request, admin)
    groups = parameters.parse_query_choices(query, "group_by", frozenset(USAGE_DIMENSIONS))
    named = {name: frozenset(parameters.parse_query_list(query, name)) for name in FILTERS}
    question = UsageQuery(
        since_ms,
        until_ms,
        FOCUS_DIMENSIONS if form == "focus" else groups or ("user",),
        None,
        **named,
    )
    await admin.charge_read(READ_TOKENS)
    buckets = await admin.gateway.usage.report(question)
    rows = [row for bucket in buckets for row in bucket.rows]
    rows.sort(key=lambda row: group_of(row, question.by))
    currency = admin.gateway.catalog.currency
    if form == "focus":
        return _file_response("focus", focus_lines(rows, admin.gateway.operations.focus))
    report = UsageReport(question, tuple(rows), total_row(rows), currency)
    if form == "csv":
        return _file_response("usage", csv_lines(report))
    return object_response(_describe(report))


async def _parse_span(request: Request, admin: Administrator) -> tuple[int, int]:
    query = request.query_params
    now_ms = await admin.keys.now_ms()
    if "since" not in query:
        word = parameters.parse_query_choice(query, "period", tuple(UsagePeriod))
        calendar = admin.gateway.operations.calendar
        return span_of(UsagePeriod(word or UsagePeriod.MONTH), calendar, now_ms)
    since_s = parameters.parse_query_time(query, "since")
    until_s = parameters.parse_query_time(query, "until", now_ms // 1000 + 1)
    if not since_s < until_s <= since_s + MAX_SPAN_S:
        raise parameters.invalid_value_error(
            "until", "until must be later than since, by ten years at most."
        )
    return since_s * 1000, until_s * 1000


def _describe(report: UsageReport) -> KoiUsageBody:
    by = report.question.by
    rows = report.rows
    if len(rows) > MAX_ROWS:
        largest = sorted(rows, key=lambda row: -row.images)[:MAX_ROWS]
        rows = tuple(sorted(largest, key=lambda row: group_of(row, by)))
    return {
        "object": "koi.usage",
        "since": seconds(report.question.since_ms),
        "until": seconds(report.question.until_ms),
        "group_by": list(by),
        "currency": report.currency,
        "rows": [_describe_row(row, by) for row in rows],
        "left_out": len(report.rows) - len(rows),
        "total": _describe_row(report.total, ()),
    }


def _describe_row(row: UsageRow, by: Sequence[str]) -> KoiUsageRow:
    groups = {name: getattr(row, name) for name in by}
    counts = {name: getattr(row, name) for name in COUNTS}
    return {**groups, **counts, "cost": money_text(row.micros)}  # type: ignore[typeddict-item]


def _file_response(name: str, lines: Iterable[str]) -> Response:
    headers = {
        "cache-control": "no-store",
        "content-disposition": f'attachment; filename="koi-{name}.csv"',
    }
    return StreamingResponse(_chunks(iter(lines)), media_type="text/csv", headers=headers)


async def _chunks(lines: Iterable[str]) -> AsyncIterator[str]:
    while part := list(islice(lines, LINES_AT_ONCE)):
        yield "".join(part)
