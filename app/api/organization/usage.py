"""GET /v1/organization/usage/images and /costs: OpenAI's administration API over Koi's ledger.

A team is a project; the official SDK's `client.admin` works here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.organization.access import Administrator, admin_route
from app.api.parameters import INTEGER, Schema, describe_list, describe_query
from app.api.response_body import json_response
from app.api.state import get_edge_settings
from app.api.wire_usage import (
    BucketObject,
    BucketPageBody,
    CostResultObject,
    MoneyObject,
    Result,
    SaidFacts,
    UsageResultObject,
)
from app.domain.administration import AdminScope
from app.domain.money import format_micros
from app.domain.queries import UsageQuery, UsageRow

SOURCE = "image.generation"
KNOWN_SOURCES = frozenset({SOURCE, "image.edit", "image.variation"})
DIMENSIONS = {
    "project_id": "team",
    "user_id": "user",
    "api_key_id": "key",
    "model": "model",
    "size": "size",
    "line_item": "model",
    "openai_project": "project",
    "tag": "tag",
    "end_user": "end_user",
}
"""OpenAI's word -> the ledger's dimension. The last three are what requests said, in our own words:
OpenAI's project and user are our team and user here."""
SAID = ("openai_project", "tag", "end_user")
USAGE_GROUPS = frozenset({"project_id", "user_id", "api_key_id", "model", "size", "source", *SAID})
COST_GROUPS = frozenset({"project_id", "user_id", "api_key_id", "line_item", "api_source", *SAID})
FILTERS = {
    "project_ids": "teams",
    "user_ids": "users",
    "api_key_ids": "keys",
    "models": "models",
    "sizes": "sizes",
    "openai_projects": "projects",
    "tags": "tags",
    "end_users": "end_users",
}
"""What may be asked for only -> the field of `UsageQuery`."""
BUCKET_WIDTHS_S = {"1m": 60, "1h": 3600, "1d": 86_400}
USAGE_PAGE_LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
COST_PAGE_LIMITS = {"1d": (7, 180)}
CURSOR_PREFIX = "page_"


def _describe_page(limits: Mapping[str, tuple[int, int]], groups: frozenset[str]) -> list[Schema]:
    """The parameters of both routes. They are declared here, beside the code that reads them."""
    return [
        describe_query(
            "start_time", INTEGER, "Unix seconds; the first bucket starts here.", required=True
        ),
        describe_query("end_time", INTEGER, "Unix seconds, exclusive; missing: now."),
        describe_query("bucket_width", {"type": "string", "enum": [*limits]}, "Missing: 1d."),
        describe_query(
            "limit",
            {**INTEGER, "minimum": 1, "maximum": max(most for _, most in limits.values())},
            "Buckets on a page: "
            + ", ".join(f"{most} at most of {width}" for width, (_, most) in limits.items()),
        ),
        describe_query(
            "page", {"type": "string", "pattern": f"^{CURSOR_PREFIX}[0-9]+$"}, "A next_page."
        ),
        describe_list("group_by", "Dimensions to group by.", groups),
        *(describe_list(name, "Only these.") for name in FILTERS),
    ]


USAGE_PARAMETERS = [
    *_describe_page(USAGE_PAGE_LIMITS, USAGE_GROUPS),
    describe_list("sources", "Only these; Koi makes generations only.", KNOWN_SOURCES),
]
COST_PARAMETERS = _describe_page(COST_PAGE_LIMITS, COST_GROUPS)


@dataclass(frozen=True, slots=True)
class BucketPage:
    """One page of buckets. Times are Unix seconds, `until_s` exclusive; `next_s` starts the next
    page, None on the last."""

    since_s: int
    until_s: int
    width_s: int
    next_s: int | None


@admin_route(AdminScope.READ, for_team_admins=True)
async def images(request: Request, admin: Administrator) -> Response:
    """Images per bucket of time, grouped and filtered; the URL exists only with an admin key."""
    query = request.query_params
    page = _parse_page(request, USAGE_PAGE_LIMITS)
    groups = parameters.parse_query_choices(query, "group_by", USAGE_GROUPS)
    sources = parameters.parse_query_choices(query, "sources", KNOWN_SOURCES)
    if sources and SOURCE not in sources:
        return _build_page_response(page, dict[int, list[UsageResultObject]]())
    buckets = await admin.gateway.usage.report(_build_query(query, page, groups))
    return _build_page_response(
        page,
        {
            b.starts_ms // 1000: [_build_usage_result(row, groups) for row in b.rows]
            for b in buckets
        },
    )


@admin_route(AdminScope.READ, for_team_admins=True)
async def costs(request: Request, admin: Administrator) -> Response:
    """Money per day, null where a price is not known; the URL exists only with an admin key."""
    query = request.query_params
    page = _parse_page(request, COST_PAGE_LIMITS)
    groups = parameters.parse_query_choices(query, "group_by", COST_GROUPS)
    gateway = admin.gateway
    buckets = await gateway.usage.report(_build_query(query, page, groups))
    currency = gateway.catalog.currency.lower()
    return _build_page_response(
        page,
        {
            b.starts_ms // 1000: [_build_cost_result(row, groups, currency) for row in b.rows]
            for b in buckets
        },
    )


def _parse_page(request: Request, limits: Mapping[str, tuple[int, int]]) -> BucketPage:
    query = request.query_params
    since_s = parameters.parse_query_time(query, "start_time")
    until_s = parameters.parse_query_time(
        query, "end_time", int(get_edge_settings(request).now()) + 1
    )
    width = query.get("bucket_width", "1d")
    if width not in limits:
        raise parameters.invalid_value_error(
            "bucket_width", f"bucket_width takes: {', '.join(limits)}."
        )
    default_limit, max_limit = limits[width]
    limit = parameters.parse_query_integer(query, "limit", default_limit)
    if not 1 <= limit <= max_limit:
        raise parameters.invalid_value_error(
            "limit", f"limit must be 1 to {max_limit} for this bucket_width."
        )
    if until_s <= since_s:
        raise parameters.invalid_value_error("end_time", "end_time must be later than start_time.")
    width_s = BUCKET_WIDTHS_S[width]
    start_s = _parse_cursor(query, since_s, width_s)
    end_s = start_s + limit * width_s
    return BucketPage(start_s, min(end_s, until_s), width_s, end_s if end_s < until_s else None)


def _parse_cursor(query: QueryParams, since_s: int, width_s: int) -> int:
    """Where this page starts: a cursor names the start of a bucket of the same query."""
    cursor = query.get("page")
    if not cursor:
        return since_s
    digits = cursor.removeprefix(CURSOR_PREFIX)
    if not cursor.startswith(CURSOR_PREFIX) or parameters.QUERY_INTEGER.fullmatch(digits) is None:
        raise parameters.invalid_value_error(
            "page", "page must be a next_page of an earlier answer."
        )
    if not since_s <= int(digits) <= parameters.LATEST_S or (int(digits) - since_s) % width_s:
        raise parameters.invalid_value_error("page", "page belongs to another query.")
    return int(digits)


def _build_query(query: QueryParams, page: BucketPage, groups: tuple[str, ...]) -> UsageQuery:
    by = tuple(dict.fromkeys(DIMENSIONS[group] for group in groups if group in DIMENSIONS))
    return UsageQuery(
        since_ms=page.since_s * 1000,
        until_ms=page.until_s * 1000,
        by=by,
        bucket_ms=page.width_s * 1000,
        **{
            field: frozenset(parameters.parse_query_list(query, name))
            for name, field in FILTERS.items()
        },
    )


def _build_said(row: UsageRow, groups: tuple[str, ...]) -> SaidFacts:
    """What requests said, where it was grouped by."""
    said: SaidFacts = {}
    if "openai_project" in groups:
        said["openai_project"] = row.project
    if "tag" in groups:
        said["tag"] = row.tag
    if "end_user" in groups:
        said["end_user"] = row.end_user
    return said


def _build_usage_result(row: UsageRow, groups: tuple[str, ...]) -> UsageResultObject:
    return {
        "object": "organization.usage.images.result",
        "images": row.images,
        "num_model_requests": row.requests,
        "size": row.size,
        "source": SOURCE if "source" in groups else None,
        "model": row.model,
        "user_id": row.user,
        "api_key_id": row.key,
        "project_id": row.team,
        **_build_said(row, groups),
    }


def _build_cost_result(row: UsageRow, groups: tuple[str, ...], currency: str) -> CostResultObject:
    by_item = "line_item" in groups
    amount: MoneyObject | None = None
    if row.micros is not None:
        value = orjson.Fragment(format_micros(row.micros).encode())
        amount = {"value": value, "currency": currency}
    return {
        "object": "organization.costs.result",
        "amount": amount,
        "line_item": f"{row.model}, images" if by_item else None,
        "project_id": row.team,
        "user_id": row.user,
        "api_key_id": row.key,
        "api_source": "unlabeled" if "api_source" in groups else None,
        "quantity": row.images if by_item else None,
        "quantity_unit": "images" if by_item else None,
        **_build_said(row, groups),
    }


def _build_page_response(page: BucketPage, results: Mapping[int, list[Result]]) -> Response:
    buckets: list[BucketObject[Result]] = [
        {
            "object": "bucket",
            "start_time": start_s,
            "end_time": min(start_s + page.width_s, page.until_s),
            "results": results.get(start_s, []),
        }
        for start_s in range(page.since_s, page.until_s, page.width_s)
    ]
    content: BucketPageBody[Result] = {
        "object": "page",
        "data": buckets,
        "has_more": page.next_s is not None,
        "next_page": None if page.next_s is None else f"{CURSOR_PREFIX}{page.next_s}",
    }
    return json_response(orjson.dumps(content), {"cache-control": "no-store"})
