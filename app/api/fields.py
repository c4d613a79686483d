"""Fields of a request body by type: strict about types, `null` means absent (design, section 9)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from app.domain.errors import InvalidRequest

Body = Mapping[str, Any]

LONGEST_WORD = 64
"""Characters of a size, a quality or the like, whatever it says."""

LINE_BREAKS = str.maketrans("\x0b\x0c", "\n\n")
"""Vertical tab and form feed, which word processors paste for a line or page break."""
CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
# Anything but white space, zero-width characters and blanks in disguise.
VISIBLE = re.compile(
    "[^\\s\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0]"
)


def text(body: Body, name: str, longest: int) -> str | None:
    """A string of at most `longest` characters, or None."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, "a string")
    if len(value) > longest:
        raise InvalidRequest(
            "string_above_max_length",
            f"{name} is longer than {longest} characters.",
            param=name,
        )
    return value


def whole(body: Body, name: str, least: int, most: int) -> int | None:
    """A whole number within bounds, or None. 1.0, "1" and true are no whole numbers here."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(name, "an integer")
    if value < least:
        raise InvalidRequest(
            "integer_below_min_value", f"{name} must be at least {least}.", param=name
        )
    if value > most:
        raise InvalidRequest(
            "integer_above_max_value", f"{name} must be at most {most}.", param=name
        )
    return value


def flag(body: Body, name: str) -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise wrong_type(name, "a boolean")
    return value


def word(body: Body, name: str, known: Iterable[str], aliases: Mapping[str, str]) -> str | None:
    """One of the known words, aliases resolved, or None."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, "a string")
    if value in known:
        return value
    if value in aliases:
        return aliases[value]
    allowed = ", ".join(known)
    raise InvalidRequest(
        "invalid_value", f"{name} must be one of the supported values: {allowed}.", param=name
    )


def prompt(body: Body, longest: int) -> str:
    """The prompt; raises when it is missing, blank, too long or holds controls."""
    value = text(body, "prompt", longest)
    if value is None:
        raise missing("prompt")
    value = value.translate(LINE_BREAKS)
    if VISIBLE.search(value) is None:
        raise InvalidRequest(
            "missing_required_parameter",
            "prompt is required and must not be blank.",
            param="prompt",
        )
    if CONTROLS.search(value) is not None:
        raise InvalidRequest(
            "invalid_value", "prompt must not hold control characters.", param="prompt"
        )
    return value


def missing(name: str) -> InvalidRequest:
    return InvalidRequest("missing_required_parameter", f"{name} is required.", param=name)


def wrong_type(name: str, expected: str) -> InvalidRequest:
    return InvalidRequest("invalid_type", f"{name} must be {expected}.", param=name)
