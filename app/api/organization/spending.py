"""/v1/koi/spending: the kill switch, for which OpenAI has no word."""

from starlette.requests import Request
from starlette.responses import Response

from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import read_fields
from app.api.organization.paging import object_response, seconds
from app.api.organization.wire import SpendingBody, SpendingStopObject
from app.api.parameters import missing_error, parse_boolean, parse_prompt, parse_string
from app.domain.administration import AdminScope, Conflict
from app.domain.limits import SpendingStop
from app.domain.principal import HOUSE
from app.service.teams import MAX_REASON_CHARS, MAX_TITLE_CHARS


@admin_route(AdminScope.READ)
async def read(_request: Request, admin: Administrator) -> Response:
    """What is stopped."""
    return await _spending_response(admin)


@admin_route(AdminScope.MONEY)
async def update(request: Request, admin: Administrator) -> Response:
    """Stop spending on every gateway, or let it go on: for everybody, a project or a user. Running
    jobs are finished and charged, and cached pictures are answered."""
    known = frozenset({"stopped", "reason", "project_id", "user_id"})
    body = await read_fields(request, known)
    if body.get("stopped") is None:
        raise missing_error("stopped")
    stopped = parse_boolean(body, "stopped")
    team = parse_string(body, "project_id", MAX_TITLE_CHARS)
    user = parse_string(body, "user_id", MAX_TITLE_CHARS)
    scope = await _find_scope(admin, team, user, stopped=stopped)
    if stopped:
        reason = parse_prompt(body, "reason", MAX_REASON_CHARS)
        await admin.keys.acting_as(reason=reason).stop_spending(scope, reason)
    else:
        reason = parse_string(body, "reason", MAX_REASON_CHARS) or admin.reason
        await admin.keys.acting_as(reason=reason).resume_spending(scope)
    return await _spending_response(admin)


async def _find_scope(
    admin: Administrator, team: str | None, user: str | None, *, stopped: bool
) -> str:
    """Raises `TeamUnknown`, `UserUnknown` when somebody unknown is to be stopped; what is stopped
    may always be resumed."""
    if team is not None and user is not None:
        raise Conflict("Name a project or a user, not both.", param="user_id")
    if team is not None:
        if stopped:
            await admin.keys.team(team)
        return f"team:{team}"
    if user is not None:
        if stopped:
            await admin.keys.user(user)
        return f"user:{user}"
    return HOUSE


async def _spending_response(admin: Administrator) -> Response:
    stops = await admin.keys.stops()
    content: SpendingBody = {
        "object": "koi.spending",
        "stopped": any(stop.scope == HOUSE for stop in stops),
        "stops": [_describe_stop(stop) for stop in stops],
    }
    return object_response(content)


def _describe_stop(stop: SpendingStop) -> SpendingStopObject:
    kind, _, name = stop.scope.partition(":")
    return {
        "project_id": name if kind == "team" else None,
        "user_id": name if kind == "user" else None,
        "reason": stop.reason,
        "stopped_at": seconds(stop.at_ms),
    }
