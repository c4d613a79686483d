"""The public error contract: which failure becomes which HTTP status and OpenAI error object.

Statuses and types after openai-compat study, section 9; retry advice after section 4. SDKs repeat
408, 409, 429 and 5xx unless told not to, so every error says whether to.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from app.api.paths import makes_no_images
from app.api.running import cut, exchange_of
from app.domain.codes import INVALID_CODES, UPSTREAM_CODES
from app.domain.errors import (
    FailureNote,
    GatewayError,
    GenerationFailed,
    InvalidApiKey,
    InvalidRequest,
    StillProcessing,
)

CALLER = "invalid_request_error"
SERVER = "server_error"
PACE = "rate_limit_error"
AWAY = "service_unavailable_error"
IMAGE = "image_generation_user_error"
LONGEST_RETRY_AFTER_S = 60

CONTRACT: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        **dict.fromkeys(INVALID_CODES, (400, CALLER)),
        "unknown_url": (404, CALLER),
        "method_not_allowed": (405, CALLER),
        "request_timeout": (408, CALLER),
        "request_too_large": (413, CALLER),
        "uri_too_long": (414, CALLER),
        "unsupported_media_type": (415, CALLER),
        "header_fields_too_large": (431, CALLER),
        "invalid_api_key": (401, CALLER),
        "admin_key_required": (403, CALLER),
        "model_not_found": (404, CALLER),
        "task_not_found": (404, CALLER),
        "image_not_found": (404, CALLER),
        "task_not_cancellable": (400, CALLER),
        "task_cancelled": (400, CALLER),
        "idempotency_key_reuse": (422, CALLER),
        "insufficient_quota": (429, "insufficient_quota"),
        "rate_limit_exceeded": (429, PACE),
        "concurrency_limit_exceeded": (429, PACE),
        "too_many_waiting": (429, PACE),
        "too_many_refusals": (429, "insufficient_quota"),
        "price_unknown": (400, CALLER),
        "spending_stopped": (403, CALLER),
        "not_cached": (504, SERVER),
        "still_processing": (504, SERVER),
        "ledger_unavailable": (503, AWAY),
        "draining": (503, AWAY),
        "interrupted": (503, AWAY),
        "overloaded": (503, AWAY),
        "internal_error": (500, SERVER),
        **dict.fromkeys(UPSTREAM_CODES, (502, SERVER)),
        "upstream_billing": (503, AWAY),
        "upstream_rate_limited": (429, PACE),
        "upstream_rejected": (400, IMAGE),
        "content_policy_violation": (400, IMAGE),
        "upstream_timeout": (504, SERVER),
    }
)
"""code -> (HTTP status, OpenAI `type`), complete by test."""

CLOSING = frozenset(
    {"draining", "request_timeout", "request_too_large", "uri_too_long", "header_fields_too_large"}
)
"""Codes after which the connection is of no more use."""

NOT_REFUSALS = frozenset({"still_processing", "task_cancelled"})
"""Codes of answers that refuse nothing: the caller's own wish, and a job that goes on."""

WAITS_S = {"still_processing": 1}
"""Where waiting helps although the failure did not say how long, in seconds."""

MODERATION = "content_policy_violation"
MODERATION_CODES = (MODERATION, "moderation_blocked")
"""OpenAI's two codes for a refused prompt. A caller gets the one that the model it names has there
(`Exchange.moderation`), and both in the message: clients match on either."""
MODERATION_ASIDE = (
    f"{', '.join(MODERATION_CODES)}: request was rejected as a result of the safety system"
)
"""Both codes, and the sentence by which LiteLLM tells a refused prompt."""

OUR_BUG = FailureNote("internal_error", "The gateway failed; its operator has been told.")


def status_of(code: str) -> int:
    return CONTRACT[code][0]


def error_object(note: FailureNote, moderation: str = MODERATION) -> dict[str, Any]:
    """The four fields an OpenAI error always has."""
    message, code = note.message, note.code
    if code == MODERATION:
        message, code = f"{message} ({MODERATION_ASIDE})", moderation
    return {
        "message": message,
        "type": CONTRACT[note.code][1],
        "param": note.param,
        "code": code,
    }


def error_body(
    note: FailureNote, task_id: str | None = None, moderation: str = MODERATION
) -> bytes:
    error = error_object(note, moderation)
    if task_id is not None:
        error["task_id"] = task_id
    return orjson.dumps({"error": error})


def error_headers(note: FailureNote) -> dict[str, str]:
    """The headers a client acts on."""
    # A body that stalled on the way was never understood, so a repeat is safe and may help.
    retry = note.retryable or note.code == "request_timeout"
    headers = {"x-should-retry": "true" if retry else "false"}
    wait_s = note.retry_after_s if note.retry_after_s is not None else WAITS_S.get(note.code)
    if retry and wait_s is not None:
        wait_s = min(max(wait_s, 1), LONGEST_RETRY_AFTER_S)
        headers["retry-after"] = str(wait_s)
        headers["retry-after-ms"] = str(wait_s * 1000)
    if note.code in CLOSING:
        headers["connection"] = "close"
    if note.code == "invalid_api_key":
        headers["www-authenticate"] = "Bearer"
    return headers


class ErrorResponse(Response):
    """A failure as the caller sees it. Sent, it tells the exchange its code."""

    def __init__(
        self,
        note: FailureNote,
        *,
        task_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        moderation: str = MODERATION,
    ) -> None:
        extra = {} if task_id is None else {"x-koi-task-id": task_id}
        super().__init__(
            error_body(note, task_id, moderation),
            status_of(note.code),
            {**error_headers(note), **extra, **(headers or {})},
            "application/json",
        )
        self.code = note.code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange_of(scope).code = self.code
        await super().__call__(scope, receive, send)


def record_late(scope: Scope, note: FailureNote) -> None:
    """Tell the access line and the metrics of a failure after the status line."""
    record = exchange_of(scope)
    record.code, record.verdict = note.code, status_of(note.code)


def end_late(scope: Scope, note: FailureNote) -> None:
    """A failure in the middle of an answer: hanging up is the one way to say it."""
    record_late(scope, note)
    cut(scope)


def task_of(error: GatewayError) -> str | None:
    return error.task_id if isinstance(error, StillProcessing | GenerationFailed) else None


async def on_gateway_error(request: Request, error: Exception) -> Response:
    """Any failure we can explain; the task id is told as soon as there is one."""
    assert isinstance(error, GatewayError)
    record = exchange_of(request.scope)
    if isinstance(error, InvalidApiKey):
        record.reason, record.key_id = error.why, error.key_id
    return ErrorResponse(
        error.note, task_id=task_of(error) or record.task_id, moderation=record.moderation
    )


def unknown_url() -> InvalidRequest:
    return InvalidRequest("unknown_url", "No such URL here. The API starts at /v1.")


def images_only() -> InvalidRequest:
    return InvalidRequest(
        "unknown_url",
        "This gateway makes images only, there is no text model here: "
        "POST /v1/images/generations with one of the models of GET /v1/models.",
    )


def wrong_method() -> InvalidRequest:
    return InvalidRequest("method_not_allowed", "This URL does not take this method.")


async def on_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals (404, 405) in the same dialect."""
    status = getattr(error, "status_code", 500)
    if status == 404:
        wrong_door = makes_no_images(request.scope["path"])
        return ErrorResponse((images_only() if wrong_door else unknown_url()).note)
    if status == 405:
        return ErrorResponse(wrong_method().note, headers={"allow": _allowed(request)})
    return ErrorResponse(OUR_BUG)


def _allowed(request: Request) -> str:
    """Every method of this path: it may have several routes, and a literal one goes first."""
    path = request.scope["path"]
    routes = [r for r in request.app.routes if isinstance(r, Route) and r.path_regex.match(path)]
    literal = [route for route in routes if route.path == path]
    methods = {method for route in literal or routes for method in route.methods or ()}
    return ", ".join(sorted(methods))
