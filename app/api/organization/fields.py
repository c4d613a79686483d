"""Fields of the administration API's bodies: strict, and errors name the field."""

import re
import secrets
from datetime import timedelta
from typing import Any

from starlette.requests import Request

from app.api.organization.access import confirm_administrator
from app.api.parameters import (
    Body,
    missing_error,
    parse_integer,
    parse_string,
    unknown_parameter_error,
    wrong_type_error,
)
from app.api.request_body import read_json
from app.domain.errors import InvalidRequest
from app.service.teams import MAX_TITLE_CHARS, NAME_PATTERN, checked_title

MAX_LIFETIME_S = 10 * 366 * 86_400
MAX_WORDS = 200
UNSAFE_CHARS = re.compile(r"[^A-Za-z0-9._@+-]+")
MAX_SLUG_CHARS = 48

Schema = dict[str, Any]


async def read_fields(
    request: Request, known: frozenset[str], lacking: frozenset[str] = frozenset()
) -> Body:
    """The body; fields of OpenAI's that Koi is `lacking` are refused unless null, and unknown ones
    are refused. Raises what `confirm_administrator` does, too: a body may take its time."""
    body = await read_json(request)
    await confirm_administrator(request)
    for name, value in body.items():
        if name in known:
            continue
        if name not in lacking:
            raise unknown_parameter_error(name)
        if value is not None:
            raise InvalidRequest(
                "unsupported_parameter",
                f"Koi keeps no {name}; nothing was changed. Leave it out.",
                param=name,
            )
    return body


def require_title(body: Body, name: str = "name") -> str:
    """What people call something, on one line. Raises `NameInvalid` too."""
    title = parse_string(body, name, MAX_TITLE_CHARS)
    if title is None or not title.strip():
        raise missing_error(name)
    return checked_title(title)


def parse_lifetime(body: Body) -> timedelta | None:
    seconds = parse_integer(body, "expires_in_seconds", 1, MAX_LIFETIME_S)
    return None if seconds is None else timedelta(seconds=seconds)


def parse_words(body: Body, name: str) -> tuple[str, ...] | None:
    """An array of short texts, or None."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or any(not isinstance(word, str) for word in value):
        raise wrong_type_error(name, "an array of strings")
    if len(value) > MAX_WORDS:
        raise InvalidRequest("invalid_value", f"{name} takes at most {MAX_WORDS}.", param=name)
    return tuple(value)


def require_no_scopes(body: Body) -> None:
    """OpenAI's scopes of a user's key; Koi's keys make images and read what is their user's."""
    if parse_words(body, "scopes"):
        raise InvalidRequest(
            "unsupported_parameter",
            "Keys of users have no scopes here; nothing was changed. Send an empty array.",
            param="scopes",
        )


def require_choice(body: Body, name: str, known: tuple[str, ...]) -> None:
    """A field that can only say what is so anyway."""
    value = body.get(name)
    if value is not None and value not in known:
        raise InvalidRequest("invalid_value", f"{name} takes: {', '.join(known)}.", param=name)


def derive_name(title: str, noun: str) -> str:
    """The id of something that people call `title`: the title itself where that can be an id, else
    its letters and digits, else a random one."""
    if NAME_PATTERN.fullmatch(title):
        return title
    slug = UNSAFE_CHARS.sub("-", title.lower())[:MAX_SLUG_CHARS].strip("._@+-")
    if title.isascii() and NAME_PATTERN.fullmatch(slug):
        return slug
    return f"{noun}-{secrets.token_hex(6)}"


def describe_body(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """The body for the schema; other fields are refused."""
    schema: Schema = {
        "type": "object",
        "properties": properties,
        "required": [*required],
        "additionalProperties": False,
    }
    return {"required": bool(required), "content": {"application/json": {"schema": schema}}}


NAME: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_TITLE_CHARS}
LIFETIME: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": MAX_LIFETIME_S}
WORDS: Schema = {"type": "array", "items": {"type": "string"}, "maxItems": MAX_WORDS}
