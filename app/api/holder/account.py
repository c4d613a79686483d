"""GET /v1/koi/account and /v1/koi/catalog, POST /v1/koi/limit_requests: what a holder may, what it
costs, and how to ask for more."""

from starlette.requests import Request
from starlette.responses import Response

from app.api.holder.access import holder_route, read_fields
from app.api.holder.wire import (
    AccountBody,
    CatalogBody,
    CatalogModelObject,
    LimitRequestBody,
    StopObject,
)
from app.api.organization.paging import object_response, optional_seconds
from app.api.parameters import parse_integer, parse_prompt
from app.api.state import get_app_state, get_edge_settings
from app.api.wire import PriceObject
from app.domain.catalog import Model
from app.domain.money import format_micros
from app.domain.notices import Notice, NoticeKind
from app.domain.principal import HOUSE, Principal
from app.service.teams import MAX_REASON_CHARS

MAX_WANTED = 10**9


@holder_route
async def read(request: Request, principal: Principal) -> Response:
    """Your key, what you may do with your keys, and whether spending is stopped for you."""
    gateway, settings = get_app_state(request).gateway, get_edge_settings(request)
    key = await gateway.holder_keys.own(principal)
    content: AccountBody = {
        "object": "koi.account",
        "user": principal.user,
        "team": principal.team,
        "key_id": key.id,
        "key_name": key.name,
        "key_expires_at": optional_seconds(key.expires_ms),
        "currency": gateway.catalog.currency,
        "manage_keys": gateway.holder_keys.allowed,
        "operator_receives_notices": settings.notices,
        "stopped": await _find_stop(request, principal),
    }
    return object_response(content)


async def _find_stop(request: Request, principal: Principal) -> StopObject | None:
    """What keeps this user from spending, the widest first. The reason of a stop is written for
    those whom it stops."""
    names = {
        "house": HOUSE,
        "team": f"team:{principal.team}",
        "user": f"user:{principal.user}",
    }
    stops = {stop.scope: stop for stop in await get_app_state(request).gateway.keys.stops()}
    for scope, name in names.items():
        if name in stops:
            return {"scope": scope, "reason": stops[name].reason}
    return None


@holder_route
async def catalog(request: Request, principal: Principal) -> Response:
    """The models this key may use, with their sizes, qualities and prices."""
    offered = get_app_state(request).gateway.catalog
    content: CatalogBody = {
        "object": "koi.catalog",
        "currency": offered.currency,
        "default_model": offered.default_model,
        "max_n": get_edge_settings(request).max_images,
        "models": [
            _describe_model(model) for model in offered.enabled if principal.may_use(model.name)
        ],
    }
    return object_response(content)


def _describe_model(model: Model) -> CatalogModelObject:
    prices: list[PriceObject] = [
        {
            "size": size,
            "quality": quality,
            "price": None
            if (micros := model.price(size, quality)) is None
            else format_micros(micros),
        }
        for size in model.sizes
        for quality in model.qualities
    ]
    return {
        "id": model.name,
        "sizes": list(model.sizes),
        "qualities": list(model.qualities),
        "max_prompt_chars": model.max_prompt_chars,
        "prices": prices,
    }


@holder_route
async def request_limit(request: Request, principal: Principal) -> Response:
    """Ask the operator for more, once an hour. The answer says whether anybody is told."""
    known = frozenset({"reason", "images_per_day"})
    body = await read_fields(request, known)
    reason = parse_prompt(body, "reason", MAX_REASON_CHARS)
    wanted = parse_integer(body, "images_per_day", 1, MAX_WANTED)
    data = {"reason": reason, "images_per_day": wanted, "key": principal.key_id}
    notice = Notice(NoticeKind.LIMIT_REQUESTED, f"user:{principal.user}", data)
    content: LimitRequestBody = {
        "object": "koi.limit_request",
        "published": await get_app_state(request).gateway.notices.publish(notice),
        "operator_receives_notices": get_edge_settings(request).notices,
    }
    return object_response(content)
