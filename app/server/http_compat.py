"""Rare forms of HTTP/1 that some clients and proxies use."""

import re
import socket
import struct
from functools import lru_cache

from uvicorn._types import (
    ASGI3Application,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    Scope,
)
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from app.api.state import RawHeaders

HOST_HEADER = re.compile(
    rb"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII
)
ABSOLUTE_FORM = re.compile(rb"https?://(?P<authority>[^/?#@]{1,300})", re.IGNORECASE)


def to_origin_form(url: bytes, headers: RawHeaders) -> bytes:
    """The path of a request's target; `http://host/path` names the host as well and takes the place
    of the Host header (RFC 9112, section 3.2.2)."""
    if url.startswith(b"/"):
        return url
    match = ABSOLUTE_FORM.match(url)
    if match is None:
        return url
    headers[:] = [pair for pair in headers if pair[0] != b"host"]
    headers.append((b"host", match["authority"]))
    path = url[match.end() :]
    return path if path.startswith(b"/") else b"/" + path


def measure(headers: RawHeaders) -> int:
    """Their bytes, with a colon, a blank and the line's end each."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def has_one_host(headers: RawHeaders) -> bool:
    return [name for name, _ in headers].count(b"host") < 2


def is_host_allowed(host: bytes | None, version: str, allowed: tuple[str, ...]) -> bool:
    """Whether the Host header is valid and served here; HTTP/1.0 needs none."""
    if host is None:
        return version == "1.0" and "*" in allowed
    return _is_served(host, allowed)


def is_forwarded(fields: dict[bytes, bytes]) -> bool:
    """Whether a proxy says for whom it speaks."""
    return b"x-forwarded-for" in fields or b"x-forwarded-proto" in fields


def keep_first_protocol(headers: RawHeaders) -> None:
    """Of several proxies the first one spoke with the client."""
    for position, (name, value) in enumerate(headers):
        if name == b"x-forwarded-proto":
            headers[position] = name, value.partition(b",")[0].rstrip()


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
