"""A refusal by the HTTP parser, as bytes: no request reached the routes."""

import re
from collections.abc import Sequence

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.api.errors import error_body, error_headers, status_of
from app.api.middleware import new_request_id
from app.domain.errors import InvalidRequest, Overloaded

REQUEST_LINE = re.compile(rb"[A-Z]{1,20} [!-~]")
METHODS = "DELETE, GET, HEAD, OPTIONS, POST"
WORDS = {
    "bad_request": "The request is not valid HTTP/1.1.",
    "header_fields_too_large": "The request headers are too large.",
    "invalid_host": "The Host header is missing, malformed or not served here.",
    "method_not_allowed": "This method is not known here.",
    "overloaded": "Too many connections; try again shortly.",
    "request_timeout": "The request did not arrive in time.",
    "uri_too_long": "The URL is too long.",
}


class Unacceptable(Exception):
    """Raised inside a parser callback; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def refusal(code: str, dated: Sequence[tuple[bytes, bytes]]) -> tuple[str, int, bytes]:
    """The request id, the status and the whole answer; `dated` are the server's own headers."""
    words = WORDS[code]
    note = (Overloaded(words) if code == "overloaded" else InvalidRequest(code, words)).note
    body, request_id, status = error_body(note), new_request_id(), status_of(code)
    headers = {
        **error_headers(note),
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": request_id,
        "x-content-type-options": "nosniff",
        "connection": "close",
    }
    if code == "method_not_allowed":
        headers["allow"] = METHODS
    lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
    first = [b"%s: %s\r\n" % pair for pair in dated]
    return request_id, status, b"".join([STATUS_LINE[status], *first, *lines, b"\r\n", body])


def verdict(error: httptools.HttpParserError, data: bytes) -> str:
    """The code of what the parser did not take."""
    if isinstance(error.__context__, Unacceptable):
        return error.__context__.code
    unknown = isinstance(error, httptools.HttpParserInvalidMethodError)
    return "method_not_allowed" if unknown and REQUEST_LINE.match(data) else "bad_request"
