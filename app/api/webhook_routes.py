"""The routes of webhooks, and what the schema says of them."""

from typing import Any

from app.api import webhooks
from app.api.error_examples import KEY_CODES
from app.api.openapi import DocumentedRoute
from app.api.operations import COMMON_HEADERS, Answers, Operation, describe_answer, describe_path
from app.api.webhook_wire import WebhookDeliveryListBody, WebhookDeliveryObject, WebhookSecretObject

HEADERS = (*COMMON_HEADERS, "cache-control")
NOT_FOUND = frozenset({"object_not_found"})


def _operation(
    id: str, summary: str, body: Any, codes: frozenset[str] = frozenset(), **more: Any
) -> Operation:
    answer: Answers = {200: describe_answer(body, f"{summary}.", HEADERS)}
    return Operation(id, "Webhooks", summary, answer, KEY_CODES | codes, **more)


LIST_DELIVERIES = _operation(
    "listWebhookDeliveries",
    "List the deliveries of your webhooks",
    WebhookDeliveryListBody,
    frozenset({"invalid_value"}),
    parameters=webhooks.LIST_PARAMETERS,
)
REDELIVER = _operation(
    "redeliverWebhook",
    "Send a delivery again",
    WebhookDeliveryObject,
    NOT_FOUND,
    parameters=[
        describe_path(
            "delivery_id", "As in the list.", pattern=f"^{webhooks.DELIVERY_ID.pattern}$"
        ),
    ],
)
READ_SECRET = _operation(
    "readWebhookSecret",
    "Read the secret that signs your webhooks",
    WebhookSecretObject,
    frozenset({"not_allowed"}),
)
ROTATE_SECRET = _operation(
    "rotateWebhookSecret",
    "Make a new secret; the old one signs too for a day",
    WebhookSecretObject,
    frozenset({"conflict", "not_allowed"}),
)

WEBHOOK_ROUTES = (
    DocumentedRoute("GET", "/v1/koi/webhooks", webhooks.index, LIST_DELIVERIES),
    DocumentedRoute("GET", "/v1/koi/webhooks/secret", webhooks.read_secret, READ_SECRET),
    DocumentedRoute("POST", "/v1/koi/webhooks/secret", webhooks.rotate_secret, ROTATE_SECRET),
    DocumentedRoute(
        "POST", "/v1/koi/webhooks/{delivery_id}/redeliver", webhooks.redeliver, REDELIVER
    ),
)
