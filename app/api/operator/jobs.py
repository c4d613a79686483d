"""Jobs of everybody: GET /v1/koi/jobs, one as a timeline, cancel and refund."""

from datetime import date

from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.operator.standing import money_text
from app.api.operator.timeline import build_timeline, describe_change, describe_job
from app.api.operator.wire import JobDetailBody, JobListBody, RefundBody
from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import read_fields
from app.api.organization.paging import DEFAULT_LIMIT, object_response, parse_page
from app.api.parameters import (
    INTEGER,
    Schema,
    describe_list,
    describe_query,
    missing_error,
    parse_integer,
    parse_prompt,
)
from app.domain.administration import AdminScope, AuditNote, ObjectNotFound
from app.service.job_search import STATUSES, CursorInvalid, FoundJob, JobFilter
from app.service.teams import MAX_REASON_CHARS, one_line

SCAN_TOKENS = 10
MAX_IMAGES = 1_000_000
DAY_S = 86_400
FILTERS = ("users", "teams", "keys", "models", "codes", "projects", "tags", "end_users")
JOB_PARAMETERS: list[Schema] = [
    describe_query("status", {"type": "string", "enum": [*STATUSES]}, "Only these."),
    describe_query("day", {"type": "string", "format": "date"}, "Sent on this day."),
    describe_query("since", INTEGER, "Sent at this time or later, Unix seconds."),
    describe_query("until", INTEGER, "Sent before, Unix seconds."),
    *(describe_list(name, "Only these.") for name in FILTERS),
    describe_query("limit", {**INTEGER, "minimum": 1, "maximum": 100}, "Missing: 20."),
    describe_query("page", {"type": "string"}, "A next_page."),
]
SINCE = describe_query("since", INTEGER, "When it was sent, or earlier; spares reading the rest.")
REFUND_PARAMETERS: list[Schema] = [SINCE]
READ_PARAMETERS: list[Schema] = [
    SINCE,
    describe_query("journal", {"type": "boolean"}, "Also what this machine's journal says."),
]


@admin_route(AdminScope.READ, for_team_admins=True)
async def index(request: Request, admin: Administrator) -> Response:
    """Open jobs first, then ended ones, newest first; also those whose records have expired. A page
    that looked at much and found little has a next one."""
    operations, limit = admin.gateway.operations, parse_page(request, DEFAULT_LIMIT).limit
    wanted = _parse_filter(request, admin)
    await admin.charge_read(SCAN_TOKENS)
    try:
        page = await operations.jobs.page(wanted, limit, request.query_params.get("page") or None)
    except CursorInvalid:
        raise parameters.invalid_value_error(
            "page", "page must be a next_page of an earlier answer."
        ) from None
    currency = admin.gateway.catalog.currency
    content: JobListBody = {
        "object": "list",
        "data": [describe_job(one, currency, operations.resolve_after_s) for one in page.found],
        "has_more": page.cursor is not None,
        "next_page": page.cursor,
    }
    return object_response(content)


@admin_route(AdminScope.READ, for_team_admins=True)
async def read(request: Request, admin: Administrator) -> Response:
    """One job with its timeline. Never its prompt."""
    since_s = parameters.parse_query_time(request.query_params, "since", 0)
    await admin.charge_read(SCAN_TOKENS)
    journal = parameters.parse_query_boolean(request.query_params, "journal")
    job_id = request.path_params["job_id"]
    return await _job_response(admin, job_id, since_s * 1000, journal=journal)


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def cancel(request: Request, admin: Administrator) -> Response:
    """Nothing is charged; only while nothing was sent to the provider."""
    job_id = request.path_params["job_id"]
    note = AuditNote(admin.actor, "job.cancelled", one_line(admin.reason))
    await admin.gateway.operations.cancel.as_operator(job_id, note)
    return await _job_response(admin, job_id, 0)


@admin_route(AdminScope.MONEY)
async def refund(request: Request, admin: Administrator) -> Response:
    """Give back images of a job with their money, as a new entry; `images` missing: all. The same
    refund sent again is entered once."""
    body = await read_fields(request, frozenset({"images", "note"}))
    images = parse_integer(body, "images", 1, MAX_IMAGES)
    note = parse_prompt(body, "note", MAX_REASON_CHARS)
    if "images" in body and images is None:
        raise missing_error("images")
    since_s = parameters.parse_query_time(request.query_params, "since", 0)
    await admin.charge_read(SCAN_TOKENS)
    adjustments = admin.gateway.operations.adjustments.acting_as(admin.actor)
    job_id = request.path_params["job_id"]
    refunded = await adjustments.refund(job_id, images, note, since_s * 1000)
    entry = refunded.entry
    content: RefundBody = {
        "object": "koi.refund",
        "entry": entry.id,
        "job": job_id,
        "images": -entry.images,
        "cost": None if entry.micros is None else money_text(-entry.micros),
        "job_images": refunded.job_images,
    }
    return object_response(content)


async def _job_response(
    admin: Administrator, job_id: str, since_ms: int, *, journal: bool = False
) -> Response:
    operations = admin.gateway.operations
    story = await operations.jobs.story(job_id, since_ms)
    if story is None or (story.job is None and story.end is None):
        raise ObjectNotFound("Nobody knows such a job; its record and its entry are not here.")
    found = FoundJob(story.job, story.end)
    content: JobDetailBody = {
        **describe_job(found, admin.gateway.catalog.currency, operations.resolve_after_s),
        "timeline": build_timeline(story, operations.resolve_after_s),
        "log": [] if admin.bounds is not None else [*operations.read_log(job_id)],
    }
    if journal:
        ends_s = content["ended_at"] or await admin.keys.now_ms() // 1000
        span = content["created_at"] * 1000, ends_s * 1000
        changes = await operations.read_journal(job_id, *span)
        content["timeline"] += [describe_change(change) for change in changes]
    if story.entries:
        content["images"], content["cost"] = story.images, money_text(story.micros)
    return object_response(content)


def _parse_filter(request: Request, admin: Administrator) -> JobFilter:
    query = request.query_params
    since_ms = parameters.parse_query_time(query, "since", 0) * 1000
    until_ms = None
    if "until" in query:
        until_ms = parameters.parse_query_time(query, "until") * 1000
    if query.get("day"):
        try:
            day = admin.gateway.operations.calendar.day(date.fromisoformat(query["day"]))
        except (ValueError, OverflowError):
            raise parameters.invalid_value_error(
                "day", "day must be a day such as 2026-11-23."
            ) from None
        since_ms, until_ms = day.starts_ms, day.ends_ms
    return JobFilter(
        status=parameters.parse_query_choice(query, "status", STATUSES),
        since_ms=since_ms,
        until_ms=until_ms,
        **{name: frozenset(parameters.parse_query_list(query, name)) for name in FILTERS},
    )
