"""Every route of the gateway, on one page."""

from starlette.routing import Match, Route
from starlette.types import Scope

from app.api import admin_usage, image_content, images, models, ops, tasks, usage


class TemplatedRoute(Route):
    """A route that leaves its template in the scope, as the framework's own kind does."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found


ROUTES = (
    TemplatedRoute("/v1/images/generations", images.create, methods=["POST"]),
    TemplatedRoute("/v1/images/edits", images.reject_unsupported, methods=["POST"]),
    TemplatedRoute("/v1/images/variations", images.reject_unsupported, methods=["POST"]),
    TemplatedRoute("/v1/images/{name}", image_content.read, methods=["GET"]),
    TemplatedRoute("/v1/tasks", tasks.index, methods=["GET"]),
    TemplatedRoute("/v1/tasks/{task_id}", tasks.read, methods=["GET"]),
    TemplatedRoute("/v1/tasks/{task_id}", tasks.cancel, methods=["DELETE"]),
    TemplatedRoute("/v1/models", models.index, methods=["GET"]),
    TemplatedRoute("/v1/models/{model:path}", models.read, methods=["GET"]),
    TemplatedRoute("/v1/usage", usage.read, methods=["GET"]),
    TemplatedRoute("/v1/organization/usage/images", admin_usage.images, methods=["GET"]),
    TemplatedRoute("/v1/organization/costs", admin_usage.costs, methods=["GET"]),
    TemplatedRoute("/livez", ops.live, methods=["GET"]),
    TemplatedRoute("/readyz", ops.ready, methods=["GET"]),
    TemplatedRoute("/metrics", ops.metrics, methods=["GET"]),
)

UNAUTHENTICATED_PATHS = frozenset({"/livez", "/readyz"})
"""Routes that need no credential at all; a test walks all others (default deny)."""

UNLOGGED_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes without an access line."""

UNMATCHED_ROUTE = "unmatched"

ROUTE_TEMPLATES = frozenset({UNMATCHED_ROUTE, *(route.path_format for route in ROUTES)})
"""Every value the route label of a metric may take."""
