"""Every route of the gateway, on one page."""

from app.api import (
    billing,
    docs,
    edits,
    image_content,
    images,
    models,
    ops,
    ops_operations,
    tasks,
    usage,
)
from app.api import operations as op
from app.api.holder.routes import HOLDER_ROUTES, PAGE_ROUTES
from app.api.mcp.routes import MCP_ROUTES
from app.api.openapi import DocumentedRoute
from app.api.operator.routes import OPERATOR_ROUTES
from app.api.organization.routes import INVITED_ROUTES, ORGANIZATION_ROUTES
from app.api.webhook_routes import WEBHOOK_ROUTES

BILLING = "/v1/dashboard/billing"

ROUTES = (
    DocumentedRoute("POST", "/v1/images/generations", images.create, op.CREATE_IMAGES),
    DocumentedRoute("POST", "/v1/images/edits", edits.create, op.EDIT_IMAGES),
    DocumentedRoute("POST", "/v1/images/variations", edits.reject_unsupported, op.VARY_IMAGES),
    DocumentedRoute("GET", "/v1/images/{name}", image_content.read, op.READ_IMAGE),
    DocumentedRoute("GET", "/v1/images/tasks/{task_id}", tasks.read, op.READ_IMAGE_TASK),
    DocumentedRoute("GET", "/v1/tasks", tasks.index, op.LIST_TASKS),
    DocumentedRoute("GET", "/v1/tasks/{task_id}", tasks.read, op.READ_TASK),
    DocumentedRoute("DELETE", "/v1/tasks/{task_id}", tasks.cancel, op.CANCEL_TASK),
    DocumentedRoute("GET", "/v1/models", models.index, op.LIST_MODELS),
    DocumentedRoute("GET", "/v1/models/{model:path}", models.read, op.READ_MODEL),
    DocumentedRoute("GET", "/v1/usage", usage.read, op.READ_USAGE),
    DocumentedRoute("GET", f"{BILLING}/subscription", billing.subscription, op.SUBSCRIPTION),
    DocumentedRoute("GET", f"{BILLING}/credit_grants", billing.credit_grants, op.CREDIT_GRANTS),
    DocumentedRoute("GET", f"{BILLING}/usage", billing.usage, op.BILLING_USAGE),
    *WEBHOOK_ROUTES,
    *MCP_ROUTES,
    *ORGANIZATION_ROUTES,
    *OPERATOR_ROUTES,
    *HOLDER_ROUTES,
    *INVITED_ROUTES,
    *PAGE_ROUTES,
    DocumentedRoute("GET", "/livez", ops.live, ops_operations.LIVE),
    DocumentedRoute("GET", "/readyz", ops.ready, ops_operations.READY),
    DocumentedRoute("GET", "/metrics", ops.metrics, ops_operations.METRICS),
    DocumentedRoute("GET", "/openapi.json", docs.schema, ops_operations.SCHEMA),
    DocumentedRoute("GET", "/llms.txt", docs.llms, ops_operations.LLMS),
    DocumentedRoute("GET", "/skill.md", docs.skill, ops_operations.SKILL),
    DocumentedRoute("GET", "/docs", docs.page, ops_operations.DOCS),
    DocumentedRoute("GET", "/docs/{name}", docs.asset, ops_operations.DOCS_FILE),
)

UNAUTHENTICATED_PATHS = frozenset(
    {
        "/", "/console/{name}", "/console/{folder}/{name}", "/livez", "/readyz", "/openapi.json",
        "/docs", "/docs/{name}", "/llms.txt", "/skill.md",
    }
)  # fmt: skip
"""Routes that need no credential at all; a test walks all others."""

UNLOGGED_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes without an access line."""

UNMATCHED_ROUTE = "unmatched"

ROUTE_TEMPLATES = frozenset({UNMATCHED_ROUTE, *(route.path_format for route in ROUTES)})
"""Every value that the route label of a metric may take."""
