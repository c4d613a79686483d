"""A route that knows what the schema says of it."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from app.api.operations import Operation

Endpoint = Callable[[Request], Awaitable[Response]]


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
