"""Reading the body of a request: its type, its size, its time, and strict JSON.

`orjson` does not see duplicate keys, and Python's own parser accepts NaN, lone surrogates and
numbers of any length. So Python's parser runs with hooks, after two scans of the raw bytes.
"""

import asyncio
import json
import re
from contextlib import suppress
from typing import Any, NoReturn

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from app.api.parameters import PRINTABLE_NAME
from app.api.state import get_edge_settings, get_scope_peer
from app.domain.errors import InvalidRequest

OVERSIZED_DISCARD_S = 1.0
MAX_OVERSIZED_DISCARD_BYTES = 8 << 20
MAX_LENGTH_DIGITS = 20
"""Of a Content-Length: enough for any length, and quick to read."""
FORM_MEDIA_TYPE = "application/x-www-form-urlencoded"
JSON_MEDIA_TYPES = frozenset({"", "application/json", "text/json", "text/plain", FORM_MEDIA_TYPE})
CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})


async def read_json(request: Request) -> dict[str, Any]:
    """The body as a JSON object; raises `InvalidRequest` for anything else.

    A missing content type, text/plain and the form that `curl -d` claims to send are read as JSON.
    """
    check_json_headers(request)
    limit = get_edge_settings(request).max_body_bytes
    raw = None
    if get_content_length(request) <= limit:
        raw = await read_in_time(request, limit)
    if raw is None:
        await discard_oversized(request)
        raise too_large_error()
    try:
        return parse_json_object(raw)
    except InvalidRequest:
        if _get_media_type(request) != FORM_MEDIA_TYPE:
            raise
        raise _media_type_error() from None


def get_body_bytes(request: Request) -> int:
    """How long the body will be, at most as long as one may be. A body that does not say counts
    as the longest."""
    limit = get_edge_settings(request).max_body_bytes
    if "transfer-encoding" in request.headers:
        return limit
    return min(get_content_length(request), limit)


def check_json_headers(request: Request) -> None:
    """Raises `InvalidRequest` for a body that is no JSON, or compressed."""
    check_content_encoding(request)
    if (content_type := request.headers.get("content-type")) != "application/json":
        _check_content_type(request, content_type or "")


def check_content_encoding(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise InvalidRequest(
            "unsupported_media_type", "Send the body without content encoding (no gzip)."
        )


def _check_content_type(request: Request, content_type: str) -> None:
    media_type = _get_media_type(request)
    if media_type not in JSON_MEDIA_TYPES and not media_type.endswith("+json"):
        raise _media_type_error()
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in CHARSETS:
            raise InvalidRequest("unsupported_media_type", "The body must be UTF-8.")


def _get_media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _media_type_error() -> InvalidRequest:
    return InvalidRequest(
        "unsupported_media_type", "Send JSON with Content-Type: application/json."
    )


def get_content_length(request: Request) -> int:
    """As announced, 0 when nothing is. Zeros before the number say nothing, and one that is too
    long to read is still too large."""
    digits = request.headers.get("content-length", "").lstrip("0")
    return int(digits[:MAX_LENGTH_DIGITS]) if digits.isdecimal() else 0


async def read_in_time(request: Request, limit: int) -> bytes | None:
    peer = get_scope_peer(request.scope)
    if peer is not None and peer.has_sent_all:
        return await _read_limited(request.receive, limit)
    try:
        async with asyncio.timeout(get_edge_settings(request).body_timeout_s):
            return await _read_limited(request.receive, limit)
    except TimeoutError:
        message = "The request body did not arrive in time."
        raise InvalidRequest("request_timeout", message) from None


async def _read_limited(receive: Receive, limit: int) -> bytes | None:
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


async def discard_oversized(request: Request) -> None:
    """Read the rest of a body that is too long, for a moment: closing the connection on unread
    bytes would reset it, and the client would lose the answer."""
    if "expect" not in request.headers:
        with suppress(TimeoutError):
            async with asyncio.timeout(OVERSIZED_DISCARD_S):
                await discard(request.receive, MAX_OVERSIZED_DISCARD_BYTES)


async def discard(receive: Receive, limit: int) -> None:
    size = 0
    while size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


def too_large_error() -> InvalidRequest:
    return InvalidRequest(
        "request_too_large",
        "The request body is too large: without pictures, or where none are taken, it is text. "
        "Nothing was charged.",
    )


MAX_DEPTH = 32
MAX_PUNCTUATION = 5_000
"""Brackets, commas and colons outside of strings. Each costs the parser more than text does."""
MAX_NUMBER_CHARS = 32

# Possessive quantifiers make this linear on any input. An unclosed string runs to the end.
TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
PUNCTUATION = (b"[", b"{", b",", b":")


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request body; raises `InvalidRequest`.

    Codes: invalid_json, invalid_body (JSON, but no object), invalid_encoding, duplicate_key,
    too_deep, too_complex.
    """
    if _count_punctuation(raw) > MAX_PUNCTUATION or raw.count(b'"') > 2 * MAX_PUNCTUATION:
        _reject_complexity(raw)
    text = _decode(raw)
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        _reject_depth(raw)
    try:
        value = JSON_DECODER.decode(text)
    except (json.JSONDecodeError, RecursionError):
        raise _invalid_json_error() from None
    if not isinstance(value, dict):
        raise InvalidRequest("invalid_body", "The body must be a JSON object.")
    if b"\\u" in raw:
        _reject_surrogates(value)
    return value


def canonical_json(body: dict[str, Any]) -> str:
    """The same text for equal bodies, whatever the order of their keys and their white space."""
    return CANONICAL_ENCODER.encode(body)


def _decode(raw: bytes) -> str:
    if b"\x00" in raw[:4]:
        raise _encoding_error()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _encoding_error() from None


def _count_punctuation(raw: bytes) -> int:
    return sum(map(raw.count, PUNCTUATION))


def _reject_complexity(raw: bytes) -> None:
    """Characters inside of strings do not count. More strings than the limit are too many too,
    because a comma or colon stands between any two."""
    bare, strings = STRING.subn(b"", raw, MAX_PUNCTUATION)
    if strings == MAX_PUNCTUATION or _count_punctuation(bare) > MAX_PUNCTUATION:
        raise InvalidRequest(
            "too_complex", f"The body has more than {MAX_PUNCTUATION} brackets, commas and colons."
        )


def _reject_depth(raw: bytes) -> None:
    depth = 0
    for match in TOKENS.finditer(raw):
        first = match[0][0]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidRequest(
                    "too_deep", f"The body is nested more than {MAX_DEPTH} levels deep."
                )
        elif first in b"]}":
            depth -= 1


def _reject_surrogates(body: dict[str, Any]) -> None:
    for name, value in body.items():
        try:
            json.dumps([name, value], ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _encoding_error(name) from None


def _parse_integer(digits: str) -> int:
    if len(digits) > MAX_NUMBER_CHARS:
        raise InvalidRequest("invalid_json", "The body holds a number that is too long.")
    return int(digits)


def _parse_float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise InvalidRequest("invalid_json", "The body holds a number that is too large.")
    return value


def _reject_constant(_: str) -> NoReturn:
    raise _invalid_json_error()


def _build_unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidRequest(
                    "duplicate_key", "A field is given more than once.", param=_printable(name)
                )
            seen.add(name)
    return fields


def _printable(name: str | None) -> str | None:
    return name if name is not None and PRINTABLE_NAME.fullmatch(name) else None


def _invalid_json_error() -> InvalidRequest:
    return InvalidRequest("invalid_json", "The body is not valid JSON.")


def _encoding_error(name: str | None = None) -> InvalidRequest:
    return InvalidRequest(
        "invalid_encoding",
        "The body must be UTF-8 without lone surrogates.",
        param=_printable(name),
    )


CANONICAL_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
JSON_DECODER = json.JSONDecoder(
    object_pairs_hook=_build_unique,
    parse_int=_parse_integer,
    parse_float=_parse_float,
    parse_constant=_reject_constant,
)
