"""The public error contract: which failure becomes which HTTP status and OpenAI error object.

SDKs repeat 408, 409, 429 and 5xx unless told not to, so every error says whether to repeat.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.api.paths import is_non_image_path
from app.api.state import (
    AccessRecord,
    RawHeaders,
    abort_connection,
    get_edge_settings,
    get_scope_access_record,
)
from app.api.whole_response import WholeResponse, describe_body, encode_headers, send_whole
from app.api.wire import ErrorObject
from app.domain.administration import ProjectArchived
from app.domain.errors import (
    FailureNote,
    GatewayError,
    GenerationFailed,
    InvalidApiKey,
    InvalidRequest,
    StillProcessing,
)
from app.domain.failure import INVALID_CODES, UPSTREAM_CODES

INVALID_REQUEST_ERROR = "invalid_request_error"
SERVER_ERROR = "server_error"
RATE_LIMIT_ERROR = "rate_limit_error"
UNAVAILABLE_ERROR = "service_unavailable_error"
IMAGE_USER_ERROR = "image_generation_user_error"
MAX_RETRY_AFTER_S = 60
ORGANIZATION_ROOT = "/v1/organization/"

ERROR_TABLE: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        **dict.fromkeys(INVALID_CODES, (400, INVALID_REQUEST_ERROR)),
        "unknown_url": (404, INVALID_REQUEST_ERROR),
        "method_not_allowed": (405, INVALID_REQUEST_ERROR),
        "request_timeout": (408, INVALID_REQUEST_ERROR),
        "request_too_large": (413, INVALID_REQUEST_ERROR),
        "uri_too_long": (414, INVALID_REQUEST_ERROR),
        "unsupported_media_type": (415, INVALID_REQUEST_ERROR),
        "header_fields_too_large": (431, INVALID_REQUEST_ERROR),
        "invalid_api_key": (401, INVALID_REQUEST_ERROR),
        "admin_key_required": (403, INVALID_REQUEST_ERROR),
        "cross_origin_refused": (403, INVALID_REQUEST_ERROR),
        "not_allowed": (403, INVALID_REQUEST_ERROR),
        "insufficient_permissions": (403, INVALID_REQUEST_ERROR),
        "project_archived": (403, INVALID_REQUEST_ERROR),
        "invitation_ended": (410, INVALID_REQUEST_ERROR),
        "object_not_found": (404, INVALID_REQUEST_ERROR),
        "conflict": (400, INVALID_REQUEST_ERROR),
        "model_not_found": (404, INVALID_REQUEST_ERROR),
        "task_not_found": (404, INVALID_REQUEST_ERROR),
        "image_not_found": (404, INVALID_REQUEST_ERROR),
        "task_not_cancellable": (400, INVALID_REQUEST_ERROR),
        "task_cancelled": (400, INVALID_REQUEST_ERROR),
        "idempotency_key_reuse": (422, INVALID_REQUEST_ERROR),
        "insufficient_quota": (429, "insufficient_quota"),
        "rate_limit_exceeded": (429, RATE_LIMIT_ERROR),
        "concurrency_limit_exceeded": (429, RATE_LIMIT_ERROR),
        "too_many_waiting": (429, RATE_LIMIT_ERROR),
        "too_many_refusals": (429, "insufficient_quota"),
        "price_unknown": (400, INVALID_REQUEST_ERROR),
        "spending_stopped": (403, INVALID_REQUEST_ERROR),
        "not_cached": (504, SERVER_ERROR),
        "still_processing": (504, SERVER_ERROR),
        "ledger_unavailable": (503, UNAVAILABLE_ERROR),
        "draining": (503, UNAVAILABLE_ERROR),
        "interrupted": (503, UNAVAILABLE_ERROR),
        "overloaded": (503, UNAVAILABLE_ERROR),
        "internal_error": (500, SERVER_ERROR),
        **dict.fromkeys(UPSTREAM_CODES, (502, SERVER_ERROR)),
        "upstream_billing": (503, UNAVAILABLE_ERROR),
        "upstream_rate_limited": (429, RATE_LIMIT_ERROR),
        "upstream_rejected": (400, IMAGE_USER_ERROR),
        "content_policy_violation": (400, IMAGE_USER_ERROR),
        "upstream_timeout": (504, SERVER_ERROR),
    }
)
"""code -> (HTTP status, OpenAI `type`), complete by test."""

CLOSING_CODES = frozenset(
    {"draining", "request_timeout", "request_too_large", "uri_too_long", "header_fields_too_large"}
)
"""Codes after which the server closes the connection."""

NON_REFUSAL_CODES = frozenset({"still_processing", "task_cancelled"})
"""Codes of answers that refuse nothing: the caller cancelled, or the job goes on."""

DEFAULT_RETRY_AFTER_S = {"still_processing": 1}
"""Seconds to wait where waiting helps although the failure does not say how long."""

DEFAULT_MODERATION_CODE = "content_policy_violation"
MODERATION_CODES = (DEFAULT_MODERATION_CODE, "moderation_blocked")
"""OpenAI's two codes for a refused prompt. A caller gets the one that OpenAI uses for the model it
named (`AccessRecord.moderation_code`), and both in the message: clients match on either."""
MODERATION_SUFFIX = (
    f"{', '.join(MODERATION_CODES)}: request was rejected as a result of the safety system"
)
"""Both codes, and the sentence by which LiteLLM recognises a refused prompt."""

INTERNAL_ERROR = FailureNote("internal_error", "The gateway failed; its operator has been told.")


def get_status(code: str) -> int:
    return ERROR_TABLE[code][0]


def build_error_object(
    note: FailureNote, moderation_code: str = DEFAULT_MODERATION_CODE
) -> ErrorObject:
    """The four fields that an OpenAI error always has."""
    message, code = note.message, note.code
    if code == DEFAULT_MODERATION_CODE:
        message, code = f"{message} ({MODERATION_SUFFIX})", moderation_code
    return {
        "message": message,
        "type": ERROR_TABLE[note.code][1],
        "param": note.param,
        "code": code,
    }


def build_error_body(
    note: FailureNote, task_id: str | None = None, moderation_code: str = DEFAULT_MODERATION_CODE
) -> bytes:
    error = build_error_object(note, moderation_code)
    if task_id is not None:
        error["task_id"] = task_id
    return orjson.dumps({"error": error})


def build_error_headers(note: FailureNote) -> dict[str, str]:
    """The headers a client acts on."""
    # A body that did not arrive in time was never read, so a repeat is safe and may help.
    retry = note.retryable or note.code == "request_timeout"
    headers = {"x-should-retry": "true" if retry else "false"}
    wait_s = (
        note.retry_after_s
        if note.retry_after_s is not None
        else DEFAULT_RETRY_AFTER_S.get(note.code)
    )
    if retry and wait_s is not None:
        wait_s = min(max(wait_s, 1), MAX_RETRY_AFTER_S)
        headers["retry-after"] = str(wait_s)
        headers["retry-after-ms"] = str(wait_s * 1000)
    if note.code in CLOSING_CODES:
        headers["connection"] = "close"
    if note.code == "invalid_api_key":
        headers["www-authenticate"] = "Bearer"
    return headers


def _render(note: FailureNote, task_id: str | None, moderation: str) -> tuple[bytes, RawHeaders]:
    """The body of an error and its headers."""
    headers = build_error_headers(note)
    if task_id is not None:
        headers["x-koi-task-id"] = task_id
    body = build_error_body(note, task_id, moderation)
    return body, describe_body(headers, len(body), "application/json")


_render_refusal = lru_cache(maxsize=512)(_render)
"""Refusals are told in the same words again and again. An error that names a task comes once, and
may quote the provider, so it is not kept."""


class ErrorResponse(WholeResponse):
    """A failure as the caller sees it. Sending it writes its code into the access record."""

    def __init__(
        self,
        note: FailureNote,
        *,
        task_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        moderation_code: str = DEFAULT_MODERATION_CODE,
    ) -> None:
        render = _render_refusal if task_id is None else _render
        self.body, own_headers = render(note, task_id, moderation_code)
        self.raw_headers = [*own_headers, *encode_headers(headers or {})]
        self.status_code, self.code, self.background = get_status(note.code), note.code, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        get_scope_access_record(scope).code = self.code
        await send_whole(scope, send, self.status_code, self.raw_headers, bytes(self.body))


def record_late_failure(scope: Scope, note: FailureNote) -> None:
    """Put a failure that came after the status line into the access record."""
    record = get_scope_access_record(scope)
    record.code, record.late_status = note.code, get_status(note.code)


def abort_response(scope: Scope, note: FailureNote) -> None:
    """A failure in the middle of an answer: only hanging up can tell the caller."""
    record_late_failure(scope, note)
    abort_connection(scope)


def get_task_id(error: GatewayError) -> str | None:
    return error.task_id if isinstance(error, StillProcessing | GenerationFailed) else None


async def handle_gateway_error(request: Request, error: Exception) -> Response:
    """What the framework asks for."""
    assert isinstance(error, GatewayError)
    return answer_gateway_error(get_scope_access_record(request.scope), error)


def answer_gateway_error(record: AccessRecord, error: GatewayError) -> Response:
    """Answer a failure that Koi raised itself; with the task id as soon as there is one."""
    if isinstance(error, InvalidApiKey):
        record.reason, record.key_id = error.why, error.key_id
    elif isinstance(error, ProjectArchived):
        record.reason, record.key_id = "team_archived", error.key_id
    return ErrorResponse(
        error.note,
        task_id=get_task_id(error) or record.task_id,
        moderation_code=record.moderation_code,
    )


def unknown_url_error() -> InvalidRequest:
    return InvalidRequest("unknown_url", "No such URL here. The API starts at /v1.")


def images_only_error() -> InvalidRequest:
    return InvalidRequest(
        "unknown_url",
        "This gateway makes images only, there is no text model here: "
        "POST /v1/images/generations with one of the models of GET /v1/models.",
    )


def wrong_method_error() -> InvalidRequest:
    return InvalidRequest("method_not_allowed", "This URL does not take this method.")


async def handle_http_exception(request: Request, error: Exception) -> Response:
    """Answer the framework's own refusals (404, 405) as OpenAI errors too."""
    status = getattr(error, "status_code", 500)
    if status == 404 or (status == 405 and _is_hidden(request)):
        return ErrorResponse(find_unknown_url_error(request).note)
    if status == 405:
        return ErrorResponse(
            wrong_method_error().note, headers={"allow": _list_allowed_methods(request)}
        )
    return ErrorResponse(INTERNAL_ERROR)


def _is_hidden(request: Request) -> bool:
    """Without documentation its URLs do not exist, whatever the method."""
    path = request.scope["path"]
    is_document = path in ("/openapi.json", "/docs") or path.startswith("/docs/")
    return is_document and not get_edge_settings(request).docs


def find_unknown_url_error(request: Request) -> InvalidRequest:
    path = request.scope["path"]
    if is_non_image_path(path):
        return images_only_error()
    if path.startswith(ORGANIZATION_ROOT):
        known = {
            route.path.removeprefix(ORGANIZATION_ROOT)
            for route in request.app.routes
            if isinstance(route, Route) and route.path.startswith(ORGANIZATION_ROOT)
        }
        return InvalidRequest(
            "unknown_url",
            "No such URL here. Of OpenAI's administration API, /v1/organization, there are: "
            f"{', '.join(sorted(known))}.",
        )
    return unknown_url_error()


def _list_allowed_methods(request: Request) -> str:
    """Every method of this path: several routes may match, and one without parameters wins."""
    path = request.scope["path"]
    routes = [r for r in request.app.routes if isinstance(r, Route) and r.path_regex.match(path)]
    literal = [route for route in routes if route.path == path]
    methods = {method for route in literal or routes for method in route.methods or ()}
    return ", ".join(sorted(methods))
