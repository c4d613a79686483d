"""GET /v1/organization/usage/images and /costs: OpenAI's administration API over our ledger.

Openai-compat study, section 10: team = project, the official SDK's `client.admin` works here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from app.api import queries
from app.api.answers import json_response
from app.api.auth import require_admin
from app.api.running import edge, running
from app.domain.money import format_micros
from app.domain.usage import UsageQuestion, UsageRow

SOURCE = "image.generation"
SOURCES = frozenset({SOURCE, "image.edit", "image.variation"})
DIMENSIONS = {
    "project_id": "team",
    "user_id": "user",
    "api_key_id": "key",
    "model": "model",
    "size": "size",
    "line_item": "model",
}
"""OpenAI's word -> ours."""
USAGE_GROUPS = frozenset({"project_id", "user_id", "api_key_id", "model", "size", "source"})
COST_GROUPS = frozenset({"project_id", "user_id", "api_key_id", "line_item", "api_source"})
WIDTHS_S = {"1m": 60, "1h": 3600, "1d": 86_400}
USAGE_LIMITS = {"1m": (60, 1440), "1h": (24, 168), "1d": (7, 31)}
COST_LIMITS = {"1d": (7, 180)}
PAGE = "page_"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of buckets. Times are Unix seconds, `until_s` exclusive; `next_s` starts the next
    page, None on the last."""

    since_s: int
    until_s: int
    width_s: int
    next_s: int | None


async def images(request: Request) -> Response:
    """Images per bucket, grouped and filtered as asked."""
    await require_admin(request)
    query = request.query_params
    page = _page(request, USAGE_LIMITS)
    groups = queries.chosen(query, "group_by", USAGE_GROUPS)
    sources = queries.chosen(query, "sources", SOURCES)
    if sources and SOURCE not in sources:
        return _answer(page, {})
    buckets = await running(request).gateway.usage.report(_question(query, page, groups))
    return _answer(
        page,
        {b.starts_ms // 1000: [_usage(row, groups) for row in b.rows] for b in buckets},
    )


async def costs(request: Request) -> Response:
    """Money per day; null where a price is not known."""
    await require_admin(request)
    query = request.query_params
    page = _page(request, COST_LIMITS)
    groups = queries.chosen(query, "group_by", COST_GROUPS)
    gateway = running(request).gateway
    buckets = await gateway.usage.report(_question(query, page, groups))
    currency = gateway.catalog.currency.lower()
    return _answer(
        page,
        {b.starts_ms // 1000: [_cost(row, groups, currency) for row in b.rows] for b in buckets},
    )


def _page(request: Request, limits: Mapping[str, tuple[int, int]]) -> Page:
    query = request.query_params
    since_s = queries.number(query, "start_time")
    until_s = queries.number(query, "end_time", int(edge(request).now()) + 1)
    width = query.get("bucket_width", "1d")
    if width not in limits:
        raise queries.invalid("bucket_width", f"bucket_width takes: {', '.join(limits)}.")
    usual, most = limits[width]
    limit = queries.number(query, "limit", usual)
    if not 1 <= limit <= most:
        raise queries.invalid("limit", f"limit must be 1 to {most} for this bucket_width.")
    if until_s <= since_s:
        raise queries.invalid("end_time", "end_time must be later than start_time.")
    width_s = WIDTHS_S[width]
    start_s = _resumed(query, since_s, width_s)
    end_s = start_s + limit * width_s
    return Page(start_s, min(end_s, until_s), width_s, end_s if end_s < until_s else None)


def _resumed(query: QueryParams, since_s: int, width_s: int) -> int:
    """Where this page starts: a cursor names a bucket of the same question."""
    cursor = query.get("page")
    if not cursor:
        return since_s
    digits = cursor.removeprefix(PAGE)
    if not cursor.startswith(PAGE) or queries.WHOLE.fullmatch(digits) is None:
        raise queries.invalid("page", "page must be a next_page of an earlier answer.")
    if int(digits) < since_s or (int(digits) - since_s) % width_s:
        raise queries.invalid("page", "page belongs to another question.")
    return int(digits)


def _question(query: QueryParams, page: Page, groups: tuple[str, ...]) -> UsageQuestion:
    by = tuple(dict.fromkeys(DIMENSIONS[group] for group in groups if group in DIMENSIONS))
    return UsageQuestion(
        since_ms=page.since_s * 1000,
        until_ms=page.until_s * 1000,
        by=by,
        bucket_ms=page.width_s * 1000,
        users=frozenset(queries.many(query, "user_ids")),
        teams=frozenset(queries.many(query, "project_ids")),
        keys=frozenset(queries.many(query, "api_key_ids")),
        models=frozenset(queries.many(query, "models")),
        sizes=frozenset(queries.many(query, "sizes")),
    )


def _usage(row: UsageRow, groups: tuple[str, ...]) -> dict[str, Any]:
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
    }


def _cost(row: UsageRow, groups: tuple[str, ...], currency: str) -> dict[str, Any]:
    by_item = "line_item" in groups
    amount = None
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
    }


def _answer(page: Page, results: Mapping[int, list[dict[str, Any]]]) -> Response:
    buckets = [
        {
            "object": "bucket",
            "start_time": start_s,
            "end_time": min(start_s + page.width_s, page.until_s),
            "results": results.get(start_s, []),
        }
        for start_s in range(page.since_s, page.until_s, page.width_s)
    ]
    content = {
        "object": "page",
        "data": buckets,
        "has_more": page.next_s is not None,
        "next_page": None if page.next_s is None else f"{PAGE}{page.next_s}",
    }
    return json_response(orjson.dumps(content), {"cache-control": "no-store"})
