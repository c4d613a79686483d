"""GET /v1/usage: the caller's own limits, what is used and held, when windows reset."""

from datetime import UTC, datetime, timedelta

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.parameters import Schema, describe_list, parse_query_choices
from app.api.response_body import json_response
from app.api.response_headers import build_limit_headers
from app.api.state import get_app_state, get_edge_settings
from app.api.wire_usage import BindingLimitObject, LimitObject, OwnUsageRow, UsageBody
from app.domain.limits import LimitKind, LimitSnapshot, LimitStatus, LimitWindow, ScopeKind
from app.domain.money import format_micros
from app.domain.principal import Principal
from app.domain.queries import USAGE_DIMENSIONS, UsageQuery, UsageRow
from app.service.usage_export import cost_of, group_of
from app.service.usage_periods import UsagePeriod, span_of

OWN_GROUPS = tuple(name for name in USAGE_DIMENSIONS if name not in ("user", "team"))
MAX_ROWS = 1_000
USAGE_PARAMETERS: list[Schema] = [
    describe_list("group_by", "Also what your user used this month, by these.", OWN_GROUPS)
]


async def read(request: Request) -> Response:
    """Your limits, what you used of them, what open jobs hold, and which limit will refuse first.

    Numbers of the whole deployment are not shown, only whether its limit is the one that binds.
    With `group_by` also what your user used this month by model, tag …, the largest first.
    """
    principal = await authenticate_request(request)
    gateway = get_app_state(request).gateway
    groups = parse_query_choices(request.query_params, "group_by", frozenset(OWN_GROUPS))
    limit_snapshot = await gateway.usage.read_limits(principal)
    now = datetime.fromtimestamp(get_edge_settings(request).now(), UTC)
    content = describe_usage(principal, limit_snapshot, gateway.catalog.currency, now)
    if groups:
        await gateway.rate_limiter.check_read_rate(principal)
        content["used"] = await _read_used(request, principal, groups)
    headers = {"cache-control": "no-store", **build_limit_headers(limit_snapshot)}
    return json_response(orjson.dumps(content), headers)


async def _read_used(
    request: Request, principal: Principal, groups: tuple[str, ...]
) -> list[OwnUsageRow]:
    gateway = get_app_state(request).gateway
    now_ms = int(get_edge_settings(request).now() * 1000)
    span = span_of(UsagePeriod.MONTH, gateway.operations.calendar, now_ms)
    question = UsageQuery(*span, groups, users=frozenset({principal.user}))
    (bucket,) = await gateway.usage.report(question)
    rows = sorted(bucket.rows, key=lambda row: (-row.images, group_of(row, groups)))
    return [_describe_row(row, groups) for row in rows[:MAX_ROWS]]


def _describe_row(row: UsageRow, groups: tuple[str, ...]) -> OwnUsageRow:
    named = {name: getattr(row, name) for name in groups}
    own = {"requests": row.requests, "images": row.images, "cost": cost_of(row)}
    return {**named, **own}  # type: ignore[typeddict-item]


def describe_usage(
    principal: Principal, limit_snapshot: LimitSnapshot, currency: str, now: datetime
) -> UsageBody:
    """Numbers of the whole deployment are left out."""
    return {
        "object": "usage",
        "user": principal.user,
        "team": principal.team,
        "key_id": principal.key_id,
        "currency": currency,
        "limits": [_describe_limit(one, now) for one in limit_snapshot.statuses if _is_shown(one)],
        "binding": _describe_binding(limit_snapshot, now),
    }


def _is_shown(status: LimitStatus) -> bool:
    """The user's images are shown even without a limit: people look here for what they used."""
    if status.scope is ScopeKind.HOUSE:
        return False
    own_images = status.scope is ScopeKind.USER and status.kind is LimitKind.IMAGES
    return own_images or status.limit is not None


def _describe_binding(limit_snapshot: LimitSnapshot, now: datetime) -> BindingLimitObject | None:
    """The limit that will refuse first, without its numbers: they may be the deployment's."""
    binding = limit_snapshot.binding
    return None if binding is None else describe_binding(binding, now)


def describe_binding(status: LimitStatus, now: datetime) -> BindingLimitObject:
    shown = _describe_limit(status, now)
    return {
        "scope": shown["scope"],
        "meter": shown["meter"],
        "window": shown["window"],
        "resets_at": shown["resets_at"],
    }


def _describe_limit(status: LimitStatus, now: datetime) -> LimitObject:
    resets_at = now + timedelta(seconds=status.reset_s)
    amount = format_micros if status.kind is LimitKind.MONEY else int
    limit, remaining = status.limit, status.remaining
    shown: LimitObject = {
        "scope": status.scope,
        "meter": status.kind,
        "window": status.window,
        "limit": None if limit is None else amount(limit),
        "used": amount(status.used),
        "held": amount(status.held),
        "remaining": None if remaining is None else amount(remaining),
        "resets_at": None if status.window is LimitWindow.NOW else _write_time(resets_at),
    }
    if status.raised_until_ms is not None:
        until = datetime.fromtimestamp(status.raised_until_ms / 1000, UTC)
        shown["raised"] = {"by": amount(status.raised_by), "until": _write_time(until)}
    return shown


def _write_time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
