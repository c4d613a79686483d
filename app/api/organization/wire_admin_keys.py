"""Admin keys as the administration API shows them."""

from typing import Annotated, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from app.api.wire import UnixSeconds


class AdminOwnerObject(TypedDict):
    type: Literal["user"]
    object: Literal["organization.user"]
    id: str
    name: str
    role: Literal["owner"]
    created_at: UnixSeconds


class AdminKeyObject(TypedDict):
    id: str
    object: Literal["organization.admin_api_key"]
    name: str
    redacted_value: str
    created_at: UnixSeconds
    last_used_at: UnixSeconds | None
    expires_at: UnixSeconds | None
    owner: AdminOwnerObject
    scopes: list[str]
    project_id: Annotated[str | None, Field(description="The one project it may act on.")]
    value: NotRequired[Annotated[str, Field(description="Only when it is created.")]]
