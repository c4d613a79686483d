"""Values of body fields and query parameters by type: strict about types, `null` means absent.

Query parameters are read in every spelling that SDKs use.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.datastructures import QueryParams

from app.domain.errors import InvalidRequest

Body = Mapping[str, Any]

MAX_WORD_CHARS = 64
"""Longest size, quality or other single word."""

PRINTABLE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
"""Field names that may be repeated to the caller, in bodies and in headers."""
LINE_BREAKS = str.maketrans("\x0b\x0c", "\n\n")
"""Vertical tab and form feed become line breaks: word processors paste them as such."""
CONTROL_CHARS = re.compile(r"[\x00-\x08\x0e-\x1f]")
NO_CONTROL_CHARS = f"^{CONTROL_CHARS.pattern.replace('[', '[^', 1)}*$"
"""The same as a pattern for a whole text, for the schema."""
# Anything but white space, characters without width, and letters that look like a blank.
VISIBLE_CHAR = re.compile(
    "[^\\s\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0]"
)


def parse_string(body: Body, name: str, max_chars: int) -> str | None:
    """A string of at most `max_chars` characters, or None."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type_error(name, "a string")
    if len(value) > max_chars:
        raise InvalidRequest(
            "string_above_max_length",
            f"{name} is longer than {max_chars} characters.",
            param=name,
        )
    return value


def parse_integer(body: Body, name: str, minimum: int, maximum: int) -> int | None:
    """A whole number within bounds, or None. 1.0, "1" and true are refused."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type_error(name, "an integer")
    if value < minimum:
        raise InvalidRequest(
            "integer_below_min_value", f"{name} must be at least {minimum}.", param=name
        )
    if value > maximum:
        raise InvalidRequest(
            "integer_above_max_value", f"{name} must be at most {maximum}.", param=name
        )
    return value


def parse_boolean(body: Body, name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong_type_error(name, "a boolean")
    return value


def parse_words(body: Body, name: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """A list of known words, each once."""
    value = body.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise wrong_type_error(name, "an array of strings")
    if not set(value) <= set(known):
        raise InvalidRequest("invalid_value", f"{name} takes: {', '.join(known)}.", param=name)
    return tuple(dict.fromkeys(value))


def parse_choice(
    body: Body, name: str, known: Iterable[str], aliases: Mapping[str, str]
) -> str | None:
    """One of the known words, aliases resolved, or None."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type_error(name, "a string")
    if value in known:
        return value
    if value in aliases:
        return aliases[value]
    allowed = ", ".join(known)
    raise InvalidRequest(
        "invalid_value", f"{name} must be one of the supported values: {allowed}.", param=name
    )


def parse_prompt(body: Body, name: str, max_chars: int) -> str:
    """A required text; raises when it is missing, blank, too long or holds control characters."""
    value = parse_string(body, name, max_chars)
    if value is None:
        raise missing_error(name)
    value = value.translate(LINE_BREAKS)
    if VISIBLE_CHAR.search(value) is None:
        raise InvalidRequest(
            "missing_required_parameter",
            f"{name} is required and must not be blank.",
            param=name,
        )
    if CONTROL_CHARS.search(value) is not None:
        raise InvalidRequest(
            "invalid_value", f"{name} must not hold control characters.", param=name
        )
    return value


def missing_error(name: str) -> InvalidRequest:
    return InvalidRequest("missing_required_parameter", f"{name} is required.", param=name)


def unknown_parameter_error(name: str) -> InvalidRequest:
    """In OpenAI's words, with the name where it may be repeated."""
    if PRINTABLE_NAME.fullmatch(name) is None:
        return InvalidRequest("unknown_parameter", "Unknown parameter.")
    return InvalidRequest("unknown_parameter", f"Unknown parameter: '{name}'.", param=name)


def wrong_type_error(name: str, expected: str) -> InvalidRequest:
    return InvalidRequest("invalid_type", f"{name} must be {expected}.", param=name)


LATEST_S = 221_845_392_000
"""The year 9000: calendars end with 9999."""
QUERY_INTEGER = re.compile(r"[0-9]{1,12}", re.ASCII)
CLAMPED_INTEGER = re.compile(r"[0-9]{1,18}", re.ASCII)
"""A number that the caller of this module cuts to its bounds, so that a large one is no error."""
ARRAY_INDEX = re.compile(r"\[([0-9]{1,4})\]", re.ASCII)
MAX_QUERY_VALUES = 200

Schema = dict[str, Any]
INTEGER: Schema = {"type": "integer", "minimum": 0}


def describe_query(name: str, schema: Schema, about: str, *, required: bool = False) -> Schema:
    """A query parameter for the schema."""
    return {
        "name": name,
        "in": "query",
        "required": required,
        "schema": schema,
        "description": about,
    }


def describe_list(name: str, about: str, known: Iterable[str] | None = None) -> Schema:
    """A query parameter that `parse_query_list` or `parse_query_choices` reads."""
    items: Schema = {"type": "string"}
    if known is not None:
        items["enum"] = sorted(known)
    schema = {"type": "array", "items": items, "maxItems": MAX_QUERY_VALUES}
    return describe_query(name, schema, about)


def parse_query_list(query: QueryParams, name: str) -> tuple[str, ...]:
    """An array: `name[]=a&name[]=b`, `name=a&name=b`, `name=a,b` or `name[0]=a&name[1]=b`, as the
    SDKs differ."""
    numbered = sorted(
        (int(match[1]), value)
        for field, value in query.multi_items()
        if field.startswith(f"{name}[") and (match := ARRAY_INDEX.fullmatch(field[len(name) :]))
    )
    given = [
        *query.getlist(f"{name}[]"),
        *query.getlist(name),
        *(value for _, value in numbered),
    ]
    values = [value.strip() for item in given for value in item.split(",") if value.strip()]
    if len(values) > MAX_QUERY_VALUES:
        raise invalid_value_error(name, f"{name} takes at most {MAX_QUERY_VALUES} values.")
    return tuple(dict.fromkeys(values))


def parse_query_choices(query: QueryParams, name: str, known: frozenset[str]) -> tuple[str, ...]:
    """An array of known words."""
    values = parse_query_list(query, name)
    if not known.issuperset(values):
        raise invalid_value_error(name, f"{name} takes: {', '.join(sorted(known))}.")
    return values


def parse_query_choice(query: QueryParams, name: str, known: Iterable[str]) -> str | None:
    """One known word."""
    given = query.get(name)
    if given is not None and given not in known:
        raise invalid_value_error(name, f"{name} takes: {', '.join(known)}.")
    return given


def parse_query_boolean(query: QueryParams, name: str) -> bool:
    """`true` or `false`; missing is false."""
    return parse_query_choice(query, name, ("true", "false")) == "true"


def parse_query_integer(
    query: QueryParams, name: str, default: int | None = None, form: re.Pattern[str] = QUERY_INTEGER
) -> int:
    """A whole number; without a default it is required."""
    given = query.get(name)
    if given is None:
        if default is None:
            raise missing_error(name)
        return default
    if form.fullmatch(given) is None:
        raise invalid_value_error(name, f"{name} must be a whole number.")
    return int(given)


def parse_query_time(query: QueryParams, name: str, default: int | None = None) -> int:
    """A moment, in seconds since 1970; one that no calendar has is the last that counts."""
    return min(parse_query_integer(query, name, default), LATEST_S)


def invalid_value_error(name: str, message: str) -> InvalidRequest:
    return InvalidRequest("invalid_value", message, param=name)
