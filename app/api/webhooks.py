"""/v1/koi/webhooks: what became of a caller's webhooks, and the secret that signs them."""

import re
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.parameters import (
    CLAMPED_INTEGER,
    INTEGER,
    describe_query,
    parse_query_choice,
    parse_query_integer,
)
from app.api.response_body import json_response
from app.api.state import get_app_state
from app.api.webhook_wire import WebhookDeliveryListBody, WebhookDeliveryObject, WebhookSecretObject
from app.domain.administration import Actor, ObjectNotFound
from app.domain.principal import Principal
from app.domain.webhooks import Delivery
from app.service.webhook_secrets import WebhookSecret

DELIVERY_ID = re.compile(r"msg_[0-9a-f]{32}", re.ASCII)
DEFAULT_LIMIT, MAX_DELIVERIES = 20, 100
FILTERS = ("failed",)
LIST_PARAMETERS = [
    describe_query(
        "limit",
        {**INTEGER, "default": DEFAULT_LIMIT},
        f"Cut to 1 at least, {MAX_DELIVERIES} at most.",
    ),
    describe_query(
        "status", {"type": "string", "enum": [*FILTERS]}, "Only those whose latest try failed."
    ),
]


async def index(request: Request) -> Response:
    """Your webhooks' deliveries, newest first."""
    principal = await authenticate_request(request)
    limit = parse_query_integer(request.query_params, "limit", DEFAULT_LIMIT, CLAMPED_INTEGER)
    failed = parse_query_choice(request.query_params, "status", FILTERS) is not None
    webhooks = get_app_state(request).gateway.webhooks
    limit = min(max(limit, 1), MAX_DELIVERIES)
    found = await webhooks.list_newest(principal.user, limit, failed=failed)
    body: WebhookDeliveryListBody = {
        "object": "list",
        "data": [build_delivery_object(delivery) for delivery in found],
    }
    return _private(body)


async def redeliver(request: Request) -> Response:
    """Send one of your deliveries again, now, and for as long as a new one."""
    principal = await authenticate_request(request)
    delivery_id: str = request.path_params["delivery_id"]
    if DELIVERY_ID.fullmatch(delivery_id) is None:
        raise ObjectNotFound("There is no such delivery.")
    webhooks = get_app_state(request).gateway.webhooks
    return _private(build_delivery_object(await webhooks.redeliver(delivery_id, principal.user)))


async def read_secret(request: Request) -> Response:
    """The secret that signs your webhooks; it is made when it is first read. Not for a key that is
    restricted or ends."""
    principal, actor = await _authenticate_owner(request)
    webhooks = get_app_state(request).gateway.webhooks
    return _private(build_secret_object(await webhooks.read_secret(principal.user, actor)))


async def rotate_secret(request: Request) -> Response:
    """Make a new secret. Deliveries are signed with both for a day; until then there is no further
    one. Not for a key that is restricted or ends."""
    principal, actor = await _authenticate_owner(request)
    webhooks = get_app_state(request).gateway.webhooks
    return _private(build_secret_object(await webhooks.rotate_secret(principal.user, actor)))


async def _authenticate_owner(request: Request) -> tuple[Principal, Actor]:
    """Raises `HolderNotAllowed` for a key that may less than its user."""
    principal = await authenticate_request(request)
    await get_app_state(request).gateway.holder_keys.require_unrestricted(principal)
    return principal, principal.actor


def build_delivery_object(delivery: Delivery) -> WebhookDeliveryObject:
    return {
        "id": delivery.id,
        "object": "koi.webhook_delivery",
        "type": delivery.kind,
        "task_id": delivery.job_id,
        "url": delivery.url,
        "status": delivery.state,
        "tries": delivery.tries,
        "response_status": delivery.status,
        "error": delivery.error,
        "created_at": delivery.created_ms // 1000,
        "ended_at": _seconds(delivery.ended_ms),
        "next_try_at": _seconds(delivery.due_ms),
    }


def build_secret_object(secret: WebhookSecret) -> WebhookSecretObject:
    return {
        "object": "koi.webhook_secret",
        "secret": secret.secret,
        "created_at": secret.created_ms // 1000,
        "previous_signs_until": _seconds(secret.until_ms),
    }


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000


def _private(body: Any) -> Response:
    return json_response(orjson.dumps(body), {"cache-control": "no-store"})
