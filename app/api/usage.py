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
from app.domain.limits import Allowance, Meter, ScopeKind, Standing, Window
from app.domain.money import format_micros


async def read(request: Request) -> Response:
    """The limits that this key's holder has, what the holder used, and which limit binds first.

    What the house used is nobody's business but the operator's; that it binds is said.
    """
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
        "limits": [_allowance(one, now) for one in standing.allowances if _own(one)],
        "binding": _binding(standing, now),
    }
    headers = {"cache-control": "no-store", **limit_headers(standing)}
    return json_response(orjson.dumps(content), headers)


def _own(allowance: Allowance) -> bool:
    """The user's images are shown unlimited too: what was used is what people look for here."""
    if allowance.scope is ScopeKind.HOUSE:
        return False
    used = allowance.scope is ScopeKind.USER and allowance.meter is Meter.IMAGES
    return used or allowance.limit is not None


def _binding(standing: Standing, now: datetime) -> dict[str, Any] | None:
    """The limit that will refuse first, without its numbers: they may be the house's."""
    binding = standing.binding
    if binding is None:
        return None
    shown = _allowance(binding, now)
    return {name: shown[name] for name in ("scope", "meter", "window", "resets_at")}


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
