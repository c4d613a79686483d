"""Refusals of the HTTP parser, as bytes: such a request never reaches the routes."""

import re
from collections.abc import Sequence

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api.errors import build_error_body, build_error_headers, get_status
from app.api.middleware import generate_request_id
from app.api.routes import UNMATCHED_ROUTE
from app.api.state import AppState
from app.domain.errors import GatewayOverloaded, InvalidRequest

log = structlog.get_logger("koi.access")

REQUEST_LINE = re.compile(rb"[A-Z]{1,20} [!-~]")
KNOWN_METHODS = "DELETE, GET, HEAD, OPTIONS, POST"
ERROR_MESSAGES = {
    "bad_request": "The request is not valid HTTP/1.1.",
    "header_fields_too_large": "The request headers are too large.",
    "invalid_host": "The Host header is missing, malformed or not served here.",
    "method_not_allowed": "This method is not known here.",
    "overloaded": "Too many connections; try again shortly.",
    "request_timeout": "The request did not arrive in time.",
    "uri_too_long": "The URL is too long.",
}


class RequestRejected(Exception):
    """Raised inside a parser callback; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def build_error_response(
    code: str, default_headers: Sequence[tuple[bytes, bytes]]
) -> tuple[str, int, bytes]:
    """The request id, the status and the whole answer; `default_headers` are the server's own
    headers."""
    message = ERROR_MESSAGES[code]
    note = (
        GatewayOverloaded(message) if code == "overloaded" else InvalidRequest(code, message)
    ).note
    body, request_id, status = build_error_body(note), generate_request_id(), get_status(code)
    headers = {
        **build_error_headers(note),
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": request_id,
        "x-content-type-options": "nosniff",
        "connection": "close",
    }
    if code == "method_not_allowed":
        headers["allow"] = KNOWN_METHODS
    lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
    first = [b"%s: %s\r\n" % pair for pair in default_headers]
    return request_id, status, b"".join([STATUS_LINE[status], *first, *lines, b"\r\n", body])


def classify_parser_error(error: httptools.HttpParserError, data: bytes) -> str:
    """The error code for a request that the parser refused."""
    if isinstance(error.__context__, RequestRejected):
        return error.__context__.code
    unknown = isinstance(error, httptools.HttpParserInvalidMethodError)
    return "method_not_allowed" if unknown and REQUEST_LINE.match(data) else "bad_request"


def report_refusal(running: AppState | None, request_id: str, code: str, status: int) -> None:
    """The access line and the metrics of such a request."""
    log.info("request", request_id=request_id, route=UNMATCHED_ROUTE, status=status, code=code)
    if running is not None:
        running.metrics.observe_request(UNMATCHED_ROUTE, "other", status, 0.0, None)
        running.metrics.refused(code)
