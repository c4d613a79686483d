"""Every route of the gateway, on one page."""

from starlette.routing import Match, Route
from starlette.types import Scope

from app.api import images, models, ops, organization, pictures, tasks, usage


class Row(Route):
    """A route that leaves its template in the scope, as the framework's own kind does."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found


ROUTES = (
    Row("/v1/images/generations", images.create, methods=["POST"]),
    Row("/v1/images/edits", images.unsupported, methods=["POST"]),
    Row("/v1/images/variations", images.unsupported, methods=["POST"]),
    Row("/v1/images/{name}", pictures.read, methods=["GET"]),
    Row("/v1/tasks", tasks.index, methods=["GET"]),
    Row("/v1/tasks/{task_id}", tasks.read, methods=["GET"]),
    Row("/v1/tasks/{task_id}", tasks.cancel, methods=["DELETE"]),
    Row("/v1/models", models.index, methods=["GET"]),
    Row("/v1/models/{model:path}", models.read, methods=["GET"]),
    Row("/v1/usage", usage.read, methods=["GET"]),
    Row("/v1/organization/usage/images", organization.images, methods=["GET"]),
    Row("/v1/organization/costs", organization.costs, methods=["GET"]),
    Row("/livez", ops.live, methods=["GET"]),
    Row("/readyz", ops.ready, methods=["GET"]),
    Row("/metrics", ops.metrics, methods=["GET"]),
)

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Routes that need no credential at all; a test walks all others (default deny)."""

SILENT_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes without an access line."""

UNMATCHED = "unmatched"

TEMPLATES = frozenset({UNMATCHED, *(route.path_format for route in ROUTES)})
"""Every value the route label of a metric may take."""
