"""What a key is for and may do, as typed, and how it is read."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter

from app.cli.errors import usage_error
from app.cli.options import ResponseFormatOption, parse_duration, parse_names

Models = Annotated[str | None, Parameter(help='Only these models, comma-separated, or "all".')]

FORWARDS_USERS = "Belongs to a front end; its headers are believed on who asks (Open WebUI)."


@Parameter(name="*")
@dataclass(frozen=True)
class KeyOptions:
    """What a new key is for and may do, as typed."""

    name: Annotated[str, Parameter(help="What the key is for.")] = ""
    expires: Annotated[str | None, Parameter(help="When it ends, such as 90d or 12h.")] = None
    models: Models = None
    pictures: ResponseFormatOption = None
    forwards_users: Annotated[bool, Parameter(help=FORWARDS_USERS, negative=())] = False


@Parameter(name="*")
@dataclass(frozen=True)
class KeyChanges:
    """What of a key is to be changed, as typed; None stays."""

    name: Annotated[str | None, Parameter(help="What the key is for.")] = None
    models: Models = None
    expires: Annotated[
        str | None, Parameter(help='When it ends from now on, such as 90d, or "never".')
    ] = None
    pictures: ResponseFormatOption = None
    forwards_users: Annotated[
        bool | None, Parameter(help=FORWARDS_USERS, negative="--no-forwards-users")
    ] = None


def parse_models(text: str | None) -> frozenset[str] | None:
    """None is every model."""
    if text is None or text.strip().lower() == "all":
        return None
    return parse_names("--models", text)


def parse_expiry_ms(text: str | None, before: int | None, now_ms: int) -> int | None:
    if text is None:
        return before
    if text.lower() == "never":
        return None
    return now_ms + round(parse_lifetime(text).total_seconds() * 1000)


def parse_lifetime(text: str) -> timedelta:
    span = parse_duration("--expires", text)
    if not span:
        raise usage_error("--expires must be longer than nothing; koi keys revoke ends a key now.")
    return span
