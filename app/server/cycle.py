"""One request on a connection and its answer, as uvicorn's protocol expects it."""

from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGISendEvent, HTTPScope
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

BODILESS_STATUSES = frozenset({204, 304})
MAX_JOINED_BYTES = 64 << 10
"""Longer bodies are not copied to be joined with their head."""


def fill_scope(scope: HTTPScope, method: bytes, url: bytes, version: str) -> None:
    """What the request line says; `url` is in origin form."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    cast(dict[str, Any], scope).update(
        method=method.decode("ascii"),
        http_version=version,
        path=unquote(path) if "%" in path else path,
        raw_path=parsed.path,
        query_string=parsed.query or b"",
    )


class EdgeCycle(RequestResponseCycle):
    """Sends the head of an answer together with the first bytes of its body: each write is a packet
    and wakes the client. Raises `RuntimeError` for messages that are no answer, as uvicorn does."""

    _head = b""

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
            self._head = self._format_head(message["status"], list(message.get("headers", ())))
        elif message["type"] == "http.response.body" and self.response_started:
            self._write(message.get("body", b""), more=message.get("more_body", False))
        else:
            raise RuntimeError(f"Unexpected message {message['type']!r}.")

    def _format_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        lines = [STATUS_LINE[status]]
        keeps_open = True
        for name, value in (*self.default_headers, *headers):
            if name == b"content-length":
                if self.chunked_encoding is None:
                    self.expected_content_length = int(value)
                    self.chunked_encoding = False
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = keeps_open = False
            lines.append(b"%b: %b\r\n" % (name, value))
        if HEADER_RE.search(b"".join([name for name, _ in headers])) or HEADER_VALUE_RE.search(
            b"".join([value for _, value in headers])
        ):
            raise RuntimeError("Invalid HTTP header.")
        if not self.keep_alive and keeps_open:
            lines.append(b"connection: close\r\n")
        if (
            self.chunked_encoding is None
            and self.scope["method"] != "HEAD"
            and status not in BODILESS_STATUSES
        ):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

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
