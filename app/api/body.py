"""Taking a request's body off the wire: its type, its size and its time."""

import asyncio
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from app.api.json_reader import read_object
from app.api.running import edge
from app.domain.errors import InvalidRequest

PATIENCE_S = 1.0
PATIENCE_BYTES = 8 << 20
UPLOAD_BYTES = 64 << 20
FORM = "application/x-www-form-urlencoded"
READ_AS_JSON = frozenset({"", "application/json", "text/json", "text/plain", FORM})


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object; raises `InvalidRequest` for anything else.

    A missing content type, text/plain and the form that `curl -d` claims to send are read as JSON.
    """
    _check_headers(request)
    limit = edge(request).max_body_bytes
    if _announced(request) > limit:
        await _swallow(request)
        raise _too_large()
    try:
        async with asyncio.timeout(edge(request).body_s):
            raw = await _read(request.receive, limit)
    except TimeoutError:
        raise InvalidRequest(
            "request_timeout", "The request body did not arrive in time."
        ) from None
    if raw is None:
        await _swallow(request)
        raise _too_large()
    try:
        return read_object(raw)
    except InvalidRequest:
        if _kind(request) != FORM:
            raise
        raise _not_json() from None


async def drain(request: Request) -> None:
    """Read an upload to its end so that its sender will read the answer; give up when it lasts."""
    with suppress(TimeoutError):
        async with asyncio.timeout(edge(request).body_s):
            await _discard(request.receive, UPLOAD_BYTES)


def _check_headers(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidRequest(
            "unsupported_media_type", "Send the body without content encoding (no gzip)."
        )
    kind = _kind(request)
    if kind not in READ_AS_JSON and not kind.endswith("+json"):
        raise _not_json()
    for parameter in request.headers.get("content-type", "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in (
            "utf-8",
            "utf8",
            "us-ascii",
        ):
            raise InvalidRequest("unsupported_media_type", "The body must be UTF-8.")


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _not_json() -> InvalidRequest:
    return InvalidRequest(
        "unsupported_media_type", "Send JSON with Content-Type: application/json."
    )


def _announced(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The whole body, or None as soon as it passes the limit."""
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _swallow(request: Request) -> None:
    """Let a slightly too long body arrive: closing on unread bytes would reset the answer away."""
    if "expect" not in request.headers:
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await _discard(request.receive, PATIENCE_BYTES)


async def _discard(receive: Receive, limit: int) -> None:
    size = 0
    while size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


def _too_large() -> InvalidRequest:
    return InvalidRequest(
        "request_too_large",
        "The request body is too large: a prompt is text, and pictures are not taken. "
        "Nothing was charged.",
    )
