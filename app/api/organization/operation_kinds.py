"""What operations of the administration API have in common: to read, to list, to change."""

from typing import Any

from app.api.error_examples import BODY_CODES, KEY_CODES, QUERY_CODES
from app.api.operations import Answers, Operation, describe_answer, describe_path
from app.api.organization.paging import PAGE_PARAMETERS
from app.api.organization.wire import ObjectListBody
from app.api.parameters import Schema

TAG = "Organization"
USAGE_CODES = KEY_CODES | QUERY_CODES | {"admin_key_required", "unknown_url"}
READ_CODES = USAGE_CODES | {"object_not_found"}
WRITE_CODES = READ_CODES | BODY_CODES | {"conflict", "insufficient_permissions"}


def list_parameters(path: str) -> tuple[Schema, ...]:
    """The variable parts of a path."""
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return tuple(describe_path(name, "An id.") for name in names)


def read_object(id: str, path: str, summary: str, model: Any, *more: Schema) -> Operation:
    answers: Answers = {200: describe_answer(model, "As asked.")}
    return Operation(
        id, TAG, summary, answers, READ_CODES, parameters=(*list_parameters(path), *more)
    )


def list_objects(id: str, path: str, summary: str, model: Any, *more: Schema) -> Operation:
    return read_object(id, path, summary, ObjectListBody[model], *PAGE_PARAMETERS, *more)


def write_object(
    id: str, path: str, summary: str, model: Any, body: Schema | None = None
) -> Operation:
    answers: Answers = {200: describe_answer(model, "As it is now.")}
    parameters = list_parameters(path)
    return Operation(id, TAG, summary, answers, WRITE_CODES, parameters=parameters, body=body)
