"""The audit log in OpenAI's words."""

import re
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.organization.access import Administrator, admin_route
from app.api.organization.paging import list_response, parse_page, seconds
from app.api.organization.wire import AuditActorObject, AuditLogObject
from app.api.parameters import parse_query_list, parse_query_time
from app.domain.administration import ActorKind, AdminScope, AuditQuery, AuditRecord
from app.domain.errors import InvalidRequest

SCAN_TOKENS = 10
"""What one page counts as readings: a filter may have to look at the whole log."""
ID_PREFIX = "audit_log-"
RECORD_ID = re.compile(re.escape(ID_PREFIX) + r"([0-9]{1,15}-[0-9]{1,15})")
EVENTS = {
    "team.created": "project.created",
    "team.updated": "project.updated",
    "team.disabled": "project.updated",
    "team.enabled": "project.updated",
    "team.restored": "project.updated",
    "team.archived": "project.archived",
    "team.deleted": "project.deleted",
    "team.raised": "project.updated",
    "team.raise_ended": "project.updated",
    "user.created": "user.added",
    "user.raised": "user.updated",
    "user.raise_ended": "user.updated",
    "user.updated": "user.updated",
    "user.disabled": "user.updated",
    "user.enabled": "user.updated",
    "user.deleted": "user.deleted",
    "service_account.created": "service_account.created",
    "service_account.updated": "service_account.updated",
    "service_account.disabled": "service_account.updated",
    "service_account.enabled": "service_account.updated",
    "service_account.deleted": "service_account.deleted",
    "service_account.raised": "service_account.updated",
    "service_account.raise_ended": "service_account.updated",
    "key.created": "api_key.created",
    "key.raised": "api_key.updated",
    "key.raise_ended": "api_key.updated",
    "key.updated": "api_key.updated",
    "key.rotated": "api_key.updated",
    "key.revoked": "api_key.deleted",
    "invitation.created": "invite.sent",
    "invitation.revoked": "invite.deleted",
    "invitation.accepted": "invite.accepted",
    "admin_key.created": "tenant.admin_api_key.created",
    "admin_key.revoked": "tenant.admin_api_key.deleted",
    "spend_alert.created": "organization.updated",
    "spend_alert.updated": "organization.updated",
    "spend_alert.deleted": "organization.updated",
    "spending.stopped": "organization.updated",
    "spending.resumed": "organization.updated",
    "ledger.adjusted": "organization.updated",
    "job.cancelled": "organization.updated",
    "ledger.restored": "organization.updated",
    "ledger.downloaded": "organization.updated",
}
"""Koi's word for a change -> OpenAI's type of an event, complete by test."""
DAY_MS = 1000


@admin_route(AdminScope.READ, for_team_admins=True)
async def index(request: Request, admin: Administrator) -> Response:
    """The newest first."""
    query, page = request.query_params, parse_page(request)
    if "before" in query:
        raise InvalidRequest("unsupported_parameter", "Koi pages with after only.", param="before")
    types = set(parse_query_list(query, "event_types"))
    kinds = frozenset(kind for kind, event in EVENTS.items() if event in types)
    if (types and not kinds) or parse_query_list(query, "actor_emails"):
        return list_response([], has_more=False)
    await admin.charge_read(SCAN_TOKENS)
    found = await admin.gateway.audit_log.page(
        AuditQuery(
            since_ms=_parse_bound(query, "gte", "gt") or 0,
            until_ms=_parse_bound(query, "lt", "lte"),
            teams=frozenset(parse_query_list(query, "project_ids")),
            actors=frozenset(parse_query_list(query, "actor_ids")),
            targets=frozenset(parse_query_list(query, "resource_ids")),
            kinds=kinds,
            limit=page.limit,
            after=_parse_after(page.after),
        )
    )
    objects = [describe_record(record) for record in found.records]
    return list_response(objects, has_more=found.has_more)


def describe_record(record: AuditRecord) -> AuditLogObject:
    event = EVENTS.get(record.kind, "organization.updated")
    target = record.target.partition(":")[2] or record.target
    requested = {name: _show(name, new) for name, (_, new) in record.changes.items()}
    details: dict[str, Any] = {event: {"id": target, "changes_requested": requested}}
    return {
        "id": f"{ID_PREFIX}{record.id}",
        "type": event,
        "effective_at": seconds(record.at_ms),
        "actor": _describe_actor(record.actor),
        "project": None if record.team is None else {"id": record.team, "name": record.team},
        **details,  # type: ignore[typeddict-item]
        "koi": {
            "kind": record.kind,
            "target": record.target,
            "user": record.user,
            "reason": record.reason or None,
            "changes": {
                name: [_show(name, value) for value in pair]
                for name, pair in record.changes.items()
            },
        },
    }


def _show(name: str, value: Any) -> Any:
    """The query of a webhook's URL often holds a token."""
    return value.partition("?")[0] if name == "webhook" and isinstance(value, str) else value


def _describe_actor(text: str) -> AuditActorObject:
    kind, _, id = text.partition(":")
    if kind in (ActorKind.ADMIN_KEY, ActorKind.KEY):
        return {"type": "api_key", "api_key": {"id": id, "type": "user", "user": {"id": id}}}
    return {"type": "session", "session": {"user": {"id": id}}}


def _parse_bound(query: QueryParams, inclusive: str, exclusive: str) -> int | None:
    """Milliseconds of `effective_at[…]`, which has whole seconds: `gte` and `lt` are as they say,
    `gt` and `lte` are one second later."""
    bounds = []
    for word, later_s in ((inclusive, 0), (exclusive, 1)):
        name = f"effective_at[{word}]"
        if name in query:
            bounds.append((parse_query_time(query, name) + later_s) * 1000)
    if not bounds:
        return None
    return max(bounds) if inclusive == "gte" else min(bounds)


def _parse_after(text: str | None) -> str | None:
    if text is None:
        return None
    match = RECORD_ID.fullmatch(text)
    if match is None:
        raise parameters.invalid_value_error("after", "after must be a last_id of this list.")
    return match[1]
