"""The shortest way from a request to the endpoint of its route.

FastAPI's table of routes stays the only one; this is an index of it. The framework tries one
pattern after the other and wraps each request in six layers, none of which does anything for a
route that takes its own body and answers every error itself (decision 35).
"""

from collections.abc import Awaitable, Iterable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.edge_request import EdgeRequest
from app.api.errors import answer_gateway_error, find_unknown_url_error
from app.api.openapi import DocumentedRoute, Endpoint
from app.api.state import get_scope_access_record
from app.domain.errors import GatewayError


class DirectRoutes:
    """Finds a route by its path, or by all of its path but the last word, which is a parameter, and
    calls its endpoint. `framework` takes every other request."""

    def __init__(self, framework: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._framework = framework
        self._literal: dict[tuple[str, str], DocumentedRoute] = {}
        self._by_prefix: dict[tuple[str, str], tuple[DocumentedRoute, str]] = {}
        self._beginnings: set[str] = set()
        """The first two words of every route; one that is a parameter is left out."""
        for route in routes:
            if isinstance(route, DocumentedRoute):
                for method in route.methods or ():
                    self._add(method, route)

    def _add(self, method: str, route: DocumentedRoute) -> None:
        self._beginnings.add(_beginning(route.path.partition("{")[0]))
        prefix, _, last = route.path.rpartition("/")
        if "{" not in route.path:
            self._literal.setdefault((method, route.path), route)
        elif "{" not in prefix and ":" not in last:
            self._by_prefix.setdefault((method, prefix), (route, last.strip("{}")))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        route = self.find(scope) if scope["type"] == "http" else None
        if route is not None:
            return call_endpoint(route.endpoint, scope, receive, send)
        if scope["type"] == "http" and not self._may_match(scope["path"]):
            # Without trying one pattern after the other.
            return call_endpoint(_refuse_unknown, scope, receive, send)
        return self._framework(scope, receive, send)

    def _may_match(self, path: str) -> bool:
        """Whether some route begins as this path does."""
        beginning = _beginning(path)
        return (
            beginning in self._beginnings or f"{beginning.rpartition('/')[0]}/" in self._beginnings
        )

    def find(self, scope: Scope) -> DocumentedRoute | None:
        """The route, which is written into the scope with its parameters as the framework does it;
        None when the framework itself has to look."""
        method, path = scope["method"], scope["path"]
        route = self._literal.get((method, path))
        parameters = {}
        if route is None:
            prefix, _, last = path.rpartition("/")
            found = self._by_prefix.get((method, prefix))
            if found is None or not last or scope.get("root_path"):
                return None
            route, name = found
            parameters = {name: last}
        scope["route"], scope["endpoint"], scope["path_params"] = route, route.endpoint, parameters
        return route


def _beginning(path: str) -> str:
    return "/".join(path.split("/", 3)[:3])


async def _refuse_unknown(request: Request) -> Response:
    raise find_unknown_url_error(request)


async def call_endpoint(endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request as the framework would: with the endpoint's response, or with the error that
    Koi raised before anything was sent."""
    request = EdgeRequest(scope, receive, send)
    try:
        response = await endpoint(request)
        await response(scope, receive, send)
    except GatewayError as error:
        record = get_scope_access_record(scope)
        if record.status:
            raise RuntimeError("The answer had begun when this was raised.") from error
        await answer_gateway_error(record, error)(scope, receive, send)
