"""The bodies of answers to holders as types."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.api.organization.wire import LimitsObject
from app.api.wire import PriceObject, UnixSeconds
from app.domain.holders import KeyManagement
from app.domain.session import SessionRole


class SessionBody(TypedDict):
    """Who is signed in. `scopes` are an operator's; one with a `team` is held to it."""

    object: Literal["koi.session"]
    role: SessionRole
    user: str | None
    team: str | None
    key_id: str
    scopes: list[str]
    expires_at: Annotated[UnixSeconds | None, Field(description="Null for a key in a header.")]


class SignedOutBody(TypedDict):
    object: Literal["koi.session.deleted"]
    deleted: bool


class StopObject(TypedDict):
    """An operator's order that nothing is spent. `scope` is house, team or user."""

    scope: str
    reason: str


class AccountBody(TypedDict):
    object: Literal["koi.account"]
    user: str
    team: str | None
    key_id: str
    key_name: str
    key_expires_at: UnixSeconds | None
    currency: str
    manage_keys: KeyManagement
    operator_receives_notices: bool
    stopped: StopObject | None


class CatalogModelObject(TypedDict):
    id: str
    sizes: Annotated[list[str], Field(description="The first is the default.")]
    qualities: Annotated[list[str], Field(description="The first is the default.")]
    max_prompt_chars: int
    prices: list[PriceObject]


class CatalogBody(TypedDict):
    object: Literal["koi.catalog"]
    currency: str
    default_model: str
    max_n: int
    models: list[CatalogModelObject]


class LimitRequestBody(TypedDict):
    """`published` is false when you asked within the hour already."""

    object: Literal["koi.limit_request"]
    published: bool
    operator_receives_notices: bool


class PictureObject(TypedDict):
    """`cost` is in the catalog's currency, null when the price is not known."""

    id: Annotated[str, Field(description="Its name in GET /v1/images/{name}.")]
    object: Literal["koi.picture"]
    task_id: str
    created_at: UnixSeconds
    expires_at: Annotated[UnixSeconds, Field(description="Until then it is kept.")]
    model: str
    size: str
    quality: str
    width: int | None
    height: int | None
    media_type: str
    cost: str | None
    revised_prompt: str | None
    url: Annotated[str, Field(description="A signed link that needs no key and expires.")]


class PictureListBody(TypedDict):
    object: Literal["list"]
    data: list[PictureObject]
    last_id: Annotated[
        str | None, Field(description="The last task looked at: `after` for the next page.")
    ]
    has_more: bool


class DeletedPictureBody(TypedDict):
    object: Literal["koi.picture.deleted"]
    id: str
    deleted: bool


class HolderKeyObject(TypedDict):
    id: str
    object: Literal["koi.key"]
    name: str
    redacted_value: str
    created_at: UnixSeconds
    last_used_at: Annotated[UnixSeconds | None, Field(description="To the minute.")]
    expires_at: UnixSeconds | None
    models: list[str] | None
    limits: LimitsObject
    is_this_one: Annotated[bool, Field(description="Whether it is the key that asks.")]


class HolderKeyListBody(TypedDict):
    object: Literal["list"]
    data: list[HolderKeyObject]
    has_more: bool


class NewHolderKeyBody(TypedDict):
    """`value` is shown this once."""

    object: Literal["koi.key.created"]
    id: str
    name: str
    value: str
    created_at: UnixSeconds
    expires_at: UnixSeconds | None


class RevokedKeyBody(TypedDict):
    object: Literal["koi.key.deleted"]
    id: str
    deleted: bool
