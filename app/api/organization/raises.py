"""/v1/koi/…/raise: more of some limits for a while, for a user, a project or a key."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from app.api.organization import projects
from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import read_fields
from app.api.organization.limits import LIMIT_FIELDS, describe_raise, parse_limits
from app.api.organization.paging import object_response
from app.api.organization.wire import RaisedObject
from app.api.parameters import (
    Body,
    missing_error,
    parse_integer,
    parse_string,
)
from app.domain.administration import AdminScope
from app.domain.limits import Limits
from app.domain.principal import ApiKey, Team, User
from app.service.teams import MAX_REASON_CHARS

KNOWN = LIMIT_FIELDS | {"until", "reason"}
MAX_UNTIL_CHARS = 40
MAX_SECONDS = 10**11


@admin_route(AdminScope.MONEY, for_team_admins=True)
async def create_user(request: Request, admin: Administrator) -> Response:
    """Adds to a user's limits until a time. It replaces an earlier raise and ends by itself."""
    return await _create(request, admin, _user)


@admin_route(AdminScope.MONEY, for_team_admins=True)
async def delete_user(request: Request, admin: Administrator) -> Response:
    """Ends a user's raise now."""
    return await _delete(request, admin, _user)


@admin_route(AdminScope.MONEY)
async def create_project(request: Request, admin: Administrator) -> Response:
    """The same for the limits that a project's users share."""
    return await _create(request, admin, projects.find)


@admin_route(AdminScope.MONEY)
async def delete_project(request: Request, admin: Administrator) -> Response:
    """Ends a project's raise now."""
    return await _delete(request, admin, projects.find)


@admin_route(AdminScope.MONEY, for_team_admins=True)
async def create_key(request: Request, admin: Administrator) -> Response:
    """The same for a key's own limits; those of its user and project bind as before."""
    return await _create(request, admin, _key)


@admin_route(AdminScope.MONEY, for_team_admins=True)
async def delete_key(request: Request, admin: Administrator) -> Response:
    """Ends a key's raise now."""
    return await _delete(request, admin, _key)


Find = Callable[[Request, Administrator], Awaitable[User | Team | ApiKey]]


async def _create(request: Request, admin: Administrator, find: Find) -> Response:
    body = await read_fields(request, KNOWN)
    holder = await find(request, admin)
    until = _parse_until(body)
    reason = parse_string(body, "reason", MAX_REASON_CHARS) or admin.reason
    if not reason.strip():
        raise missing_error("reason")
    keys = admin.keys.acting_as(reason=reason)
    by = parse_limits(body, Limits())
    return _respond(await keys.raise_limits(holder, by, until, admin.gateway.zone))


async def _delete(request: Request, admin: Administrator, find: Find) -> Response:
    return _respond(await admin.keys.end_raise(await find(request, admin)))


def _parse_until(body: Body) -> str:
    value = body.get("until")
    if value is None:
        raise missing_error("until")
    if isinstance(value, str):
        return parse_string(body, "until", MAX_UNTIL_CHARS) or ""
    seconds = parse_integer(body, "until", 0, MAX_SECONDS) or 0
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _respond(holder: User | Team | ApiKey) -> Response:
    content: RaisedObject = {
        "object": "koi.raise",
        "id": holder.id if isinstance(holder, ApiKey) else holder.name,
        "raised": describe_raise(holder.raised),
    }
    return object_response(content)


async def _user(request: Request, admin: Administrator) -> User:
    return await admin.keys.user(request.path_params["user_id"])


async def _key(request: Request, admin: Administrator) -> ApiKey:
    return await admin.keys.key(request.path_params["api_key_id"])
