"""Projects, which are Koi's teams."""

from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import derive_name, read_fields, require_title
from app.api.organization.limits import describe_limits, describe_raise, parse_limits_field
from app.api.organization.paging import (
    list_response,
    object_response,
    optional_seconds,
    parse_page,
    seconds,
    select_page,
)
from app.api.organization.wire import ProjectObject
from app.api.parameters import parse_boolean
from app.domain.administration import AdminScope
from app.domain.limits import Limits
from app.domain.principal import Team

KNOWN = frozenset({"name", "limits"})
LACKING = frozenset({"external_key_id", "geography", "residency"})


def describe_project(team: Team) -> ProjectObject:
    return {
        "id": team.name,
        "object": "organization.project",
        "name": team.title or team.name,
        "created_at": seconds(team.created_ms),
        "archived_at": optional_seconds(team.archived_ms),
        "status": "active" if team.archived_ms is None else "archived",
        "disabled": team.disabled_ms is not None,
        "limits": describe_limits(team.limits),
        "raised": describe_raise(team.raised),
    }


@admin_route(AdminScope.READ, for_team_admins=True)
async def index(request: Request, admin: Administrator) -> Response:
    archived = parameters.parse_query_boolean(request.query_params, "include_archived")
    teams = sorted(await admin.keys.all_teams(), key=lambda team: (team.created_ms, team.name))
    found, has_more = select_page(
        teams,
        parse_page(request),
        lambda team: team.name,
        lambda team: team.deleted_ms is None and (archived or team.archived_ms is None),
    )
    return list_response([describe_project(team) for team in found], has_more=has_more)


@admin_route(AdminScope.PEOPLE)
async def create(request: Request, admin: Administrator) -> Response:
    """The id is the name where it can be one, and stays when the name is changed."""
    body = await read_fields(request, KNOWN, LACKING)
    title = require_title(body)
    limits = parse_limits_field(body, Limits())
    if limits is not None:
        admin.require(AdminScope.MONEY)
    team = await admin.keys.create_team(derive_name(title, "team"), limits or Limits(), title=title)
    return object_response(describe_project(team))


@admin_route(AdminScope.READ, for_team_admins=True)
async def read(request: Request, admin: Administrator) -> Response:
    return object_response(describe_project(await find(request, admin)))


@admin_route(AdminScope.READ)
async def update(request: Request, admin: Administrator) -> Response:
    """`name` and `disabled` need `people`, `limits` need `money`."""
    body = await read_fields(request, KNOWN | {"disabled"}, LACKING)
    team = await find(request, admin)
    limits = parse_limits_field(body, team.limits)
    title = None if body.get("name") is None else require_title(body)
    disabled = None if body.get("disabled") is None else parse_boolean(body, "disabled")
    if limits is not None:
        admin.require(AdminScope.MONEY)
        admin.keys.checked_limits(limits)  # before anything is written
    if limits is None or (title, disabled) != (None, None):
        admin.require(AdminScope.PEOPLE)
    if disabled is not None:
        team = await admin.keys.disable_team(team.name, disabled=disabled)
    if limits is not None:
        team = await admin.keys.set_team(team.name, limits)
    if title is not None:
        team = await admin.keys.rename_team(team.name, title)
    return object_response(describe_project(team))


@admin_route(AdminScope.PEOPLE)
async def archive(request: Request, admin: Administrator) -> Response:
    """The keys of its users are refused from now on; `koi teams restore` brings it back."""
    team = await find(request, admin)
    return object_response(describe_project(await admin.keys.archive_team(team.name)))


async def find(request: Request, admin: Administrator) -> Team:
    """The project of the path. Raises `TeamUnknown`."""
    return await admin.keys.team(request.path_params["project_id"])
