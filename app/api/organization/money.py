"""What a project may use: its rate limits, its spend limit and its models."""

from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response

from app.api.organization import projects
from app.api.organization.access import Administrator, admin_route
from app.api.organization.fields import parse_words, read_fields
from app.api.organization.limits import LIMIT_FIELDS, describe_limits, parse_limits
from app.api.organization.paging import list_response, object_response
from app.api.organization.wire import (
    ModelPermissionsObject,
    RateLimitObject,
    SpendLimitObject,
)
from app.api.parameters import missing_error, parse_choice, parse_integer
from app.domain.administration import AdminScope, ObjectNotFound
from app.domain.limits import LimitKind, LimitWindow, ScopeKind
from app.domain.principal import CachePolicy, Principal, Team, at, build_scopes

RATE_LIMIT_ID = "rl-all"
LACKING_LIMITS = frozenset(
    {
        "max_tokens_per_1_minute", "max_audio_megabytes_per_1_minute",
        "batch_1_day_max_input_tokens",
    }
)  # fmt: skip
MICROS_PER_CENT = 10_000
MAX_CENTS = 10**11
MODES = ("allow_list", "deny_list")
NOBODY = "-"


def describe_rate_limit(team: Team) -> RateLimitObject:
    return {
        "id": RATE_LIMIT_ID,
        "object": "project.rate_limit",
        "model": "*",
        "max_tokens_per_1_minute": 0,
        **describe_limits(team.limits),
    }


@admin_route(AdminScope.READ, for_team_admins=True)
async def index_rate_limits(request: Request, admin: Administrator) -> Response:
    """One object: Koi's limits hold for all models together."""
    team = await projects.find(request, admin)
    return list_response([describe_rate_limit(team)], has_more=False)


@admin_route(AdminScope.MONEY)
async def update_rate_limit(request: Request, admin: Administrator) -> Response:
    body = await read_fields(request, LIMIT_FIELDS, LACKING_LIMITS)
    team = await projects.find(request, admin)
    if request.path_params["rate_limit_id"] != RATE_LIMIT_ID:
        raise ObjectNotFound(f"There is one rate limit for all models: {RATE_LIMIT_ID}.")
    team = await admin.keys.set_team(team.name, parse_limits(body, team.limits))
    return object_response(describe_rate_limit(team))


# Spend limits ------------------------------------------------------------------------------------


@admin_route(AdminScope.READ, for_team_admins=True)
async def read_spend_limit(request: Request, admin: Administrator) -> Response:
    return await _spend_limit_response(admin, await projects.find(request, admin))


@admin_route(AdminScope.READ)
async def read_house_limit(_request: Request, admin: Administrator) -> Response:
    """The house's budget of a month, which the settings have."""
    return await _spend_limit_response(admin, None)


@admin_route(AdminScope.MONEY)
async def update_spend_limit(request: Request, admin: Administrator) -> Response:
    body = await read_fields(request, frozenset({"currency", "interval", "threshold_amount"}))
    team = await projects.find(request, admin)
    currency = admin.gateway.catalog.currency
    for name, known in (("currency", {currency, currency.lower()}), ("interval", {"month"})):
        if parse_choice(body, name, known, {}) is None:
            raise missing_error(name)
    cents = parse_integer(body, "threshold_amount", 0, MAX_CENTS)
    if cents is None:
        raise missing_error("threshold_amount")
    limits = replace(team.limits, micros_per_month=cents * MICROS_PER_CENT)
    return await _spend_limit_response(admin, await admin.keys.set_team(team.name, limits))


@admin_route(AdminScope.MONEY)
async def delete_spend_limit(request: Request, admin: Administrator) -> Response:
    team = await projects.find(request, admin)
    await admin.keys.set_team(team.name, replace(team.limits, micros_per_month=None))
    return object_response({"object": "project.spend_limit.deleted", "deleted": True})


async def _spend_limit_response(admin: Administrator, team: Team | None) -> Response:
    """`enforcing`: what is used and held leaves nothing of it. Without a limit there is none to
    read."""
    limits = admin.gateway.house if team is None else team.limits
    if limits.micros_per_month is None:
        raise ObjectNotFound("There is no spend limit.")
    name = NOBODY if team is None else team.name
    current = None if team is None else at(await admin.keys.now_ms(), team)
    scopes = build_scopes(admin.gateway.house, team=current)
    who = Principal(NOBODY, NOBODY, name, scopes, CachePolicy.OFF)
    kind = ScopeKind.HOUSE if team is None else ScopeKind.TEAM
    statuses = (await admin.gateway.usage.read_limits(who)).statuses
    (status,) = (
        one
        for one in statuses
        if (one.scope, one.kind, one.window) == (kind, LimitKind.MONEY, LimitWindow.MONTH)
    )
    content: SpendLimitObject = {
        "object": "organization.spend_limit" if team is None else "project.spend_limit",
        "currency": admin.gateway.catalog.currency,
        "interval": "month",
        "threshold_amount": limits.micros_per_month // MICROS_PER_CENT,
        "enforcement": {"status": "inactive" if status.remaining else "enforcing"},
    }
    return object_response(content)


# Models ------------------------------------------------------------------------------------------


@admin_route(AdminScope.READ, for_team_admins=True)
async def read_models(request: Request, admin: Administrator) -> Response:
    team = await projects.find(request, admin)
    if team.models is None and not team.denied_models:
        raise ObjectNotFound("There are no model permissions: every model may be used.")
    return _models_response(team)


@admin_route(AdminScope.MONEY)
async def update_models(request: Request, admin: Administrator) -> Response:
    team = await projects.find(request, admin)
    body = await read_fields(request, frozenset({"mode", "model_ids"}))
    mode, named = parse_choice(body, "mode", MODES, {}), parse_words(body, "model_ids")
    if mode is None or named is None:
        raise missing_error("mode" if mode is None else "model_ids")
    models = frozenset(named)
    team = await admin.keys.set_team_models(
        team.name,
        allowed=models if mode == "allow_list" else None,
        denied=models if mode == "deny_list" else frozenset(),
    )
    return _models_response(team)


@admin_route(AdminScope.MONEY)
async def delete_models(request: Request, admin: Administrator) -> Response:
    team = await projects.find(request, admin)
    await admin.keys.set_team_models(team.name, allowed=None)
    return object_response({"object": "project.model_permissions.deleted", "deleted": True})


def _models_response(team: Team) -> Response:
    allows = team.models is not None
    content: ModelPermissionsObject = {
        "object": "project.model_permissions",
        "mode": "allow_list" if allows else "deny_list",
        "model_ids": sorted((team.models or frozenset()) - team.denied_models)
        if allows
        else sorted(team.denied_models),
    }
    return object_response(content)
