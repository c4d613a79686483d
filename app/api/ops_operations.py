"""What the schema says of the routes for whoever runs the gateway, and of the documentation."""

from typing import Any

from app.api.error_examples import CREDENTIAL_CODES
from app.api.operations import (
    COMMON_HEADERS,
    HIDDEN,
    Operation,
    Security,
    describe_answer,
    describe_path,
    file_answer,
    refer_headers,
)
from app.api.wire import LivenessBody, ReadinessBody

LIVE = Operation(
    "live",
    "Operation",
    "Whether the process lives",
    {
        200: describe_answer(LivenessBody, "It does."),
        503: describe_answer(LivenessBody, "It is stuck."),
    },
    security=Security.NONE,
)
READY = Operation(
    "ready",
    "Operation",
    "Whether it takes work",
    {
        200: describe_answer(ReadinessBody, "It does."),
        503: describe_answer(ReadinessBody, "Not now."),
    },
    security=Security.NONE,
)
METRICS = Operation(
    "metrics",
    "Operation",
    "Metrics for Prometheus (metrics token or admin key)",
    {200: file_answer("The metrics.", "text/plain")},
    CREDENTIAL_CODES,
)
SCHEMA = Operation(
    "openapi",
    "Documentation",
    "This document",
    {
        200: describe_answer(dict[str, Any], "OpenAPI 3.1.", (*COMMON_HEADERS, "etag")),
        304: {"description": "You have it.", "headers": refer_headers("etag")},
    },
    HIDDEN,
    Security.NONE,
)
DOCS = Operation(
    "docs",
    "Documentation",
    "A page to read and try it",
    {200: file_answer("The page.", "text/html")},
    HIDDEN,
    Security.NONE,
)
LLMS = Operation(
    "llms",
    "Documentation",
    "This API in words, for programs that read text",
    {200: file_answer("The text.", "text/plain")},
    HIDDEN,
    Security.NONE,
)
SKILL = Operation(
    "skill",
    "Documentation",
    "This API as steps for a coding agent",
    {200: file_answer("The text.", "text/markdown")},
    HIDDEN,
    Security.NONE,
)
DOCS_FILE = Operation(
    "docsFile",
    "Documentation",
    "A file of that page",
    {
        200: file_answer(
            "The file.", "text/css", "text/javascript", headers=(*COMMON_HEADERS, "etag")
        ),
        304: {"description": "You have these bytes.", "headers": refer_headers("etag")},
    },
    HIDDEN,
    Security.NONE,
    (describe_path("name", "Its name."),),
)
