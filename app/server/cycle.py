"""One request on a connection and its answer, as uvicorn's protocol expects it."""

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application, ASGISendEvent, HTTPScope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from app.api.state import ABORT_KEY, ANSWER_KEY, FIELDS_KEY, PEER_KEY, RawHeaders
from app.server.http_compat import abort_cycle
from app.service.lean_event import LeanEvent

if TYPE_CHECKING:
    from app.server.http import EdgeHttpProtocol

BODILESS_STATUSES = frozenset({204, 304})
MAX_JOINED_BYTES = 64 << 10
"""Longer bodies are not copied to be joined with their head."""
NO_PIPELINE: deque[tuple[RequestResponseCycle, ASGI3Application]] = deque(maxlen=0)
"""An empty deque takes 0.8 KB, and hardly any client sends a request before it has its answer."""
CONTROL_FREE = bytes({*range(256)} - {*range(9), *range(10, 32), 127})
"""What the lines of a head consist of, beside their ends."""


def build_scope(
    protocol: "EdgeHttpProtocol", version: str, fields: dict[bytes, bytes]
) -> dict[str, Any]:
    """What the request's head says, and what the connection knows; the URL is in origin form."""
    parsed = httptools.parse_url(protocol.url)
    path = parsed.path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": protocol.asgi_version, "spec_version": "2.3"},
        "http_version": version,
        "server": protocol.server,
        "client": protocol.client,
        "scheme": protocol.scheme,
        "root_path": protocol.root_path,
        "headers": protocol.headers,
        "state": protocol.app_state.copy(),
        "method": protocol.parser.get_method().decode("ascii"),
        "path": unquote(path) if "%" in path else path,
        "raw_path": parsed.path,
        "query_string": parsed.query or b"",
        FIELDS_KEY: fields,
        PEER_KEY: protocol.peer,
    }


class LeanFlow(FlowControl):
    """uvicorn's, with an event in a tenth of the memory: every connection has one."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.read_paused = self.write_paused = False
        writable = LeanEvent()
        writable.set()
        self._is_writable_event = cast(asyncio.Event, writable)


class EdgeCycle(RequestResponseCycle):
    """Sends the head of an answer together with the first bytes of its body: each write is a packet
    and wakes the client. Raises `RuntimeError` for messages that are no answer, as uvicorn does."""

    access_log = False
    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    _head = b""

    def __init__(
        self, protocol: "EdgeHttpProtocol", version: str, fields: dict[bytes, bytes]
    ) -> None:
        # What uvicorn's own constructor sets, of which most is the same for every request.
        scope = build_scope(protocol, version, fields)
        scope[ABORT_KEY], scope[ANSWER_KEY] = partial(abort_cycle, self), self.answer
        self.scope = cast(HTTPScope, scope)
        self.transport, self.flow, self.logger = protocol.transport, protocol.flow, protocol.logger
        self.default_headers = protocol.server_state.default_headers
        self.message_event = LeanEvent()  # type: ignore[assignment]
        self.on_response = protocol.on_response_complete
        self.keep_alive = version != "1.0" and protocol.parser.should_keep_alive()
        expected = fields.get(b"expect") if version != "1.0" else None  # RFC 9110, 10.1.1
        self.waiting_for_100_continue = expected is not None and expected.lower() == b"100-continue"
        self.body = bytearray()

    async def send(self, message: ASGISendEvent) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if self.response_complete:
            raise RuntimeError("The answer was complete already.")
        if message["type"] == "http.response.start" and not self.response_started:
            self.response_started = True
            self.waiting_for_100_continue = False
            self._head = self._format_head(message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body" and self.response_started:
            self._write(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"Unexpected message {message['type']!r}.")

    def answer(self, status: int, headers: RawHeaders, body: bytes) -> bool:
        """Send a whole answer, unless the client has still to read, or left; whether it was."""
        if self.flow.write_paused or self.disconnected or self.response_started:
            return False
        self.response_started = True
        self.waiting_for_100_continue = False
        self._head = self._format_head(status, headers)
        self._write(body, more=False)
        return True

    def _format_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        rows = [*self.default_headers, *headers]
        fields = dict(rows)
        lines = b"".join([b"%b: %b\r\n" % row for row in rows])
        ends = lines.translate(None, CONTROL_FREE)
        if ends != b"\r\n" * len(rows) or HEADER_RE.search(b"".join(fields)):
            raise RuntimeError("Invalid HTTP header.")
        length = fields.get(b"content-length")
        if length is not None and self.chunked_encoding is None:
            self.expected_content_length = int(length)
            self.chunked_encoding = False
        connection = fields.get(b"connection")
        if connection is not None and b"close" in connection.lower():
            self.keep_alive = False
        elif not self.keep_alive:
            lines += b"connection: close\r\n"
        if (
            self.chunked_encoding is None
            and self.scope["method"] != "HEAD"
            and status not in BODILESS_STATUSES
        ):
            self.chunked_encoding = True
            lines += b"transfer-encoding: chunked\r\n"
        return b"%b%b\r\n" % (STATUS_LINE[status], lines)

    def _write(self, body: bytes, *, more: bool) -> None:
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("The answer is longer than its Content-Length.")
        if head and len(body) > MAX_JOINED_BYTES:
            self.transport.writelines([head, body])
        else:
            self.transport.write(head + body)
        if more:
            return
        if self.expected_content_length:
            raise RuntimeError("The answer is shorter than its Content-Length.")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
