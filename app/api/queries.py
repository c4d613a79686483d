"""Query parameters, as SDKs spell them."""

import re
from collections.abc import Iterable

from starlette.datastructures import QueryParams

from app.domain.errors import InvalidRequest

WHOLE = re.compile(r"[0-9]{1,12}", re.ASCII)
CUT = re.compile(r"[0-9]{1,18}", re.ASCII)
"""A number that is cut to what is possible, however large."""
MOST_VALUES = 200


def many(query: QueryParams, name: str) -> tuple[str, ...]:
    """An array: `name[]=a&name[]=b`, `name=a&name=b` or `name=a,b` (openai-compat, section 10)."""
    given = [*query.getlist(f"{name}[]"), *query.getlist(name)]
    values = [value.strip() for item in given for value in item.split(",") if value.strip()]
    if len(values) > MOST_VALUES:
        raise invalid(name, f"{name} takes at most {MOST_VALUES} values.")
    return tuple(dict.fromkeys(values))


def chosen(query: QueryParams, name: str, known: frozenset[str]) -> tuple[str, ...]:
    """An array of known words."""
    values = many(query, name)
    if not known.issuperset(values):
        raise invalid(name, f"{name} takes: {', '.join(sorted(known))}.")
    return values


def word(query: QueryParams, name: str, known: Iterable[str]) -> str | None:
    """One known word."""
    given = query.get(name)
    if given is not None and given not in known:
        raise invalid(name, f"{name} takes: {', '.join(known)}.")
    return given


def number(
    query: QueryParams, name: str, default: int | None = None, form: re.Pattern[str] = WHOLE
) -> int:
    """A whole number; without a default it is required."""
    given = query.get(name)
    if given is None:
        if default is None:
            raise InvalidRequest("missing_required_parameter", f"{name} is required.", param=name)
        return default
    if form.fullmatch(given) is None:
        raise invalid(name, f"{name} must be a whole number.")
    return int(given)


def invalid(name: str, message: str) -> InvalidRequest:
    return InvalidRequest("invalid_value", message, param=name)
