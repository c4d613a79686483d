"""Lists with a cursor: `after`, `limit`, `has_more`, `first_id`, `last_id`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api import parameters
from app.api.parameters import INTEGER, Schema, describe_query
from app.api.response_body import json_response

DEFAULT_LIMIT = 20
MAX_LIMIT = 100
T = TypeVar("T")

PAGE_PARAMETERS: list[Schema] = [
    describe_query("after", {"type": "string"}, "The last_id of the page before."),
    describe_query("limit", {**INTEGER, "minimum": 1, "maximum": MAX_LIMIT}, "Missing: 20."),
]


@dataclass(frozen=True, slots=True)
class PageRequest:
    after: str | None
    limit: int


def parse_page(request: Request, default: int = DEFAULT_LIMIT) -> PageRequest:
    query = request.query_params
    limit = parameters.parse_query_integer(query, "limit", default)
    if not 1 <= limit <= MAX_LIMIT:
        raise parameters.invalid_value_error("limit", f"limit must be 1 to {MAX_LIMIT}.")
    return PageRequest(query.get("after") or None, limit)


def select_page(
    records: Sequence[T],
    page: PageRequest,
    id_of: Callable[[T], str],
    visible: Callable[[T], bool],
) -> tuple[Sequence[T], bool]:
    """One page of the visible records, in their order, and whether there are more. `after` may name
    one that is not visible any more: a client may delete what it has just listed."""
    start = 0
    if page.after is not None:
        ids = [id_of(record) for record in records]
        if page.after not in ids:
            raise parameters.invalid_value_error("after", "after must be a last_id of this list.")
        start = ids.index(page.after) + 1
    shown = [record for record in records[start:] if visible(record)]
    return shown[: page.limit], len(shown) > page.limit


def list_response(objects: Sequence[Mapping[str, Any]], *, has_more: bool) -> Response:
    return object_response(
        {
            "object": "list",
            "data": objects,
            "first_id": objects[0]["id"] if objects else None,
            "last_id": objects[-1]["id"] if objects else None,
            "has_more": has_more,
        }
    )


def object_response(content: Mapping[str, Any]) -> Response:
    return json_response(orjson.dumps(content), {"cache-control": "no-store"})


def seconds(ms: int) -> int:
    return ms // 1000


def optional_seconds(ms: int | None) -> int | None:
    return None if ms is None else seconds(ms)
