"""Admin keys: who may administer this deployment, and how much of it."""

from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.organization.access import Administrator, admin_route
from app.api.organization.api_keys import redact
from app.api.organization.fields import parse_lifetime, parse_words, read_fields, require_title
from app.api.organization.paging import (
    list_response,
    object_response,
    optional_seconds,
    parse_page,
    seconds,
    select_page,
)
from app.api.organization.wire_admin_keys import AdminKeyObject
from app.api.parameters import parse_string
from app.domain.administration import AdminKey, AdminScope
from app.domain.errors import InvalidRequest
from app.service.admin_errors import KeyUnknown
from app.service.admin_keys import SECRET_PREFIX
from app.service.teams import MAX_TITLE_CHARS

ORDERS = ("asc", "desc")


def describe_admin_key(key: AdminKey, used_ms: int | None = None) -> AdminKeyObject:
    return {
        "id": key.id,
        "object": "organization.admin_api_key",
        "name": key.name,
        "redacted_value": redact(SECRET_PREFIX, key.ending),
        "created_at": seconds(key.created_ms),
        "last_used_at": optional_seconds(used_ms),
        "expires_at": optional_seconds(key.expires_ms),
        "owner": {
            "type": "user",
            "object": "organization.user",
            "id": key.id,
            "name": key.name,
            "role": "owner",
            "created_at": seconds(key.created_ms),
        },
        "scopes": sorted(key.scopes),
        "project_id": key.team,
    }


@admin_route(AdminScope.READ)
async def index(request: Request, admin: Administrator) -> Response:
    """Keys that were not revoked, oldest first, or newest with `order=desc`."""
    order = parameters.parse_query_choice(request.query_params, "order", ORDERS)
    keys = list(await admin.admin_keys.keys())
    found, has_more = select_page(
        keys[::-1] if order == "desc" else keys,
        parse_page(request),
        lambda key: key.id,
        lambda key: key.revoked_ms is None,
    )
    used = await admin.keys.last_used()
    objects = [describe_admin_key(key, used.get(key.id)) for key in found]
    return list_response(objects, has_more=has_more)


@admin_route(AdminScope.ALL)
async def create(request: Request, admin: Administrator) -> Response:
    """`scopes` is Koi's own: read, people, money, all. Missing: all, as OpenAI's admin keys. With a
    `project_id` the key may act on that project only."""
    known = frozenset({"name", "expires_in_seconds", "scopes", "project_id"})
    body = await read_fields(request, known)
    words = parse_words(body, "scopes")
    if words is not None and (not words or not set(words).issubset(AdminScope)):
        raise InvalidRequest(
            "invalid_value", f"scopes takes: {', '.join(AdminScope)}.", param="scopes"
        )
    scopes = frozenset(map(AdminScope, words or (AdminScope.ALL,)))
    issued = await admin.admin_keys.issue(
        require_title(body),
        scopes,
        parse_lifetime(body),
        parse_string(body, "project_id", MAX_TITLE_CHARS),
    )
    return object_response({**describe_admin_key(issued.key), "value": issued.secret})


@admin_route(AdminScope.READ)
async def read(request: Request, admin: Administrator) -> Response:
    key = await admin.admin_keys.key(request.path_params["key_id"])
    if key.revoked_ms is not None:
        raise KeyUnknown
    used = await admin.keys.last_used()
    return object_response(describe_admin_key(key, used.get(key.id)))


@admin_route(AdminScope.ALL)
async def delete(request: Request, admin: Administrator) -> Response:
    """Ends the key for good, on all gateways within five seconds."""
    key = await admin.admin_keys.revoke(request.path_params["key_id"])
    kind = "organization.admin_api_key.deleted"
    return object_response({"object": kind, "id": key.id, "deleted": True})
