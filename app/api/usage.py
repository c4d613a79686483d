"""GET /v1/usage: the caller's own limits, what is used and held, when windows reset."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.answers import json_response
from app.api.auth import caller
from app.api.headers import limit_headers
from app.api.running import edge, running
from app.domain.limits import Allowance, Meter, Window
from app.domain.money import format_micros


async def read(request: Request) -> Response:
    """Every allowance that binds this key, unlimited ones with a null limit."""
    principal = await caller(request)
    gateway = running(request).gateway
    standing = await gateway.usage.standing(principal)
    now = datetime.fromtimestamp(edge(request).now(), UTC)
    content = {
        "object": "usage",
        "user": principal.user,
        "team": principal.team,
        "key_id": principal.key_id,
        "currency": gateway.catalog.currency,
        "limits": [_allowance(allowance, now) for allowance in standing.allowances],
    }
    headers = {"cache-control": "no-store", **limit_headers(standing)}
    return json_response(orjson.dumps(content), headers)


def _allowance(allowance: Allowance, now: datetime) -> dict[str, Any]:
    resets_at = now + timedelta(seconds=allowance.reset_s)
    amount = format_micros if allowance.meter is Meter.MONEY else int
    limit, remaining = allowance.limit, allowance.remaining
    return {
        "scope": allowance.scope,
        "meter": allowance.meter,
        "window": allowance.window,
        "limit": None if limit is None else amount(limit),
        "used": amount(allowance.used),
        "held": amount(allowance.held),
        "remaining": None if remaining is None else amount(remaining),
        "resets_at": None
        if allowance.window is Window.NOW
        else resets_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
