"""HTTP/1.1 on one connection: what uvicorn's parser accepts and a gateway should refuse.

A slow request has deadlines, a long one limits, and there must be one valid Host. Refusals are
OpenAI errors like all others.
"""

import asyncio
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.settings import EdgeSettings
from app.api.state import PEER_KEY
from app.server import http_compat
from app.server.cycle import EdgeCycle, fill_scope
from app.server.deadline import ConnectionDeadline, WriteStallWatch
from app.server.http_errors import (
    RequestRejected,
    build_error_response,
    classify_parser_error,
    report_refusal,
)
from app.server.peer import ConnectionPeer
from app.service.lean_event import LeanEvent

MAX_URI_BYTES = 4096
MAX_HEADER_BYTES = 16 << 10
MAX_HEADERS = 100
KEEP_ALIVE_TIMEOUT_S, LINGER_S, WRITE_BUFFER_BYTES = 75, 1.0, 16 << 10
RESET_PROBE = b"HTTP/1.1 102 Processing\r\n\r\n"


class EdgeHttpProtocol(HttpToolsProtocol):
    """One connection. Its settings and the gateway come from the lifespan."""

    __slots__ = (
        "_active_cycle", "_closing", "_deadline", "_field_bytes", "_head_bytes", "_in_head",
        "_in_message", "_peer", "_stall_watch", "_upgrade_offered", "settings",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings: EdgeSettings = self.app_state.get("edge") or EdgeSettings()
        self._deadline = ConnectionDeadline(self.loop)
        self._in_head = False
        self._in_message = False
        self._head_bytes = 0
        self._field_bytes = 0
        self._closing = False
        self._upgrade_offered = False
        self._active_cycle: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._stall_watch = WriteStallWatch(transport, self.loop)
        self._peer = ConnectionPeer(transport, self.loop)
        if len(self.connections) > self.settings.max_connections:
            # The remaining file descriptors are needed for jobs that are paid for.
            self._closing = True
            self._send_error("overloaded")
            return
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._deadline.set(self.settings.first_byte_timeout_s, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.close()
        self._stall_watch.stop()
        # uvicorn tells only the newest pipelined request; the one being answered must know too.
        if self._active_cycle is not None and not self._active_cycle.response_complete:
            self._disconnect(self._active_cycle)
        super().connection_lost(exc)

    def _disconnect(self, cycle: RequestResponseCycle) -> None:
        cycle.disconnected = True
        cycle.message_event.set()
        self._peer.disconnected()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if self._is_idle:
            self._deadline.clear()
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._reject(classify_parser_error(error, data))
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_URI_BYTES + MAX_HEADER_BYTES:
                self._reject("header_fields_too_large")
        elif self._in_message:
            self._deadline.extend(len(data))
        elif self._is_idle and not self._deadline.is_set:
            self._deadline.set(self.timeout_keep_alive, self.timeout_keep_alive_handler)

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
        self._peer.half_closed()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_watch.start()

    def resume_writing(self) -> None:
        self._stall_watch.stop()
        super().resume_writing()

    # The parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[PEER_KEY] = self._peer
        self._in_head, self._in_message, self._peer.has_sent_all = True, True, False
        self._head_bytes = self._field_bytes = 0
        self._deadline.set(self.settings.head_timeout_s, self._reject_late)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URI_BYTES:
            raise RequestRejected("uri_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.strip(b" \t")
        if name == b"x-forwarded-proto":
            # Of several proxies the first one spoke with the client.
            value = value.partition(b",")[0].rstrip()
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self._field_bytes += len(name) + len(value) + 4
        if self._field_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            raise RequestRejected("header_fields_too_large")
        # A trailer must not pass for a header: it comes after everything was decided.
        if self._in_head:
            self.headers.append((name, value))

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
        self._deadline.set(self.settings.body_timeout_s + LINGER_S, self._reject_late)
        self._start_request(version)

    def _start_request(self, version: str) -> None:
        fill_scope(self.scope, self.parser.get_method(), self.url, version)
        earlier = self.cycle
        self.cycle = EdgeCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=cast(asyncio.Event, LeanEvent()),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_message_complete(self) -> None:
        if self._upgrade_offered:
            return
        self._in_message = False
        self._peer.has_sent_all = True
        self._deadline.clear()
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active_cycle = cycle
        super()._start_asgi_task(cycle, http_compat.adapt_app(app, cycle))

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif not self._in_message:
            self._deadline.set(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    @property
    def _is_idle(self) -> bool:
        """Whether an answer was sent and no request has begun since."""
        return not self._in_message and self.cycle is not None and self.cycle.response_complete

    # Refusals

    def _reject_late(self) -> None:
        self._reject("request_timeout")

    def _reject(self, code: str) -> None:
        """End the connection, with an error object unless another answer is being sent."""
        self._closing = True
        self._deadline.clear()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head or not self._in_message or self.pipeline:
                cycle.keep_alive = False
                return
            started = cycle.response_started
            self._disconnect(cycle)
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
        self._deadline.set(LINGER_S, self.transport.close)
        report_refusal(self.app_state.get("running"), request_id, code, status)


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
