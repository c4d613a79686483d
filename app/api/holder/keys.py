"""/v1/koi/keys: a holder's own keys. `KOI_HOLDERS_MANAGE_KEYS` says what holders may do."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response

from app.api.holder.access import holder_route, read_fields
from app.api.holder.wire import HolderKeyListBody, HolderKeyObject, NewHolderKeyBody, RevokedKeyBody
from app.api.organization.api_keys import SECRET_START, redact
from app.api.organization.fields import parse_lifetime, parse_words, require_title
from app.api.organization.limits import describe_limits, parse_limits_field
from app.api.organization.paging import object_response, optional_seconds, seconds
from app.api.parameters import parse_integer
from app.api.state import get_app_state
from app.domain.limits import Limits
from app.domain.principal import ApiKey, Principal
from app.service.holder_keys import HolderKeys, NewKey
from app.service.keys import IssuedKey

MAX_OVERLAP_S = 7 * 86_400


@holder_route
async def index(request: Request, principal: Principal) -> Response:
    """All keys of your user that were not revoked, oldest first."""
    found = await _use_cases(request).list(principal)
    used = await _use_cases(request).last_used(found)
    content: HolderKeyListBody = {
        "object": "list",
        "data": [_describe(key, principal, used.get(key.id)) for key in found],
        "has_more": False,
    }
    return object_response(content)


@holder_route
async def create(request: Request, principal: Principal) -> Response:
    """One more key for yourself, shown this once; your limits bind it whatever it says."""
    body = await read_fields(request, frozenset({"name", "limits", "models", "expires_in_seconds"}))
    models = parse_words(body, "models")
    wanted = NewKey(
        name=require_title(body),
        limits=parse_limits_field(body, Limits()) or Limits(),
        models=None if models is None else frozenset(models),
        expires_in=parse_lifetime(body),
    )
    return _answer_new(await _use_cases(request).create(principal, wanted))


@holder_route
async def update(request: Request, principal: Principal) -> Response:
    """Rename a key of yours, or lower its limits. Only an operator raises them."""
    body = await read_fields(request, frozenset({"name", "limits"}))
    keys, key_id = _use_cases(request), request.path_params["key_id"]
    before = next((key.limits for key in await keys.list(principal) if key.id == key_id), Limits())
    key = await keys.narrow(
        principal,
        key_id,
        name=None if body.get("name") is None else require_title(body),
        limits=parse_limits_field(body, before),
    )
    used = await keys.last_used([key])
    return object_response(_describe(key, principal, used.get(key.id)))


@holder_route
async def delete(request: Request, principal: Principal) -> Response:
    """Ends a key of yours for good, on all gateways within five seconds."""
    key = await _use_cases(request).revoke(principal, request.path_params["key_id"])
    content: RevokedKeyBody = {"object": "koi.key.deleted", "id": key.id, "deleted": True}
    return object_response(content)


@holder_route
async def rotate(request: Request, principal: Principal) -> Response:
    """A new secret with the same rights, shown this once. The old one ends after the overlap;
    without one, or where the key has limits of its own, at once."""
    body = await read_fields(request, frozenset({"overlap_seconds"}))
    overlap = timedelta(seconds=parse_integer(body, "overlap_seconds", 0, MAX_OVERLAP_S) or 0)
    key_id: str = request.path_params["key_id"]
    return _answer_new(await _use_cases(request).rotate(principal, key_id, overlap))


def _use_cases(request: Request) -> HolderKeys:
    return get_app_state(request).gateway.holder_keys


def _describe(key: ApiKey, principal: Principal, used_ms: int | None) -> HolderKeyObject:
    return {
        "id": key.id,
        "object": "koi.key",
        "name": key.name,
        "redacted_value": redact(SECRET_START, key.ending),
        "created_at": seconds(key.created_ms),
        "last_used_at": optional_seconds(used_ms),
        "expires_at": optional_seconds(key.expires_ms),
        "models": None if key.models is None else sorted(key.models),
        "limits": describe_limits(key.limits),
        "is_this_one": key.id == principal.key_id,
    }


def _answer_new(issued: IssuedKey) -> Response:
    content: NewHolderKeyBody = {
        "object": "koi.key.created",
        "id": issued.key.id,
        "name": issued.key.name,
        "value": issued.secret,
        "created_at": seconds(issued.key.created_ms),
        "expires_at": optional_seconds(issued.key.expires_ms),
    }
    return object_response(content)
