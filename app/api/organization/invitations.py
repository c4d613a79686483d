"""/v1/koi/invitations: links that turn into a key, once."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import parse_lifetime, read_fields
from app.api.organization.paging import (
    list_response,
    object_response,
    optional_seconds,
    parse_page,
    seconds,
    select_page,
)
from app.api.organization.wire import (
    AcceptedInvitationObject,
    InvitationObject,
    NewInvitationObject,
)
from app.api.parameters import missing_error, parse_string, unknown_parameter_error
from app.api.request_body import read_json
from app.api.response_body import get_public_origin
from app.api.state import get_app_state
from app.domain.administration import AdminScope
from app.domain.errors import InvalidRequest
from app.domain.invitation import Invitation, InvitationStatus
from app.service.invitations import DEFAULT_LIFE, MAX_LIFE, Invitations, invitation_path
from app.service.teams import MAX_TITLE_CHARS

KNOWN = frozenset({"user_id", "project_id", "name", "expires_in_seconds"})
MAX_TOKEN_CHARS = 128


def describe_invitation(invitation: Invitation, status: InvitationStatus) -> InvitationObject:
    return {
        "id": invitation.id,
        "object": "koi.invitation",
        "user_id": invitation.user,
        "name": invitation.name,
        "status": status,
        "created_at": seconds(invitation.created_ms),
        "expires_at": seconds(invitation.expires_ms),
        "revoked_at": optional_seconds(invitation.revoked_ms),
    }


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def create(request: Request, admin: Administrator) -> Response:
    """A link for a user, who is created when there is none. The link is shown this once."""
    body = await read_fields(request, KNOWN)
    user = parse_string(body, "user_id", MAX_TITLE_CHARS)
    if user is None:
        raise missing_error("user_id")
    life = parse_lifetime(body) or DEFAULT_LIFE
    issued = await _invitations(admin).create(
        user,
        team=admin.home(parse_string(body, "project_id", MAX_TITLE_CHARS)),
        name=parse_string(body, "name", MAX_TITLE_CHARS) or "",
        life=_checked_life(life),
        limits=await admin.limits_of_reused_name(user),
    )
    invitation = issued.invitation
    content: NewInvitationObject = {
        **describe_invitation(invitation, "open"),
        "url": get_public_origin(request) + invitation_path(issued.token),
    }
    return object_response(content)


@admin_route(AdminScope.READ, for_team_admins=True)
async def index(request: Request, admin: Administrator) -> Response:
    """Invitations that did not become a key, oldest first; ended ones too."""
    invitations = _invitations(admin)
    found, has_more = select_page(
        await invitations.invitations(),
        parse_page(request),
        lambda one: one.id,
        lambda _: True,
    )
    objects = list(map(describe_invitation, found, await invitations.statuses(found)))
    return list_response(objects, has_more=has_more)


@admin_route(AdminScope.PEOPLE, for_team_admins=True)
async def delete(request: Request, admin: Administrator) -> Response:
    """Withdraws an invitation: its link gives no key any more."""
    revoked = await _invitations(admin).revoke(request.path_params["invitation_id"])
    return object_response(describe_invitation(revoked, "revoked"))


async def accept(request: Request) -> Response:
    """Exchanges the token of a link for the user's API key, once: of several at the same time one
    gets it. No key is needed; the token is the proof."""
    body = await read_json(request)
    for name in body:
        if name != "token":
            raise unknown_parameter_error(name)
    token = parse_string(body, "token", MAX_TOKEN_CHARS)
    if token is None:
        raise missing_error("token")
    issued = await get_app_state(request).gateway.invitations.accept(token)
    content: AcceptedInvitationObject = {
        "object": "koi.invitation.accepted",
        "user_id": issued.key.user,
        "key_id": issued.key.id,
        "key": issued.secret,
        "base_url": f"{get_public_origin(request)}/v1",
    }
    return object_response(content)


def _checked_life(life: timedelta) -> timedelta:
    if life > MAX_LIFE:
        raise InvalidRequest(
            "invalid_value",
            "An invitation lives 366 days at most.",
            param="expires_in_seconds",
        )
    return life


def _invitations(admin: Administrator) -> Invitations:
    return admin.gateway.invitations.acting_as(admin.actor, admin.reason)
