"""Rare forms of HTTP/1 that some clients and proxies use."""

import re
import socket
import struct
from functools import lru_cache, partial
from typing import Any, cast

from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.api.state import ABORT_KEY

RawHeaders = list[tuple[bytes, bytes]]

HOST_HEADER = re.compile(
    rb"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII
)
ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#@]{1,300})", re.IGNORECASE)


def to_origin_form(url: bytes, headers: RawHeaders) -> bytes:
    """The path of a request's target; `http://host/path` names the host as well and takes the place
    of the Host header (RFC 9112, section 3.2.2)."""
    match = None if url.startswith(b"/") else ABSOLUTE_FORM.match(url)
    if match is None:
        return url
    headers[:] = [pair for pair in headers if pair[0] != b"host"]
    headers.append((b"host", match["authority"]))
    path = url[match.end() :]
    return path if path.startswith(b"/") else b"/" + path


def is_host_allowed(headers: RawHeaders, version: str, allowed: tuple[str, ...]) -> bool:
    """Whether there is exactly one valid Host header and it is served here; HTTP/1.0 needs none."""
    hosts = [value for name, value in headers if name == b"host"]
    if not hosts and version == "1.0":
        return "*" in allowed
    return len(hosts) == 1 and _is_served(hosts[0], allowed)


@lru_cache(maxsize=256)
def _is_served(host: bytes, allowed: tuple[str, ...]) -> bool:
    match = HOST_HEADER.fullmatch(host)
    if match is None:
        return False
    name = match["name"].decode("ascii").lower()
    return "*" in allowed or any(name == one.lower() for one in allowed)


def strip_upgrade(method: bytes, url: bytes, version: str, headers: RawHeaders) -> bytes:
    """The head of a request without its offer to upgrade to another protocol."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    for name, value in headers:
        kept = value
        if name == b"connection":
            tokens = (token.strip() for token in value.split(b","))
            kept = b", ".join(token for token in tokens if token.lower() != b"upgrade")
        if name != b"upgrade":
            lines.append(b"%s: %s" % (name, kept))
    return b"\r\n".join([*lines, b"", b""])


def adapt_app(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """The app for this request; it can end the connection in the middle of its answer."""
    cast(dict[str, Any], cycle.scope)[ABORT_KEY] = partial(abort_cycle, cycle)
    return close_delimited(app, cycle) if cycle.scope["http_version"] == "1.0" else app


def close_delimited(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """The app for a client of HTTP/1.0, which knows no chunks: an answer without a length ends with
    the connection."""

    async def answered(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        endless = False

        async def unchunked(message: ASGISendEvent) -> None:
            nonlocal endless
            if message["type"] == "http.response.start":
                endless = all(name != b"content-length" for name, _ in message.get("headers", ()))
                if endless:
                    cycle.chunked_encoding = False
            elif message["type"] == "http.response.body" and endless:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, unchunked)

    return answered


def abort_cycle(cycle: RequestResponseCycle) -> None:
    """End the connection in the middle of an answer: nothing else can say that it failed after its
    status was sent. For HTTP/1.0 it is a reset, because a normal end would mean a whole answer."""
    if cycle.disconnected:
        return
    if cycle.scope["http_version"] == "1.0":
        connection = cycle.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cycle.transport.close()
    # Otherwise the server would report the unfinished answer as an error of the application.
    cycle.disconnected = True
