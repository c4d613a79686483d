"""/v1/koi/…: what Koi can do with users, keys and projects and OpenAI's API has no route for."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from app.api.organization import projects
from app.api.organization.access import Administrator, admin_route
from app.api.organization.api_keys import describe_key
from app.api.organization.fields import (
    parse_lifetime,
    parse_words,
    read_fields,
    require_title,
)
from app.api.organization.limits import parse_limits_field
from app.api.organization.paging import list_response, object_response, parse_page, select_page
from app.api.organization.projects import describe_project
from app.api.organization.service_accounts import describe_new_key
from app.api.organization.users import user_response
from app.api.parameters import parse_integer, parse_string
from app.domain.administration import AdminScope, Conflict
from app.domain.limits import Limits
from app.service.admin_errors import TeamInUse
from app.service.teams import MAX_TITLE_CHARS

DEFAULT_OVERLAP_S = 86_400
MAX_OVERLAP_S = 366 * 86_400
LIMITED_FIELDS = frozenset({"name", "limits"})


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def create_user(request: Request, admin: Administrator) -> Response:
    """A person, in a project or in none; `name` is the id. `limits` other than the default ones
    need `money`."""
    body = await read_fields(request, LIMITED_FIELDS | {"title", "project_id"})
    limits = parse_limits_field(body, admin.keys.defaults)
    if limits is not None:
        admin.require(AdminScope.MONEY)
    name = require_title(body)
    user = await admin.keys.create_user(
        name,
        team=admin.home(parse_string(body, "project_id", MAX_TITLE_CHARS)),
        limits=limits or await admin.limits_of_reused_name(name),
        title=parse_string(body, "title", MAX_TITLE_CHARS) or "",
    )
    return await user_response(admin, user)


@admin_route(AdminScope.READ, for_team_admins=True)
async def index_keys(request: Request, admin: Administrator) -> Response:
    """Keys of a user in any project or none that were not revoked, oldest first."""
    user = await admin.keys.user(request.path_params["user_id"])
    team = None if user.team is None else await admin.keys.team(user.team)
    found, has_more = select_page(
        await admin.keys.keys(user.name),
        parse_page(request),
        lambda key: key.id,
        lambda key: key.revoked_ms is None,
    )
    used = await admin.keys.last_used()
    objects = [describe_key(key, user, team, used.get(key.id)) for key in found]
    return list_response(objects, has_more=has_more)


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def create_key(request: Request, admin: Administrator) -> Response:
    """A key for a user, which is shown this once. `limits` and `models` narrow the user's."""
    user = await admin.keys.user(request.path_params["user_id"])
    body = await read_fields(request, LIMITED_FIELDS | {"expires_in_seconds", "models"})
    models = parse_words(body, "models")
    issued = await admin.keys.issue(
        user.name,
        name=require_title(body),
        expires_in=parse_lifetime(body),
        models=None if models is None else frozenset(models),
        limits=parse_limits_field(body, Limits()),
    )
    return object_response(describe_new_key(issued))


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def delete_key(request: Request, admin: Administrator) -> Response:
    """Ends a key for good, on all gateways within five seconds."""
    key = await admin.keys.revoke(request.path_params["api_key_id"])
    kind = "organization.project.api_key.deleted"
    return object_response({"object": kind, "id": key.id, "deleted": True})


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def rotate_key(request: Request, admin: Administrator) -> Response:
    """A new secret with the same rights, shown this once; the old one ends after the overlap."""
    body = await read_fields(request, frozenset({"overlap_seconds"}))
    seconds = parse_integer(body, "overlap_seconds", 0, MAX_OVERLAP_S)
    overlap = timedelta(seconds=DEFAULT_OVERLAP_S if seconds is None else seconds)
    issued = await admin.keys.rotate(request.path_params["api_key_id"], overlap)
    return object_response(describe_new_key(issued))


@admin_route(AdminScope.PEOPLE)
async def restore_project(request: Request, admin: Administrator) -> Response:
    """Brings an archived project back, with its users, keys and limits."""
    team = await projects.find(request, admin)
    return object_response(describe_project(await admin.keys.restore_team(team.name)))


@admin_route(AdminScope.PEOPLE)
async def delete_project(request: Request, admin: Administrator) -> Response:
    """Takes a project without users off the lists; the ledger keeps what was used."""
    team = await projects.find(request, admin)
    await admin.require_money_to_relax(f"team:{team.name}")
    try:
        await admin.keys.delete_team(team.name)
    except TeamInUse as error:
        raise Conflict("This project has users; nothing was changed. Move them first.") from error
    kind = "organization.project.deleted"
    return object_response({"object": kind, "id": team.name, "deleted": True})
