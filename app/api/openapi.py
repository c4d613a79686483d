"""The public contract as a document: made by FastAPI from the table of routes.

Routes are Starlette's, because their endpoints take the body themselves; for the document each is
described to FastAPI as a route of its own kind, which never serves anything.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from app.api.error_examples import CONNECTION_CODES, build_example, group_by_status, list_headers
from app.api.errors import ERROR_TABLE, MODERATION_CODES
from app.api.image_schemas import describe_references
from app.api.operations import HEADERS, Operation, Security
from app.api.request_fields import describe_body
from app.api.settings import EdgeSettings
from app.api.wire import EXAMPLES, ErrorBody

DESCRIPTION = """\
An OpenAI-compatible gateway for images: point the base URL of an OpenAI SDK at `/v1`.

Every failure is an OpenAI error object. Decide by its `code`; `x-should-retry` says whether a
repeat may help. Repeating the same request never pays twice.

What answers to GET answers to HEAD too. Any other method is a 405 with an `Allow` header.
"""
SECURITY_SCHEMES = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's key; for some routes the admin key or the metrics token.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "api-key", "description": "The same."},
    "xApiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "The same."},
}
REF = "#/components/schemas/{model}"
Endpoint = Callable[[Request], Awaitable[Response]]
ERROR_CODES = sorted({*ERROR_TABLE, *MODERATION_CODES})
ERROR_TYPES = sorted({kind for _, kind in ERROR_TABLE.values()})


class DocumentedRoute(Route):
    """One method of one path. It leaves its template in the scope, as FastAPI's own kind does."""

    def __init__(self, method: str, path: str, endpoint: Endpoint, operation: Operation) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.method, self.operation = method, operation

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found


def build_openapi(routes: Iterable[DocumentedRoute], settings: EdgeSettings) -> dict[str, Any]:
    """The document with the limits of this deployment; takes half a second."""
    document = get_openapi(
        title="Koi",
        version=settings.version,
        description=DESCRIPTION,
        license_info={"name": "MIT", "identifier": "MIT"},
        routes=[_document(route) for route in routes],
    )
    components = document["components"]
    components["securitySchemes"] = SECURITY_SCHEMES
    # Added here, because FastAPI leaves nulls out and an error always has its `param`.
    components["examples"] = {
        **{code: {"value": build_example(code)} for code in ERROR_TABLE},
        **{name: {"value": value} for name, (_, value) in EXAMPLES.items()},
    }
    components["headers"] = {
        name: {"description": about, "schema": {"type": "string"}}
        for name, about in HEADERS.items()
    }
    schemas = components["schemas"] = _with_errors(components["schemas"])
    generation = describe_body(max_images=settings.max_images, strict=settings.strict)
    schemas.update(describe_references(dict(generation), settings))
    error = schemas["ErrorObject"]["properties"]
    error["code"]["enum"], error["type"]["enum"] = ERROR_CODES, ERROR_TYPES
    return document


def _with_errors(schemas: dict[str, Any]) -> dict[str, Any]:
    """The schemas of the routes' models, and those of the error that most routes share."""
    error = TypeAdapter(ErrorBody).json_schema(ref_template=REF)
    found = {**schemas, **error.pop("$defs"), ErrorBody.__name__: error}
    return dict(sorted(found.items()))


def _document(route: DocumentedRoute) -> APIRoute:
    operation = route.operation
    extra: dict[str, Any] = {"parameters": [*operation.parameters]}
    if operation.security is not Security.NONE:
        extra["security"] = [{scheme: []} for scheme in SECURITY_SCHEMES]
    if operation.security is Security.OPTIONAL:
        extra["security"].append({})
    if operation.body is not None:
        extra["requestBody"] = operation.body
    return APIRoute(
        route.path,
        route.endpoint,
        methods=[route.method],
        operation_id=operation.id,
        tags=[operation.tag],
        summary=operation.summary,
        status_code=operation.status,
        response_model=None,
        response_class=Response,
        response_description=str(operation.responses[operation.status]["description"]),
        responses={**operation.responses, **_describe_errors(operation)},
        openapi_extra=extra,
    )


def _describe_errors(operation: Operation) -> dict[int | str, dict[str, Any]]:
    grouped = group_by_status(operation.codes | CONNECTION_CODES)
    return {
        status: _describe_error(codes, operation.responses.get(status, {}))
        for status, codes in grouped.items()
    }


def _name_codes(codes: list[str]) -> str:
    return ", ".join(f"`{code}`" for code in codes)


def _describe_error(codes: list[str], beside: Mapping[str, Any]) -> dict[str, Any]:
    """One status of a route; `beside` is what else it answers with this status."""
    names = sorted({"x-request-id", *(name for code in codes for name in list_headers(code))})
    model = beside.get("model", ErrorBody)
    examples = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
    # Without a model, of which FastAPI would build a thousand that are the same.
    alone: dict[str, Any] = {"schema": {"$ref": REF.format(model=ErrorBody.__name__)}}
    return {
        **({} if model is ErrorBody else {"model": ErrorBody | model}),
        "description": " ".join(filter(None, (beside.get("description"), _name_codes(codes)))),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {
            "application/json": {"examples": examples, **(alone if model is ErrorBody else {})}
        },
    }
