"""The bodies of answers about webhooks, as types; see `app.api.wire`."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.api.wire import UnixSeconds
from app.domain.webhooks import DeliveryState


class WebhookDeliveryObject(TypedDict):
    """One message to one URL; `next_try_at` while it waits."""

    id: Annotated[str, Field(description="As in the header webhook-id of every try.")]
    object: Literal["koi.webhook_delivery"]
    type: str
    task_id: str | None
    url: str
    status: DeliveryState
    tries: int
    response_status: int | None
    error: Annotated[str | None, Field(description="Why the latest try failed.")]
    created_at: UnixSeconds
    ended_at: UnixSeconds | None
    next_try_at: UnixSeconds | None


class WebhookDeliveryListBody(TypedDict):
    object: Literal["list"]
    data: list[WebhookDeliveryObject]


class WebhookSecretObject(TypedDict):
    object: Literal["koi.webhook_secret"]
    secret: Annotated[str, Field(description="whsec_ and base64, as Standard Webhooks has it.")]
    created_at: UnixSeconds
    previous_signs_until: UnixSeconds | None
