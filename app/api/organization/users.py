"""Users of the organization, and of a project: people, and apps as service accounts."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.organization import projects
from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import read_fields, require_choice, require_title
from app.api.organization.limits import describe_limits, describe_raise, parse_limits_field
from app.api.organization.paging import (
    list_response,
    object_response,
    optional_seconds,
    parse_page,
    seconds,
    select_page,
)
from app.api.organization.wire import OrganizationUserObject, ProjectUserObject
from app.api.parameters import missing_error, parse_boolean, parse_string
from app.domain.administration import AdminScope, Conflict
from app.domain.principal import Team, User
from app.service.admin_errors import UserUnknown
from app.service.teams import MAX_TITLE_CHARS

ROLES = ("reader",)
PROJECT_ROLES = ("member",)
LACKING = frozenset({"developer_persona", "role_id", "technical_level"})


def email_of(user: User) -> str | None:
    return user.name if "@" in user.name else None


def describe_user(user: User, team: Team | None, used_ms: int | None) -> OrganizationUserObject:
    return {
        "id": user.name,
        "object": "organization.user",
        "name": user.title or user.name,
        "email": email_of(user),
        "role": "reader",
        "added_at": seconds(user.created_ms),
        "created": seconds(user.created_ms),
        "api_key_last_used_at": optional_seconds(used_ms),
        "is_service_account": user.service_account,
        "projects": {
            "object": "list",
            "data": []
            if user.team is None
            else [
                {
                    "id": user.team,
                    "name": (team and team.title) or user.team,
                    "role": "member",
                }
            ],
        },
        "disabled": user.disabled_ms is not None,
        "limits": describe_limits(user.limits),
        "raised": describe_raise(user.raised),
    }


def describe_project_user(user: User) -> ProjectUserObject:
    return {
        "id": user.name,
        "object": "organization.project.user",
        "name": user.title or user.name,
        "email": email_of(user),
        "role": "member",
        "added_at": seconds(user.created_ms),
    }


@admin_route(AdminScope.READ, for_team_admins=True)
async def index(request: Request, admin: Administrator) -> Response:
    emails = set(parameters.parse_query_list(request.query_params, "emails"))
    found, has_more = select_page(
        await sorted_users(admin),
        parse_page(request),
        lambda user: user.name,
        lambda user: user.deleted_ms is None and (not emails or user.name in emails),
    )
    teams = {team.name: team for team in await admin.keys.all_teams()}
    used = await _last_used_by_user(admin)
    objects = [describe_user(one, teams.get(one.team or ""), used.get(one.name)) for one in found]
    return list_response(objects, has_more=has_more)


@admin_route(AdminScope.READ, for_team_admins=True)
async def read(request: Request, admin: Administrator) -> Response:
    return await user_response(admin, await admin.keys.user(request.path_params["user_id"]))


@admin_route(AdminScope.READ, for_team_admins=True)
async def update(request: Request, admin: Administrator) -> Response:
    """`limits` needs `money`; `name` and `disabled` need `people`."""
    known = frozenset({"role", "name", "disabled", "limits"})
    body = await read_fields(request, known, LACKING)
    user = await admin.keys.user(request.path_params["user_id"])
    require_choice(body, "role", ROLES)
    limits = parse_limits_field(body, user.limits)
    disabled = None if body.get("disabled") is None else parse_boolean(body, "disabled")
    title = None if body.get("name") is None else require_title(body)
    if limits is not None:
        admin.require(AdminScope.MONEY)
        admin.keys.checked_limits(limits)  # before anything is written
    if limits is None or (title, disabled) != (None, None):
        admin.require(AdminScope.PEOPLE)
    if limits is not None:
        user = await admin.keys.set_user_limits(user.name, limits)
    if title is not None:
        user = await admin.keys.rename_user(user.name, title)
    if disabled is not None:
        user = await admin.keys.disable_user(user.name, disabled=disabled)
    return await user_response(admin, user)


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def delete(request: Request, admin: Administrator) -> Response:
    """Revokes all keys of the user; what was used stays in the ledger."""
    name = request.path_params["user_id"]
    await admin.require_money_to_relax(f"user:{name}")
    await admin.keys.delete_user(name)
    return object_response({"object": "organization.user.deleted", "id": name, "deleted": True})


# Users of a project ------------------------------------------------------------------------------


@admin_route(AdminScope.READ, for_team_admins=True)
async def index_project(request: Request, admin: Administrator) -> Response:
    team = await projects.find(request, admin)
    found, has_more = select_page(
        await sorted_users(admin),
        parse_page(request),
        lambda user: user.name,
        lambda user: is_member(user, team) and not user.service_account,
    )
    return list_response([describe_project_user(user) for user in found], has_more=has_more)


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def create_project_user(request: Request, admin: Administrator) -> Response:
    """Add a person to a project; one who is new gets the default limits. A person is in one project
    at most, so nobody is taken out of another."""
    team = await projects.find(request, admin)
    body = await read_fields(request, frozenset({"role", "email", "user_id"}))
    require_choice(body, "role", PROJECT_ROLES)
    name = parse_string(body, "user_id", MAX_TITLE_CHARS) or parse_string(
        body, "email", MAX_TITLE_CHARS
    )
    if name is None:
        raise missing_error("user_id")
    try:
        user = await admin.keys.user(name)
    except UserUnknown:
        limits = await admin.limits_of_reused_name(name)
        user = await admin.keys.create_user(name, team=team.name, limits=limits)
    if user.team not in (None, team.name):
        raise Conflict(
            "This user is in another project; nothing was changed. Remove them there first.",
            param="user_id",
        )
    if user.team is None:
        user = await admin.keys.move_user(user.name, team.name)
    return object_response(describe_project_user(user))


@admin_route(AdminScope.READ, for_team_admins=True)
async def read_project_user(request: Request, admin: Administrator) -> Response:
    _, user = await _find_member(request, admin)
    return object_response(describe_project_user(user))


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def update_project_user(request: Request, admin: Administrator) -> Response:
    """There is one role."""
    _, user = await _find_member(request, admin)
    body = await read_fields(request, frozenset({"role"}))
    require_choice(body, "role", PROJECT_ROLES)
    return object_response(describe_project_user(user))


@admin_route(AdminScope.PEOPLE)
async def delete_project_user(request: Request, admin: Administrator) -> Response:
    """Takes a person out of the project. Their keys go on, without the project's limits: where it
    has some, that needs `money`."""
    team, user = await _find_member(request, admin)
    await admin.require_money_to_relax(f"team:{team.name}", team)
    await admin.keys.move_user(user.name, None)
    content = {"object": "organization.project.user.deleted", "id": user.name, "deleted": True}
    return object_response(content)


async def _find_member(request: Request, admin: Administrator) -> tuple[Team, User]:
    """Raises `TeamUnknown`, `UserUnknown`."""
    team = await projects.find(request, admin)
    user = await admin.keys.user(request.path_params["user_id"])
    if not is_member(user, team) or user.service_account:
        raise UserUnknown
    return team, user


def is_member(user: User, team: Team) -> bool:
    return user.deleted_ms is None and user.team == team.name


async def sorted_users(admin: Administrator) -> list[User]:
    """All, deleted ones too, oldest first."""
    return sorted(await admin.keys.all_users(), key=lambda user: (user.created_ms, user.name))


async def user_response(admin: Administrator, user: User) -> Response:
    teams = {team.name: team for team in await admin.keys.all_teams()}
    used = await _last_used_by_user(admin)
    return object_response(describe_user(user, teams.get(user.team or ""), used.get(user.name)))


async def _last_used_by_user(admin: Administrator) -> Mapping[str, int]:
    used = await admin.keys.last_used()
    latest: dict[str, int] = {}
    for key in await admin.keys.keys():
        if key.id in used:
            latest[key.user] = max(latest.get(key.user, 0), used[key.id])
    return latest
