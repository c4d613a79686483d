"""Service accounts: apps of a project, each a user of Koi's with its own keys."""

from starlette.requests import Request
from starlette.responses import Response

from app.api.organization import projects
from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import (
    derive_name,
    parse_lifetime,
    read_fields,
    require_choice,
    require_no_scopes,
    require_title,
)
from app.api.organization.paging import (
    list_response,
    object_response,
    optional_seconds,
    parse_page,
    seconds,
    select_page,
)
from app.api.organization.users import is_member, sorted_users
from app.api.organization.wire import NewKeyObject, NewServiceAccountObject, ServiceAccountObject
from app.api.parameters import parse_boolean
from app.domain.administration import AdminScope
from app.domain.errors import InvalidRequest
from app.domain.principal import User
from app.service.admin_errors import UserUnknown
from app.service.keys import IssuedKey

FIRST_KEY_NAME = "Secret Key"
ROLES = ("member",)


def describe_account(user: User) -> ServiceAccountObject:
    return {
        "id": user.name,
        "object": "organization.project.service_account",
        "name": user.title or user.name,
        "role": "member",
        "created_at": seconds(user.created_ms),
    }


def describe_new_key(issued: IssuedKey) -> NewKeyObject:
    return {
        "id": issued.key.id,
        "object": "organization.project.service_account.api_key",
        "name": issued.key.name,
        "value": issued.secret,
        "created_at": seconds(issued.key.created_ms),
        "expires_at": optional_seconds(issued.key.expires_ms),
    }


@admin_route(AdminScope.READ, for_team_admins=True)
async def index(request: Request, admin: Administrator) -> Response:
    team = await projects.find(request, admin)
    found, has_more = select_page(
        await sorted_users(admin),
        parse_page(request),
        lambda user: user.name,
        lambda user: is_member(user, team) and user.service_account,
    )
    return list_response([describe_account(user) for user in found], has_more=has_more)


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def create(request: Request, admin: Administrator) -> Response:
    """A service account with the default limits and its first key, which is shown this once."""
    team = await projects.find(request, admin)
    known = frozenset({"name", "create_service_account_only", "expires_in_seconds"})
    body = await read_fields(request, known)
    title, lifetime = require_title(body), parse_lifetime(body)
    keyless = parse_boolean(body, "create_service_account_only")
    if keyless and lifetime is not None:
        raise InvalidRequest(
            "invalid_value", "Without a key nothing can expire.", param="expires_in_seconds"
        )
    name = derive_name(title, "service")
    limits = await admin.limits_of_reused_name(name)
    user = await admin.keys.create_service_account(name, team.name, title=title, limits=limits)
    issued = None
    if not keyless:
        issued = await admin.keys.issue(user.name, name=FIRST_KEY_NAME, expires_in=lifetime)
    content: NewServiceAccountObject = {
        **describe_account(user),
        "api_key": None if issued is None else describe_new_key(issued),
    }
    return object_response(content)


@admin_route(AdminScope.READ, for_team_admins=True)
async def read(request: Request, admin: Administrator) -> Response:
    return object_response(describe_account(await _find(request, admin)))


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def update(request: Request, admin: Administrator) -> Response:
    user = await _find(request, admin)
    body = await read_fields(request, frozenset({"name", "role"}))
    require_choice(body, "role", ROLES)
    if body.get("name") is not None:
        user = await admin.keys.rename_user(user.name, require_title(body))
    return object_response(describe_account(user))


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def delete(request: Request, admin: Administrator) -> Response:
    """Revokes its keys; what was used stays in the ledger."""
    user = await _find(request, admin)
    await admin.require_money_to_relax(f"user:{user.name}")
    await admin.keys.delete_user(user.name)
    kind = "organization.project.service_account.deleted"
    return object_response({"object": kind, "id": user.name, "deleted": True})


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def create_key(request: Request, admin: Administrator) -> Response:
    """One more key, which is shown this once."""
    user = await _find(request, admin)
    body = await read_fields(request, frozenset({"name", "expires_in_seconds", "scopes"}))
    require_no_scopes(body)
    name = FIRST_KEY_NAME if body.get("name") is None else require_title(body)
    issued = await admin.keys.issue(user.name, name=name, expires_in=parse_lifetime(body))
    return object_response(describe_new_key(issued))


async def _find(request: Request, admin: Administrator) -> User:
    """Raises `TeamUnknown`, `UserUnknown`."""
    team = await projects.find(request, admin)
    user = await admin.keys.user(request.path_params["service_account_id"])
    if not is_member(user, team) or not user.service_account:
        raise UserUnknown
    return user
