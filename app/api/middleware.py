"""The one middleware: request id, path tolerance, CORS, last-resort errors, access line, metrics.

It is one class in pure ASGI, because every layer costs each request. CORS is part of it, because
Starlette's middleware costs three times as much (7 us a request against 2), answers a refused
preflight in plain text instead of an OpenAI error, and cannot reach the errors of this layer.

Cross-origin pages may use bearer keys, never cookies (Fetch standard).
"""

import asyncio
import re
import time
from collections.abc import Sequence
from random import getrandbits

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.errors import INTERNAL_ERROR, NON_REFUSAL_CODES, ErrorResponse
from app.api.paths import normalize_path
from app.api.response_headers import EXPOSED_HEADERS
from app.api.routes import UNLOGGED_PATHS, UNMATCHED_ROUTE
from app.api.state import (
    RECORD_KEY,
    AccessRecord,
    EdgeMetrics,
    RawHeaders,
    abort_connection,
    get_scope_access_record,
    get_scope_edge_settings,
    get_scope_fields,
    get_scope_metrics,
    release_request,
)
from app.domain.errors import GatewayDraining
from app.service.log_context import bind_request_id, log_context

log = structlog.get_logger("koi.access")

CLIENT_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
STATUS_CLIENT_CLOSED_REQUEST = 499
"""Status in the log of a request whose client left before an answer; it is never sent."""


class EdgeMiddleware:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = AccessRecord(generate_request_id(), time.perf_counter())
        bind_request_id(record.request_id)
        origin = _open_record(scope, record)
        record.stamp = [
            (b"x-request-id", record.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
            *build_cors_headers(origin, get_scope_edge_settings(scope).cors_origins),
        ]

        async def send_stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *record.stamp]
            await send(message)

        metrics = get_scope_metrics(scope)
        metrics.in_flight(1)
        try:
            if is_preflight(scope):
                await _send_empty(send_stamped, 204, build_preflight_headers(scope))
            else:
                await self.app(scope, receive, send_stamped)
        except BaseException as error:
            if not await _answer_failure(error, scope, receive, send_stamped):
                raise
        finally:
            metrics.in_flight(-1)
            for cleanup in record.cleanups:
                cleanup()
            _log_and_count(scope, record, metrics)
            release_request(scope, record)


async def _answer_failure(error: BaseException, scope: Scope, receive: Receive, send: Send) -> bool:
    """Whatever failed, the caller gets an OpenAI error. Whether that settles it: otherwise the
    failure goes on to the server."""
    record = get_scope_access_record(scope)
    if isinstance(error, ClientDisconnect):
        _hang_up(scope, record)
        return True
    if isinstance(error, asyncio.CancelledError):
        # The server stops and waits no longer: answer before it ends.
        if not record.status:
            await ErrorResponse(GatewayDraining().note, task_id=record.task_id)(
                scope, receive, send
            )
        return False
    if not isinstance(error, Exception):
        return False
    if record.status and await _has_client_left(receive):
        return True
    log.error("unforeseen", request_id=record.request_id, task_id=record.task_id, exc_info=error)
    if record.status:
        return False
    await ErrorResponse(INTERNAL_ERROR, task_id=record.task_id)(scope, receive, send)
    return True


def _hang_up(scope: Scope, record: AccessRecord) -> None:
    """The client has left: a 500 would be untrue, and an answer that began stays unfinished. The
    server may not have read yet that it left."""
    abort_connection(scope)
    if not record.status:
        record.status = STATUS_CLIENT_CLOSED_REQUEST


def generate_request_id() -> str:
    # A name, no secret: the operating system's randomness would be asked for each request.
    return f"req_{getrandbits(128):032x}"


def _open_record(scope: Scope, record: AccessRecord) -> bytes | None:
    """Put the access record and the path to route into the scope. Returns the Origin, if any."""
    scope[RECORD_KEY] = record
    scope["path"], record.deployment = normalize_path(scope["path"])
    fields = get_scope_fields(scope)
    given_id = fields.get(b"x-client-request-id")
    if given_id is not None and CLIENT_REQUEST_ID.fullmatch(given_id):
        record.client_request_id = given_id.decode("ascii")
    return fields.get(b"origin")


async def _has_client_left(receive: Receive) -> bool:
    """Whether a write failed only because the client left, which the socket noticed first."""
    try:
        async with asyncio.timeout(0.1):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def _send_empty(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _log_and_count(scope: Scope, record: AccessRecord, metrics: EdgeMetrics) -> None:
    route = getattr(scope.get("route"), "path_format", UNMATCHED_ROUTE)
    status = record.late_status or record.status
    seconds = time.perf_counter() - record.started_s
    overhead_s: float | None = seconds - (record.upstream_s or 0.0)
    if record.waited and record.upstream_s is None:
        overhead_s = None
    elif overhead_s is not None:
        overhead_s = max(overhead_s, 0.0)
    metrics.observe_request(route, scope["method"], status, seconds, overhead_s, record.cache)
    if record.code is not None and record.code not in NON_REFUSAL_CODES:
        metrics.refused(record.code)
    if route not in UNLOGGED_PATHS:
        log.info(
            "request",
            request_id=record.request_id,
            method=scope["method"],
            route=route,
            status=status,
            code=record.code,
            reason=record.reason,
            ms=round(seconds * 1000, 2),
            user=record.user,
            key_id=record.key_id,
            task_id=record.task_id or log_context().get("task_id"),
            cache=record.cache,
            client_request_id=record.client_request_id,
            **({} if record.tag is None else {"tag": record.tag}),
        )


ANY_ORIGIN = "*"
CORS_METHODS = b"GET, HEAD, POST, DELETE, OPTIONS"
CORS_DEFAULT_HEADERS = (
    b"accept, api-key, authorization, cache-control, content-type, idempotency-key"
)
CORS_EXPOSED_HEADERS = ", ".join(sorted(EXPOSED_HEADERS)).encode()
HEADER_NAMES = re.compile(rb"[A-Za-z0-9_\-, ]{1,2048}")
PREFLIGHT_MAX_AGE_S = b"86400"


def build_cors_headers(origin: bytes | None, origins: Sequence[str]) -> RawHeaders:
    """The headers that let a page of this origin read an answer; none for other origins."""
    if origin is None:
        return []
    if ANY_ORIGIN in origins:
        shown: RawHeaders = [(b"access-control-allow-origin", b"*")]
    elif origin.decode("latin-1") in origins:
        shown = [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
    else:
        return [(b"vary", b"origin")]
    return [*shown, (b"access-control-expose-headers", CORS_EXPOSED_HEADERS)]


def is_preflight(scope: Scope) -> bool:
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return {b"origin", b"access-control-request-method"} <= names


def build_preflight_headers(scope: Scope) -> RawHeaders:
    """Allow every header that is asked for: SDKs send new ones with every release."""
    given = dict(scope["headers"])
    asked = given.get(b"access-control-request-headers", b"")
    headers: RawHeaders = [
        (b"access-control-allow-methods", CORS_METHODS),
        (
            b"access-control-allow-headers",
            asked if HEADER_NAMES.fullmatch(asked) else CORS_DEFAULT_HEADERS,
        ),
        (b"access-control-max-age", PREFLIGHT_MAX_AGE_S),
        (b"vary", b"access-control-request-headers"),
    ]
    if given.get(b"access-control-request-private-network") == b"true":
        headers.append((b"access-control-allow-private-network", b"true"))
    return headers
