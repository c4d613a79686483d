"""Faults on the connection: resets, hangs, floods and bodies that are cut short."""

import asyncio
import zlib
from functools import lru_cache

from app.sandbox.faults.row import Bills, Fault, Staged

_JSON = "application/json"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_MEGABYTE = 1_000_000


async def _reset(staged: Staged) -> bool:
    await staged.exchange.reset()
    return False


async def _close(staged: Staged) -> bool:
    await staged.exchange.close()
    return False


async def _hang(staged: Staged) -> bool:
    if not await staged.exchange.gone(float(staged.arg or 700)):
        await staged.exchange.close()
    return False


async def _headers_then_hang(staged: Staged) -> bool:
    await staged.exchange.start(200, _JSON, len(staged.body))
    return await _hang(staged)


async def _trickle(staged: Staged) -> bool:
    body = staged.body
    await staged.exchange.start(200, _JSON, len(body))
    for at in range(len(body)):
        if not await staged.exchange.chunk(body[at : at + 1]):
            return False
        await asyncio.sleep(float(staged.arg or 0.4))
    return await staged.exchange.end()


async def _reset_mid_body(staged: Staged) -> bool:
    body = staged.body
    await staged.exchange.start(200, _JSON, len(body))
    await staged.exchange.chunk(body[: len(body) // 2])
    await asyncio.sleep(0.01)
    await staged.exchange.reset()
    return False


async def _truncated_close(staged: Staged) -> bool:
    half = staged.body[: len(staged.body) // 2]
    await staged.exchange.raw(_HEAD + b"connection: close\r\n\r\n" + half)
    return False


async def _short_length(staged: Staged) -> bool:
    body = staged.body
    await staged.exchange.start(200, _JSON, len(body))
    await staged.exchange.chunk(body[: len(body) // 2])
    await staged.exchange.close()
    return False


async def _huge_body(staged: Staged) -> bool:
    await staged.exchange.start(200, _JSON, None)
    there = await staged.exchange.chunk(b'{"created":1,"data":[{"b64_json":"')
    piece = b"A" * _MEGABYTE
    for _ in range(int(staged.arg or 300)):
        if not there:
            return False
        there = await staged.exchange.chunk(piece)
    await staged.exchange.chunk(b'"}]}')
    await staged.exchange.end()
    return False


@lru_cache(maxsize=2)
def _bomb(megabytes: int) -> bytes:
    """A gzip stream that decodes to that many megabytes of blanks, a thousand times smaller."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # A full flush resets the coder, so the same piece may be repeated.
    piece = deflate.compress(b" " * _MEGABYTE) + deflate.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + piece * megabytes + b"\x03\x00" + bytes(8)


async def _gzip_bomb(staged: Staged) -> bool:
    bomb = _bomb(int(staged.arg or 1024))
    await staged.exchange.reply(200, bomb, headers=(("content-encoding", "gzip"),))
    return False


async def _raw_with(staged: Staged, before: bytes, headers: bytes) -> bool:
    length = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(staged.body)
    await staged.exchange.raw(before + _HEAD + headers + length + staged.body)
    return False


async def _headers_flood(staged: Staged) -> bool:
    lines = range(int(staged.arg or 20_000))
    return await _raw_with(staged, b"", b"".join(b"x-flood-%d: koi\r\n" % i for i in lines))


async def _header_huge(staged: Staged) -> bool:
    size = int(staged.arg or _MEGABYTE)
    return await _raw_with(staged, b"", b"x-huge: " + b"k" * size + b"\r\n")


async def _continue_flood(staged: Staged) -> bool:
    flood = b"HTTP/1.1 100 Continue\r\n\r\n" * int(staged.arg or 20_000)
    return await _raw_with(staged, flood, b"")


_HOSTILE = (
    ("set-cookie", "session=stolen; Domain=example.test; Path=/"),
    ("access-control-allow-origin", "*"),
    ("strict-transport-security", "max-age=31536000"),
    ("x-koi-cache", "hit"),
    ("x-should-retry", "true"),
    ("x-ratelimit-remaining-requests", "999999"),
    ("cache-control", "public, max-age=31536000"),
    ("keep-alive", "timeout=1"),
    ("proxy-authenticate", "Basic"),
    ("location", "http://169.254.169.254/"),
)


async def _hostile_headers(staged: Staged) -> bool:
    return await staged.exchange.reply(200, staged.body, headers=_HOSTILE)


async def _redirect(staged: Staged) -> bool:
    target = staged.arg or f"{staged.cdn_url}/elsewhere"
    await staged.exchange.reply(307, b"", headers=(("location", target),))
    return False


ROWS: tuple[Fault, ...] = (
    Fault("reset-before-body", Bills.NOTHING, "RST before anything is accepted", reply=_reset),
    Fault("reset-after-accept", Bills.ALL, "RST after acceptance, no byte sent", reply=_reset),
    Fault("close-after-accept", Bills.ALL, "FIN after acceptance, no byte sent", reply=_close),
    Fault("hang", Bills.ALL, "silence for 700 s (argument: seconds), then FIN", reply=_hang),
    Fault(
        "headers-then-hang", Bills.ALL, "200 and headers, then silence", reply=_headers_then_hang
    ),
    Fault("trickle", Bills.ALL, "one byte each 0.4 s (argument: seconds)", reply=_trickle),
    Fault("reset-mid-body", Bills.ALL, "RST after half the body", reply=_reset_mid_body),
    Fault(
        "truncated-close",
        Bills.ALL,
        "half the body, its end marked by FIN only",
        reply=_truncated_close,
    ),
    Fault("short-length", Bills.ALL, "FIN before Content-Length is reached", reply=_short_length),
    Fault("huge-body", Bills.ALL, "300 MB of b64 (argument: megabytes)", reply=_huge_body),
    Fault("gzip-bomb", Bills.ALL, "1 GB of blanks in 1 MB (argument: megabytes)", reply=_gzip_bomb),
    Fault("headers-flood", Bills.ALL, "20,000 headers (argument: count)", reply=_headers_flood),
    Fault("header-huge", Bills.ALL, "a 1 MB header (argument: bytes)", reply=_header_huge),
    Fault("continue-flood", Bills.ALL, "20,000 times 100 Continue", reply=_continue_flood),
    Fault(
        "hostile-headers",
        Bills.ALL,
        "a good reply with cookies, CORS and our own names",
        reply=_hostile_headers,
    ),
    Fault("redirect", Bills.NOTHING, "307 to the CDN's host (argument: url)", reply=_redirect),
)
