"""People and keys as the operator looks through them: GET /v1/koi/people, /v1/koi/api_keys, …"""

from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.operator.standing import describe_standing, standing_name
from app.api.operator.wire import (
    IdentifiedObject,
    IdentifyBody,
    KeyListBody,
    KeyObject,
    PersonObject,
)
from app.api.organization.access import Administrator, admin_route
from app.api.organization.api_keys import SECRET_START, describe_owner, redact
from app.api.organization.fields import read_fields
from app.api.organization.limits import describe_limits, describe_raise
from app.api.organization.paging import (
    list_response,
    object_response,
    optional_seconds,
    parse_page,
    seconds,
)
from app.api.parameters import Schema, describe_query, missing_error, parse_string
from app.domain.administration import AdminScope
from app.domain.catalog import Catalog
from app.domain.limits import Limits
from app.domain.principal import Team, User
from app.service.people_values import IdentifiedSecret, KeyState, KnownKey, PeopleQuery, Person

KINDS = ("user", "team")
STATES = ("active", "disabled")
MAX_TEXT_CHARS = 20_000
MAX_SEARCH_CHARS = 120
CHARGED_PER_READ = 20
"""How many items of a page count as one more reading."""

SEARCH = describe_query("q", {"type": "string"}, "Part of a name or id.")
TEAM = describe_query("team", {"type": "string"}, "Only of this team.")
PEOPLE_PARAMETERS: list[Schema] = [
    describe_query("kind", {"type": "string", "enum": [*KINDS]}, "Missing: user."),
    SEARCH,
    TEAM,
    describe_query("state", {"type": "string", "enum": [*STATES]}, "Only these."),
    describe_query("above_80", {"type": "boolean"}, "Only whose limits are nearly used up."),
]
KEY_PARAMETERS: list[Schema] = [
    SEARCH,
    TEAM,
    describe_query("user", {"type": "string"}, "Only of this user."),
    describe_query("state", {"type": "string", "enum": [*KeyState]}, "Only these."),
]


@admin_route(AdminScope.READ, for_team_admins=True)
async def index(request: Request, admin: Administrator) -> Response:
    """Users or teams by name, with how their limits stand."""
    query, people = request.query_params, admin.gateway.operations.people
    wanted = _parse_query(request, parameters.parse_query_choice(query, "state", STATES))
    await admin.charge_read(wanted.limit / CHARGED_PER_READ)
    is_team = parameters.parse_query_choice(query, "kind", KINDS) == "team"
    page = await (people.teams(wanted) if is_team else people.users(wanted))
    catalog = admin.gateway.catalog
    return list_response(
        [describe_person(one, catalog) for one in page.people], has_more=page.has_more
    )


@admin_route(AdminScope.READ, for_team_admins=True)
async def read(request: Request, admin: Administrator) -> Response:
    """One user."""
    person = await admin.gateway.operations.people.user(request.path_params["user_id"])
    return object_response(describe_person(person, admin.gateway.catalog))


@admin_route(AdminScope.READ, for_team_admins=True)
async def index_keys(request: Request, admin: Administrator) -> Response:
    """All keys of everybody, newest first."""
    wanted = _parse_query(
        request, parameters.parse_query_choice(request.query_params, "state", tuple(KeyState))
    )
    await admin.charge_read(wanted.limit / CHARGED_PER_READ)
    page = await admin.gateway.operations.people.keys(wanted)
    objects = [describe_known_key(one) for one in page.keys]
    content: KeyListBody = {
        "object": "list",
        "data": objects,
        "first_id": objects[0]["id"] if objects else None,
        "last_id": objects[-1]["id"] if objects else None,
        "has_more": page.has_more,
        "total": page.total,
    }
    return object_response(content)


@admin_route(AdminScope.READ, for_team_admins=True)
async def identify(request: Request, admin: Administrator) -> Response:
    """Whose the keys in a text are: a leaked key, or a line of a log. The text is not kept."""
    body = await read_fields(request, frozenset({"text"}))
    text = parse_string(body, "text", MAX_TEXT_CHARS)
    if text is None or not text.strip():
        raise missing_error("text")
    found = await admin.gateway.operations.people.identify(text)
    content: IdentifyBody = {
        "object": "koi.identified",
        "found": [_describe_identified(one) for one in found],
    }
    return object_response(content)


def describe_person(person: Person, catalog: Catalog) -> PersonObject:
    holder, alarm = person.holder, person.alarming
    is_team = isinstance(holder, Team)
    return {
        "id": holder.name,
        "object": "koi.team" if isinstance(holder, Team) else "koi.person",
        "name": holder.title or holder.name,
        "team": None if isinstance(holder, Team) else holder.team,
        "is_service_account": not isinstance(holder, Team) and holder.service_account,
        "state": "archived"
        if isinstance(holder, Team) and holder.archived_ms is not None
        else ("active" if holder.disabled_ms is None else "disabled"),
        "created_at": seconds(holder.created_ms),
        "limits": describe_limits(holder.limits),
        "raised": describe_raise(holder.raised),
        "standing": describe_standing(person.statuses, catalog),
        "alarm": None if alarm is None else standing_name(alarm),
        "keys": person.keys,
        "members": person.members if is_team else None,
        "last_used_at": optional_seconds(person.used_ms),
    }


def describe_known_key(known: KnownKey) -> KeyObject:
    key, user = known.key, known.user
    return {
        "id": key.id,
        "object": "organization.project.api_key",
        "name": key.name,
        "redacted_value": redact(SECRET_START, key.ending),
        "created_at": seconds(key.created_ms),
        "last_used_at": optional_seconds(known.used_ms),
        "expires_at": optional_seconds(key.expires_ms),
        "owner": describe_owner(user or User(key.user, Limits(), key.created_ms)),
        "owner_project_access": "inactive" if known.state is KeyState.DISABLED else "active",
        "models": None if key.models is None else sorted(key.models),
        "limits": describe_limits(key.limits),
        "raised": describe_raise(key.raised),
        "forwards_users": key.forwards_users,
        "user": key.user,
        "team": None if known.team is None else known.team.name,
        "state": known.state.value,
        "revoked_at": optional_seconds(key.revoked_ms),
    }


def _describe_identified(found: IdentifiedSecret) -> IdentifiedObject:
    known, admin = found.known, found.admin
    if known is not None:
        kind, alive = "key", known.state is KeyState.ACTIVE
    else:
        kind, alive = ("unknown", False) if admin is None else ("admin_key", found.admin_alive)
    return {
        "kind": kind,  # type: ignore[typeddict-item]
        "alive": alive,
        "sentence": found.sentence,
        "key": None if known is None else describe_known_key(known),
        "admin_key_id": None if admin is None else admin.id,
        "admin_key_name": None if admin is None else admin.name,
    }


def _parse_query(request: Request, state: str | None) -> PeopleQuery:
    query, page = request.query_params, parse_page(request)
    return PeopleQuery(
        limit=page.limit,
        after=page.after,
        text=query.get("q", "")[:MAX_SEARCH_CHARS].strip(),
        team=query.get("team") or None,
        user=query.get("user") or None,
        state=state,
        alarming=parameters.parse_query_boolean(query, "above_80"),
    )
