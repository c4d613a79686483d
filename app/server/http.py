"""HTTP/1.1 on one connection: what uvicorn's parser accepts and a gateway should refuse.

A slow request has deadlines, a long one limits, and there must be one valid Host. Refusals are
OpenAI errors like all others.
"""

import asyncio
from collections import deque
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.api.settings import EdgeSettings
from app.api.state import RawHeaders
from app.server import http_compat
from app.server.cycle import NO_PIPELINE, EdgeCycle, LeanFlow
from app.server.deadline import ConnectionDeadline, WriteStallWatch
from app.server.http_errors import (
    RequestRejected,
    build_error_response,
    classify_parser_error,
    report_refusal,
)
from app.server.peer import ConnectionPeer

MAX_URI_BYTES = 4096
MAX_HEADER_BYTES = 16 << 10
MAX_HEADERS = 100
MAX_PIPELINED = 16
"""Requests that wait for the answers before theirs: each takes memory, and hardly any client
sends a second one."""
LINGER_S, WRITE_BUFFER_BYTES = 1.0, 16 << 10
RESET_PROBE = b"HTTP/1.1 102 Processing\r\n\r\n"


class EdgeHttpProtocol(HttpToolsProtocol):
    """One connection. Its settings and the gateway come from the lifespan."""

    __slots__ = (
        "_active_cycle", "_chunk_bytes", "_closing", "_deadline", "_due_s", "_field_bytes",
        "_in_head", "_in_message", "_is_shared", "_stall_watch", "_unread_bytes",
        "_upgrade_offered", "peer", "settings",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings: EdgeSettings = self.app_state.get("edge") or EdgeSettings()
        self.pipeline, self._deadline = NO_PIPELINE, ConnectionDeadline(self.loop)
        self._in_head = self._in_message = self._is_shared = False
        self._unread_bytes = self._field_bytes = self._chunk_bytes = 0
        self._due_s: float | None = None
        self._closing = self._upgrade_offered = False
        self._active_cycle: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = LeanFlow(transport)
        self._stall_watch = WriteStallWatch(transport, self.loop)
        self.peer = ConnectionPeer(transport, self.loop)
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
        self.peer.disconnected()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        self._chunk_bytes, self._is_shared = len(data), False
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._reject(classify_parser_error(error, data))
            return
        if not self._in_message:
            return
        if self._due_s is not None:
            # Most requests arrive whole, and need no deadline.
            self._deadline.set(self._due_s, self._reject_late)
            self._due_s = None
        # Where the body before it shares the chunk, the head's part is not known, nor counted.
        self._unread_bytes += 0 if self._is_shared else len(data)
        if self._unread_bytes > MAX_URI_BYTES + MAX_HEADER_BYTES:
            self._reject("header_fields_too_large")
        elif not (self._unread_bytes > 0 or self._in_head or self.cycle.response_complete):
            self._deadline.extend(len(data), self._body_due_s)

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
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        self.cycle.keep_alive = False
        if not cycle.response_started and cycle.scope["http_version"] == "1.1":
            # A client that still reads ignores this; one that is gone answers with a reset.
            self.transport.write(RESET_PROBE)
        self.peer.half_closed()
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_watch.start()

    def resume_writing(self) -> None:
        self._stall_watch.stop()
        super().resume_writing()

    # The parser

    def on_message_begin(self) -> None:
        self.url, self.headers = b"", []
        self._in_head, self._in_message, self.peer.has_sent_all = True, True, False
        self._unread_bytes = self._field_bytes = 0
        self._deadline.clear()
        self._due_s = self.settings.head_timeout_s

    def on_url(self, url: bytes) -> None:
        self.url += url
        if len(self.url) > MAX_URI_BYTES:
            raise RequestRejected("uri_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= MAX_HEADERS:
            raise RequestRejected("header_fields_too_large")
        if self._in_head:
            self.headers.append((name.lower(), value.strip(b" \t")))
        else:
            # A trailer must not pass for a header: it comes after everything was decided.
            self._count_fields([(name, value)])

    def _count_fields(self, more: RawHeaders) -> None:
        self._field_bytes = self._field_bytes or http_compat.measure(self.headers)
        self._field_bytes += http_compat.measure(more)
        if self._field_bytes > MAX_HEADER_BYTES:
            raise RequestRejected("header_fields_too_large")

    def on_headers_complete(self) -> None:
        if self._unread_bytes + self._chunk_bytes > MAX_HEADER_BYTES:
            self._count_fields([])
        self._unread_bytes = -self._chunk_bytes
        version = self.parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise RequestRejected("bad_request")
        self.url = http_compat.to_origin_form(self.url, self.headers)
        if not self.url.startswith(b"/"):
            raise RequestRejected("bad_request")
        # The first of each name, which counts.
        fields = dict(reversed(self.headers))
        one_host = len(fields) == len(self.headers) or http_compat.has_one_host(self.headers)
        host = fields.get(b"host") if one_host else b""
        if not http_compat.is_host_allowed(host, version, self.settings.allowed_hosts):
            raise RequestRejected("invalid_host")
        if fields.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
            raise RequestRejected("bad_request")  # the parser would take the coded body as it is
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise RequestRejected("method_not_allowed")
            self._upgrade_offered = True
            return
        self._in_head = False
        self.url = b"/" + self.url.lstrip(b"/")
        self._due_s = self._body_due_s
        self._start_request(version, fields)

    @property
    def _body_due_s(self) -> float:
        """The route's own timeout comes first; this one is for routes that read no body."""
        return self.settings.body_timeout_s + LINGER_S

    def _start_request(self, version: str, fields: dict[bytes, bytes]) -> None:
        app = self.app
        if http_compat.is_forwarded(fields):
            http_compat.keep_first_protocol(self.headers)
        elif isinstance(app, ProxyHeadersMiddleware):
            app = app.app
        earlier = self.cycle
        if len(self.pipeline) >= MAX_PIPELINED:
            raise RequestRejected("bad_request")
        self.cycle = cycle = EdgeCycle(self, version, fields)
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(cycle, app)
        else:
            # Its body is not read, and so cannot be late, until the earlier one is answered.
            self.flow.pause_reading()
            self._due_s = None
            self.pipeline = deque([(cycle, app), *self.pipeline])

    def on_body(self, body: bytes) -> None:
        # What comes between two pieces of a body (a chunk's extension, a trailer) is no body: the
        # parser keeps all of a field until it ends, and calls nobody before.
        self._unread_bytes = -self._chunk_bytes
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrade_offered:
            return
        self._in_message, self._is_shared = False, True
        self.peer.has_sent_all = True
        if self.cycle.response_complete:
            # It was answered before its body had come.
            self._rest()
            return
        self._deadline.clear()
        self.cycle.more_body = False
        self.cycle.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active_cycle = cycle
        if cycle.scope["http_version"] == "1.0":
            app = http_compat.close_delimited(app, cycle)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self._in_message and not self._in_head:
                self._deadline.set(self._body_due_s, self._reject_late)
        elif not self._in_message:
            self._rest()

    def _rest(self) -> None:
        """Wait for the next request."""
        self._deadline.set(self.timeout_keep_alive, self.timeout_keep_alive_handler)

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
