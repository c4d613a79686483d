"""The keys of a project's users and service accounts."""

from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.organization import projects
from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import (
    parse_lifetime,
    parse_words,
    read_fields,
    require_no_scopes,
    require_title,
)
from app.api.organization.limits import describe_limits, describe_raise, parse_limits_field
from app.api.organization.paging import (
    list_response,
    object_response,
    optional_seconds,
    parse_page,
    seconds,
    select_page,
)
from app.api.organization.users import email_of, is_member
from app.api.organization.wire import KeyOwnerObject, OwnerObject, ProjectKeyObject
from app.domain.administration import AdminScope
from app.domain.principal import ApiKey, Team, User, is_enabled
from app.service.admin_errors import KeyUnknown

ACCESS = ("active", "inactive", "any")
CHANGEABLE = frozenset(
    {"expires_in_seconds", "scopes", "name", "models", "limits", "forwards_users"}
)
SECRET_START = "sk-koi-"  # noqa: S105


def describe_key(
    key: ApiKey, user: User, team: Team | None, used_ms: int | None
) -> ProjectKeyObject:
    return {
        "id": key.id,
        "object": "organization.project.api_key",
        "name": key.name,
        "redacted_value": redact(SECRET_START, key.ending),
        "created_at": seconds(key.created_ms),
        "last_used_at": optional_seconds(used_ms),
        "expires_at": optional_seconds(key.expires_ms),
        "owner": describe_owner(user),
        "owner_project_access": _access(user, team),
        "models": None if key.models is None else sorted(key.models),
        "limits": describe_limits(key.limits),
        "raised": describe_raise(key.raised),
        "forwards_users": key.forwards_users,
    }


def redact(start: str, ending: str) -> str:
    return f"{start}***{ending[-4:]}"


def describe_owner(user: User) -> OwnerObject:
    owner: KeyOwnerObject = {
        "id": user.name,
        "name": user.title or user.name,
        "role": "member",
        "created_at": seconds(user.created_ms),
    }
    if user.service_account:
        return {"type": "service_account", "service_account": owner}
    return {"type": "user", "user": {**owner, "email": email_of(user)}}


@admin_route(AdminScope.READ, for_team_admins=True)
async def index(request: Request, admin: Administrator) -> Response:
    """Keys that were not revoked, oldest first."""
    team = await projects.find(request, admin)
    wanted = parameters.parse_query_choice(request.query_params, "owner_project_access", ACCESS)
    users = {user.name: user for user in await admin.keys.all_users() if is_member(user, team)}

    def is_visible(key: ApiKey) -> bool:
        if key.revoked_ms is not None or key.user not in users:
            return False
        return wanted in (None, "any") or _access(users[key.user], team) == wanted

    keys = await admin.keys.keys()
    found, has_more = select_page(keys, parse_page(request), lambda key: key.id, is_visible)
    used = await admin.keys.last_used()
    objects = [describe_key(key, users[key.user], team, used.get(key.id)) for key in found]
    return list_response(objects, has_more=has_more)


@admin_route(AdminScope.READ, for_team_admins=True)
async def read(request: Request, admin: Administrator) -> Response:
    return await _key_response(admin, *await _find(request, admin))


@admin_route(AdminScope.READ, for_team_admins=True)
async def update(request: Request, admin: Administrator) -> Response:
    """`limits` and `models` need `money`, the rest needs `people`."""
    body = await read_fields(request, CHANGEABLE)
    # Only now: the caller may take its time over the body, and others change the key meanwhile.
    team, user, key = await _find(request, admin)
    require_no_scopes(body)
    lifetime, limits = parse_lifetime(body), parse_limits_field(body, key.limits)
    models = parse_words(body, "models")
    name = None if body.get("name") is None else require_title(body)
    forwards = None
    if body.get("forwards_users") is not None:
        forwards = parameters.parse_boolean(body, "forwards_users")
    costly = limits is not None or "models" in body
    if costly:
        admin.require(AdminScope.MONEY)
    if not costly or (name, lifetime, forwards) != (None, None, None):
        admin.require(AdminScope.PEOPLE)
    expires_ms = key.expires_ms
    if lifetime is not None:
        expires_ms = await admin.keys.now_ms() + round(lifetime.total_seconds() * 1000)
    allowed = None if models is None else frozenset(models)
    key = await admin.keys.set_key(
        key,
        limits=limits or key.limits,
        name=name or key.name,
        models=allowed if "models" in body else key.models,
        expires_ms=expires_ms,
        response_format=key.response_format,
    )
    if forwards is not None:
        key = await admin.keys.set_forwards_users(key.id, forwards)
    return await _key_response(admin, team, user, key)


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def delete(request: Request, admin: Administrator) -> Response:
    """Ends the key for good, on all gateways within five seconds."""
    _, _, key = await _find(request, admin)
    await admin.keys.revoke(key.id)
    kind = "organization.project.api_key.deleted"
    return object_response({"object": kind, "id": key.id, "deleted": True})


async def _find(request: Request, admin: Administrator) -> tuple[Team, User, ApiKey]:
    """Raises `TeamUnknown`, `UserUnknown`, `KeyUnknown`."""
    team = await projects.find(request, admin)
    key = await admin.keys.key(request.path_params["api_key_id"])
    user = await admin.keys.user(key.user)
    if key.revoked_ms is not None or not is_member(user, team):
        raise KeyUnknown
    return team, user, key


async def _key_response(admin: Administrator, team: Team, user: User, key: ApiKey) -> Response:
    used = await admin.keys.last_used()
    return object_response(describe_key(key, user, team, used.get(key.id)))


def _access(user: User, team: Team | None) -> Literal["active", "inactive"]:
    is_open = is_enabled(user) and (team is None or is_enabled(team))
    return "active" if is_open else "inactive"
