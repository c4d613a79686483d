"""Faults of the reply's body: status 200 for an error, and broken or odd JSON."""

import gzip
import json
import sys
import zlib
from collections.abc import Callable, Mapping

import brotli

from app.sandbox.faults.row import Bills, Fault, ReplyAct, Staged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ENCODE: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}
_CHALLENGE = b"<!doctype html><html><title>Just a moment...</title><body>checking</body></html>"


async def _send(staged: Staged, body: bytes) -> bool:
    await staged.exchange.reply(200, body)
    return False


async def _html(staged: Staged) -> bool:
    await staged.exchange.reply(200, _CHALLENGE, "text/html; charset=utf-8")
    return False


async def _wrong_type(staged: Staged) -> bool:
    return await staged.exchange.reply(200, staged.body, staged.arg or "text/plain")


async def _error_200(staged: Staged) -> bool:
    code = staged.arg or "service_error"
    error = {"message": "the channel failed", "type": "upstream_error", "param": "", "code": code}
    return await _send(staged, json.dumps({"error": error}).encode())


async def _error_200_code(staged: Staged) -> bool:
    code = int(staged.arg or 1302)
    text = {"code": code, "message": "the channel is saturated", "data": None}
    return await _send(staged, json.dumps(text).encode())


async def _prose_200(staged: Staged) -> bool:
    message = staged.arg or "Content policy: invalid api key, insufficient balance, rate limited"
    return await _send(staged, json.dumps({"error": {"message": message}}).encode())


async def _encoded(staged: Staged) -> bool:
    coding = staged.arg or "gzip"
    body = _ENCODE[coding](staged.body)
    return await staged.exchange.reply(200, body, headers=(("content-encoding", coding),))


async def _bom(staged: Staged) -> bool:
    return await staged.exchange.reply(200, b"\xef\xbb\xbf" + staged.body)


async def _junk(staged: Staged) -> bool:
    return await staged.exchange.reply(200, staged.body + b"\n<!-- served by koi.test -->")


async def _truncated(staged: Staged) -> bool:
    return await _send(staged, staged.body[: len(staged.body) * 2 // 3])


async def _nan(staged: Staged) -> bool:
    return await staged.exchange.reply(200, b'{"created": NaN, ' + staged.body.lstrip(b"{"))


async def _duplicate(staged: Staged) -> bool:
    twin = b'{"data": [{"url": "https://other.test/a.jpg"}], "id": "task_other", '
    return await staged.exchange.reply(200, twin + staged.body.lstrip(b"{"))


async def _deep(staged: Staged) -> bool:
    depth = int(staged.arg or 100_000)
    bomb = b'{"deep": ' + b"[" * depth + b"]" * depth + b", "
    return await _send(staged, bomb + staged.body.lstrip(b"{"))


async def _surrogate(staged: Staged) -> bool:
    lone = b'{"note": "\\ud800", "data": [{"url": "https://a.test/\\ud800", "revised_prompt": "'
    return await _send(staged, lone + b'\\udfff"}]}')


async def _empty_body(staged: Staged) -> bool:
    return await _send(staged, b"")


async def _not_an_object(staged: Staged) -> bool:
    return await _send(staged, b"[" + staged.body + b"]")


def _row(name: str, says: str, act: ReplyAct, bills: Bills = Bills.ALL) -> Fault:
    return Fault(name, bills, says, reply=act)


ROWS: tuple[Fault, ...] = (
    _row("html-200", "a challenge page with 200 over work that was done", _html),
    Fault(
        "wrong-content-type",
        Bills.ALL,
        "a good reply called text/plain (argument: type)",
        reply=_wrong_type,
    ),
    _row("error-200", "200 with an error object", _error_200, Bills.NOTHING),
    _row("error-200-code", "200 with code and message", _error_200_code, Bills.NOTHING),
    _row("prose-200", "200 with an error in prose (argument: it)", _prose_200),
    _row("encoded", "a good reply in gzip (argument: deflate, br, zstd)", _encoded),
    _row("json-bom", "a byte order mark before the JSON", _bom),
    _row("json-junk", "a comment of a cache behind the JSON", _junk),
    _row("truncated-json", "two thirds of the JSON, Content-Length right", _truncated),
    _row("empty-body", "200 and no body", _empty_body),
    _row("not-an-object", "200 and a JSON list", _not_an_object),
    _row("json-nan", "NaN in the JSON", _nan),
    _row("json-dup", "the same key twice", _duplicate),
    _row("json-deep", "a hundred thousand brackets (argument: depth)", _deep),
    _row("json-surrogate", "a lone surrogate in link and text", _surrogate),
)
