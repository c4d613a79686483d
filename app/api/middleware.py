"""The one middleware: request id, path tolerance, CORS, last-resort errors, access line, metrics.

Pure ASGI and one class, because every layer costs each request (performance study, section 2).
"""

import asyncio
import re
import secrets
import time
from collections.abc import Sequence

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import cors
from app.api.errors import NOT_REFUSALS, OUR_BUG, ErrorResponse
from app.api.paths import routed
from app.api.routes import SILENT_PATHS, UNMATCHED
from app.api.running import EdgeMetrics, Exchange, cut, edge_of
from app.domain.errors import Draining
from app.service.about import about, about_request

log = structlog.get_logger("koi.access")

CLIENT_ID = re.compile(rb"[\x21-\x7e]{1,128}")
GONE = 499
"""Status in the log of a request whose client left; nothing was sent."""


class Edge:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(new_request_id(), time.perf_counter())
        about_request(exchange.request_id)
        origin = _arrived(scope, exchange)
        stamp = [
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
            *cors.allowed(origin, edge_of(scope).cors_origins),
        ]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [*message.get("headers", ()), *stamp]
            await send(message)

        metrics: EdgeMetrics = scope["state"]["running"].metrics
        metrics.in_flight(1)
        try:
            await self._serve(scope, receive, answer, exchange)
        finally:
            metrics.in_flight(-1)
            for release in exchange.held:
                release()
            _report(scope, exchange, metrics)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, exchange: Exchange) -> None:
        if cors.is_preflight(scope):
            await _empty(send, 204, cors.preflight(scope))
            return
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            _let_go(scope, exchange)
        except asyncio.CancelledError:
            # The server's grace is over: say it in the caller's dialect before going down.
            if not exchange.status:
                await ErrorResponse(Draining().note, task_id=exchange.task_id)(scope, receive, send)
            raise
        except Exception:
            # The last resort: no failure may leave the dialect.
            if exchange.status and await _left(receive):
                return
            log.exception("unforeseen", request_id=exchange.request_id, task_id=exchange.task_id)
            if exchange.status:
                raise
            await ErrorResponse(OUR_BUG, task_id=exchange.task_id)(scope, receive, send)


def _let_go(scope: Scope, exchange: Exchange) -> None:
    """A client that turns out to be there after all must not hear of an error of ours."""
    if not exchange.status:
        cut(scope)
        exchange.status = GONE


def new_request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


def _arrived(scope: Scope, exchange: Exchange) -> bytes | None:
    """Put the exchange and the routed path into the scope; the Origin, if one was sent."""
    scope["koi.exchange"] = exchange
    scope["path"], exchange.deployment = routed(scope["path"])
    origin: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"origin":
            origin = value
        elif name == b"x-client-request-id" and CLIENT_ID.fullmatch(value):
            exchange.client_request_id = value.decode("ascii")
    return origin


async def _left(receive: Receive) -> bool:
    """Whether a failure to write was only the client's departure, noticed by the socket first."""
    try:
        async with asyncio.timeout(0.1):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        return False
    return True


async def _empty(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _report(scope: Scope, exchange: Exchange, metrics: EdgeMetrics) -> None:
    route = getattr(scope.get("route"), "path_format", UNMATCHED)
    status = exchange.verdict or exchange.status
    seconds = time.perf_counter() - exchange.started_s
    overhead_s: float | None = seconds - (exchange.upstream_s or 0.0)
    if exchange.waited and exchange.upstream_s is None:
        overhead_s = None
    elif overhead_s is not None:
        overhead_s = max(overhead_s, 0.0)
    metrics.observe_request(route, scope["method"], status, seconds, overhead_s, exchange.cache)
    if exchange.code is not None and exchange.code not in NOT_REFUSALS:
        metrics.refused(exchange.code)
    if route not in SILENT_PATHS:
        log.info(
            "request",
            request_id=exchange.request_id,
            method=scope["method"],
            route=route,
            status=status,
            code=exchange.code,
            reason=exchange.reason,
            ms=round(seconds * 1000, 2),
            user=exchange.user,
            key_id=exchange.key_id,
            task_id=exchange.task_id or about().get("task_id"),
            cache=exchange.cache,
            client_request_id=exchange.client_request_id,
        )
