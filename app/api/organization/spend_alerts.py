"""Spend alerts of the organization, which is the house, and of projects."""

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.organization import projects
from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import parse_words, read_fields
from app.api.organization.money import MAX_CENTS, MICROS_PER_CENT
from app.api.organization.paging import list_response, object_response, parse_page, select_page
from app.api.organization.wire import SpendAlertObject
from app.api.parameters import (
    Body,
    missing_error,
    parse_choice,
    parse_integer,
    parse_string,
    unknown_parameter_error,
    wrong_type_error,
)
from app.domain.administration import AdminScope
from app.domain.errors import InvalidRequest
from app.domain.principal import HOUSE
from app.domain.spend_alerts import (
    MAX_RECIPIENT_CHARS,
    MAX_RECIPIENTS,
    SpendAlert,
    are_recipients,
)
from app.service.spend_alerts import AlertTerms, SpendAlertAdmin
from app.service.teams import MAX_TITLE_CHARS

KNOWN = frozenset({"currency", "interval", "notification_channel", "threshold_amount"})
CHANNEL_FIELDS = frozenset({"recipients", "type", "subject_prefix"})
ORDERS = ("asc", "desc")


@admin_route(AdminScope.READ)
async def index(request: Request, admin: Administrator) -> Response:
    """Oldest first, or newest first with `order=desc`."""
    return await _index(request, admin, HOUSE)


@admin_route(AdminScope.MONEY)
async def create(request: Request, admin: Administrator) -> Response:
    """A notice `budget.threshold` is published when a month's spending reaches the threshold. It
    names the recipients; Koi sends no mail, and refuses nothing."""
    terms = await _read_terms(request, admin)
    return _respond(admin, await _alerts(admin).create(HOUSE, terms))


@admin_route(AdminScope.READ)
async def read(request: Request, admin: Administrator) -> Response:
    return await _read(request, admin, HOUSE)


@admin_route(AdminScope.MONEY)
async def update(request: Request, admin: Administrator) -> Response:
    terms = await _read_terms(request, admin)
    return await _update(request, admin, HOUSE, terms)


@admin_route(AdminScope.MONEY)
async def delete(request: Request, admin: Administrator) -> Response:
    return await _delete(request, admin, HOUSE)


@admin_route(AdminScope.READ)
async def index_all(request: Request, admin: Administrator) -> Response:
    """Those of the house and of every project."""
    return await _index(request, admin, None)


@admin_route(AdminScope.READ)
async def index_project(request: Request, admin: Administrator) -> Response:
    return await _index(request, admin, await _team_scope(request, admin))


@admin_route(AdminScope.MONEY)
async def create_project(request: Request, admin: Administrator) -> Response:
    """The same for what a project's users spend together."""
    terms = await _read_terms(request, admin)
    scope = await _team_scope(request, admin)
    return _respond(admin, await _alerts(admin).create(scope, terms))


@admin_route(AdminScope.READ)
async def read_project(request: Request, admin: Administrator) -> Response:
    return await _read(request, admin, await _team_scope(request, admin))


@admin_route(AdminScope.MONEY)
async def update_project(request: Request, admin: Administrator) -> Response:
    terms = await _read_terms(request, admin)
    return await _update(request, admin, await _team_scope(request, admin), terms)


@admin_route(AdminScope.MONEY)
async def delete_project(request: Request, admin: Administrator) -> Response:
    return await _delete(request, admin, await _team_scope(request, admin))


async def _index(request: Request, admin: Administrator, scope: str | None) -> Response:
    query = request.query_params
    if "before" in query:
        raise InvalidRequest("unsupported_parameter", "Koi pages with after only.", param="before")
    found = list(await _alerts(admin).alerts(scope))
    if _parse_order(query) == "desc":
        found.reverse()
    page, has_more = select_page(found, parse_page(request), lambda one: one.id, lambda _: True)
    return list_response([describe_alert(one, _currency(admin)) for one in page], has_more=has_more)


async def _read(request: Request, admin: Administrator, scope: str) -> Response:
    return _respond(admin, await _alerts(admin).find(scope, request.path_params["alert_id"]))


async def _update(
    request: Request, admin: Administrator, scope: str, terms: AlertTerms
) -> Response:
    alert_id = request.path_params["alert_id"]
    return _respond(admin, await _alerts(admin).update(scope, alert_id, terms))


async def _delete(request: Request, admin: Administrator, scope: str) -> Response:
    deleted = await _alerts(admin).delete(scope, request.path_params["alert_id"])
    kind = f"{_noun(deleted)}.deleted"
    return object_response({"object": kind, "id": deleted.id, "deleted": True})


async def _team_scope(request: Request, admin: Administrator) -> str:
    return f"team:{(await projects.find(request, admin)).name}"


def _alerts(admin: Administrator) -> SpendAlertAdmin:
    return admin.gateway.spend_alerts.acting_as(admin.actor, admin.reason)


async def _read_terms(request: Request, admin: Administrator) -> AlertTerms:
    body = await read_fields(request, KNOWN)
    currency = _currency(admin)
    for name, known in (("currency", {currency, currency.lower()}), ("interval", {"month"})):
        if parse_choice(body, name, known, {}) is None:
            raise missing_error(name)
    cents = parse_integer(body, "threshold_amount", 0, MAX_CENTS)
    if cents is None:
        raise missing_error("threshold_amount")
    recipients, prefix = _parse_channel(body)
    return AlertTerms(cents * MICROS_PER_CENT, recipients, prefix)


def _parse_channel(body: Body) -> tuple[tuple[str, ...], str]:
    """Recipients, and what their subjects begin with."""
    channel = body.get("notification_channel")
    if channel is None:
        raise missing_error("notification_channel")
    if not isinstance(channel, dict):
        raise wrong_type_error("notification_channel", "an object")
    for name in channel:
        if name not in CHANNEL_FIELDS:
            raise unknown_parameter_error(name)
    if parse_choice(channel, "type", ("email",), {}) is None:
        raise missing_error("type")
    recipients = parse_words(channel, "recipients")
    if recipients is None:
        raise missing_error("recipients")
    if not are_recipients(recipients):
        raise InvalidRequest(
            "invalid_value",
            f"recipients takes at most {MAX_RECIPIENTS} addresses of {MAX_RECIPIENT_CHARS} "
            "characters.",
            param="recipients",
        )
    return recipients, parse_string(channel, "subject_prefix", MAX_TITLE_CHARS) or ""


def _parse_order(query: QueryParams) -> str:
    return parameters.parse_query_choice(query, "order", ORDERS) or "asc"


def _respond(admin: Administrator, alert: SpendAlert) -> Response:
    return object_response(describe_alert(alert, _currency(admin)))


def _currency(admin: Administrator) -> str:
    return admin.gateway.catalog.currency


def _noun(alert: SpendAlert) -> str:
    return "organization.spend_alert" if alert.scope == HOUSE else "project.spend_alert"


def describe_alert(alert: SpendAlert, currency: str) -> SpendAlertObject:
    return {
        "id": alert.id,
        "object": "organization.spend_alert" if alert.scope == HOUSE else "project.spend_alert",
        "currency": currency,
        "interval": "month",
        "threshold_amount": alert.threshold_micros // MICROS_PER_CENT,
        "notification_channel": {
            "type": "email",
            "recipients": list(alert.recipients),
            "subject_prefix": alert.subject_prefix or None,
        },
        "project_id": None if alert.scope == HOUSE else alert.scope.removeprefix("team:"),
    }
