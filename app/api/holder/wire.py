"""The bodies of answers to holders as types."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

from app.api.wire import UnixSeconds
from app.domain.session import SessionRole


class SessionBody(TypedDict):
    """Who is signed in. `scopes` are those of an operator's admin key."""

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
