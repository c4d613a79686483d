"""HTTP/1.1 on one connection: what uvicorn's parser accepts and a gateway should refuse.

A slow request has deadlines, a long one limits, and there must be one valid Host. Refusals are
OpenAI errors like all others.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Any, cast

import httptools
import structlog
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.disconnect import PeerState, probe_peer
from app.api.routes import UNMATCHED_ROUTE
from app.api.settings import EdgeSettings
from app.api.state import PEER_STATE_KEY, AppState
from app.server import http_compat
from app.server.http_errors import RequestRejected, build_error_response, classify_parser_error

log = structlog.get_logger("koi.access")

MAX_URI_BYTES = 4096
MAX_HEADER_BYTES = 16 << 10
MAX_HEADERS = 100
KEEP_ALIVE_TIMEOUT_S = 75
LINGER_S, WRITE_BUFFER_BYTES = 1.0, 16 << 10
WRITE_STALL_TIMEOUT_S = 60.0
RESET_PROBE = b"HTTP/1.1 102 Processing\r\n\r\n"
RESET_CHECKS_S, EOF_GRACE_S = (0.005, 0.05, 0.25, 1.0), 0.25
"""When to check whether a client that closed its side has reset the connection, and after how long
it is taken for one that still reads."""


class EdgeHttpProtocol(HttpToolsProtocol):
    """One connection. Its settings and the gateway come from the lifespan."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings: EdgeSettings = self.app_state.get("edge") or EdgeSettings()
        self._deadline: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_message = False
        self._head_bytes = 0
        self._field_bytes = 0
        self._unwritten_bytes = 0
        self._closing = False
        self._upgrade_offered = False
        self._eof_at_s = math.inf
        self._active_cycle: RequestResponseCycle | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.settings.max_connections:
            # The remaining file descriptors are needed for jobs that are paid for.
            self._closing = True
            self._send_error("overloaded")
            return
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._arm(self.settings.first_byte_timeout_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self.resume_writing()
        # uvicorn tells only the newest pipelined request; the one being answered must know too.
        if self._active_cycle is not None and not self._active_cycle.response_complete:
            self._active_cycle.disconnected = True
            self._active_cycle.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._reject(classify_parser_error(error, data))
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_URI_BYTES + MAX_HEADER_BYTES:
                self._reject("header_fields_too_large")
        elif not self._in_message:
            self._start_keep_alive_timer()

    def _feed(self, data: bytes) -> None:
        """Parse. An offer to upgrade (h2c, websocket) may be ignored (RFC 9110, section 7.8). The
        parser would take the rest for another protocol, so it gets the head again without it.
        """
        while data:
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as offer:
                version = self.parser.get_http_version()
                head = http_compat.strip_upgrade(
                    self.parser.get_method(), self.url, version, self.headers
                )
                data = head + data[offer.args[0] :]
                self._upgrade_offered = False
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether to keep the connection: a client that closed only its own side still reads."""
        cycle = self._active_cycle
        if cycle is None or cycle.response_complete or self._in_message or self._closing:
            return False
        self.cycle.keep_alive = False
        if not cycle.response_started and cycle.scope["http_version"] == "1.1":
            # A client that still reads ignores this; one that is gone answers with a reset.
            self.transport.write(RESET_PROBE)
        self._eof_at_s = self.loop.time()
        for pause_s in RESET_CHECKS_S:
            self.loop.call_later(pause_s, self._close_if_reset)
        return True

    def _get_peer_state(self) -> PeerState:
        peer = probe_peer(self.transport)
        if peer is PeerState.HALF_CLOSED and self.loop.time() - self._eof_at_s > EOF_GRACE_S:
            return PeerState.CONNECTED
        return peer

    def _close_if_reset(self) -> None:
        if not self.transport.is_closing() and probe_peer(self.transport) is PeerState.DISCONNECTED:
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unwritten_bytes = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(WRITE_STALL_TIMEOUT_S, self._check_write_progress)

    def resume_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    # The parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[PEER_STATE_KEY] = self._get_peer_state
        self._in_head = self._in_message = True
        self._head_bytes = self._field_bytes = 0
        self._arm(self.settings.head_timeout_s, lambda: self._reject("request_timeout"))

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URI_BYTES:
            raise RequestRejected("uri_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        value = value.strip(b" \t")
        if name.lower() == b"x-forwarded-proto":
            # Of several proxies the first one spoke with the client.
            value = value.partition(b",")[0].rstrip()
        self._field_bytes += len(name) + len(value) + 4
        if self._field_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            raise RequestRejected("header_fields_too_large")
        # A trailer must not pass for a header: it comes after everything was decided.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise RequestRejected("bad_request")
        self.url = http_compat.to_origin_form(self.url, self.headers)
        if not self.url.startswith(b"/"):
            raise RequestRejected("bad_request")
        if not http_compat.is_host_allowed(self.headers, version, self.settings.allowed_hosts):
            raise RequestRejected("invalid_host")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise RequestRejected("method_not_allowed")
            self._upgrade_offered = True
            return
        self._in_head = False
        self.url = b"/" + self.url.lstrip(b"/")
        # The route's own timeout for its body comes first; this one is for routes that read none.
        self._arm(self.settings.body_timeout_s + LINGER_S, lambda: self._reject("request_timeout"))
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._upgrade_offered:
            return
        self._in_message = False
        self._disarm()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, http_compat.adapt_app(app, cycle))

    # Deadlines

    def _arm(self, seconds: float, act: Callable[[], None]) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, act)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _start_keep_alive_timer(self) -> None:
        """Start the keep-alive timeout if the connection is idle and it does not run yet."""
        idle = self.cycle is not None and self.cycle.response_complete
        if idle and self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _check_write_progress(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting >= self._unwritten_bytes:
            self.transport.abort()
            return
        self._unwritten_bytes = waiting
        self._write_timer = self.loop.call_later(WRITE_STALL_TIMEOUT_S, self._check_write_progress)

    # Refusals

    def _reject(self, code: str) -> None:
        """End the connection, with an error object unless another answer is being sent."""
        self._closing = True
        self._disarm()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head or not self._in_message or self.pipeline:
                cycle.keep_alive = False
                return
            started = cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
            if started:
                self.transport.close()
                return
        elif self._in_message and not self._in_head:
            self.transport.close()
            return
        self._send_error(code)

    def _send_error(self, code: str) -> None:
        if self.transport.is_closing():
            return
        request_id, status, answer = build_error_response(code, self.server_state.default_headers)
        self.transport.write(answer)
        # Closing at once on unread bytes would reset the connection, and the answer would be lost.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._arm(LINGER_S, self.transport.close)
        self._log_and_count(request_id, code, status)

    def _log_and_count(self, request_id: str, code: str, status: int) -> None:
        log.info("request", request_id=request_id, route=UNMATCHED_ROUTE, status=status, code=code)
        running: AppState | None = self.app_state.get("running")
        if running is not None:
            running.metrics.observe_request(UNMATCHED_ROUTE, "other", status, 0.0, None)
            running.metrics.refused(code)


def build_uvicorn_options(
    host: str,
    port: int,
    *,
    trusted_proxies: str = "127.0.0.1",
    workers: int = 1,
    graceful_s: int | None = None,
) -> dict[str, Any]:
    """Arguments of `uvicorn.Config` and `uvicorn.run` for serving Koi, tests included.

    `trusted_proxies` is a comma-separated list of addresses whose X-Forwarded-* are believed;
    `graceful_s` is how long requests may run on after SIGTERM, None for ever.
    """
    return {
        "host": host,
        "port": port,
        "workers": workers,
        "http": EdgeHttpProtocol,
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": True,
        "forwarded_allow_ips": trusted_proxies,
        "backlog": 4096,
        "timeout_keep_alive": KEEP_ALIVE_TIMEOUT_S,
        "timeout_graceful_shutdown": graceful_s,
    }
