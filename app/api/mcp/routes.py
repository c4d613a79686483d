"""The routes of /mcp, and what the schema says of them."""

from app.api.error_examples import BODY_CODES, KEY_CODES
from app.api.mcp import endpoint
from app.api.mcp.messages import RpcErrorBody, RpcResultBody
from app.api.mcp.protocol import SESSION_HEADER, VERSION_HEADER, VERSIONS
from app.api.openapi import DocumentedRoute
from app.api.operations import (
    COMMON_HEADERS,
    Operation,
    describe_answer,
    describe_header,
    refer_headers,
)

TAG = "MCP"
PATH = "/mcp"
CODES = KEY_CODES | {"object_not_found", "unknown_url"}
SESSION = describe_header(SESSION_HEADER.title(), "As the answer to initialize gave it.")
VERSION = describe_header(
    VERSION_HEADER.title(), "The revision that initialize settled on.", enum=[*VERSIONS]
)
LAST_EVENT = describe_header("Last-Event-ID", "The id of the last event of a stream that broke.")
EVENTS = {"schema": {"type": "string"}}

_ANSWERED = describe_answer(
    RpcResultBody | RpcErrorBody,
    "The answer; of a call of generate_image as the last of some server-sent events, to a client "
    "that accepts these.",
    (*COMMON_HEADERS, "cache-control", SESSION_HEADER),
)
_ANSWERED["content"]["text/event-stream"] = EVENTS
RECEIVE = Operation(
    "mcpMessage",
    TAG,
    "Model Context Protocol: one message",
    {
        200: _ANSWERED,
        202: {
            "description": "A notification; no answer follows.",
            "headers": refer_headers(*COMMON_HEADERS),
        },
        400: describe_answer(RpcErrorBody, "Of an unknown revision."),
    },
    CODES | BODY_CODES,
    parameters=(SESSION, VERSION),
    body={
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["jsonrpc", "method"],
                    "properties": {
                        "jsonrpc": {"const": "2.0"},
                        "id": {"type": ["string", "integer"]},
                        "method": {"type": "string", "minLength": 1},
                        "params": {"type": "object"},
                    },
                }
            }
        },
    },
)
RESUME = Operation(
    "mcpResume",
    TAG,
    "Model Context Protocol: go on with an answer whose stream broke",
    {
        200: {
            "description": "The rest of the answer.",
            "headers": refer_headers(*COMMON_HEADERS, "cache-control"),
            "content": {"text/event-stream": EVENTS},
        }
    },
    CODES | {"invalid_value", "method_not_allowed", "task_not_found", "too_many_waiting"},
    parameters=(SESSION, LAST_EVENT),
)
END = Operation(
    "mcpEndSession",
    TAG,
    "Model Context Protocol: end a session",
    {204: {"description": "Ended.", "headers": refer_headers(*COMMON_HEADERS)}},
    CODES,
    parameters=(SESSION,),
    status=204,
)
MCP_ROUTES = (
    DocumentedRoute("POST", PATH, endpoint.receive, RECEIVE),
    DocumentedRoute("GET", PATH, endpoint.resume, RESUME),
    DocumentedRoute("DELETE", PATH, endpoint.end, END),
)
