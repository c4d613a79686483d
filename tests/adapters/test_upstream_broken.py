"""Exchanges that break: never sent, or held and posted once."""

import asyncio
import contextlib
import gzip
import re
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import brotli
import pytest

from app.adapters.http.client import HttpResponse
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendStage, SendState
from app.adapters.upstream.client import DieyuyunProvider
from app.adapters.upstream.transport import open_transport
from app.domain.errors import BillingEvidence
from app.domain.upstream import PollInconclusive, TaskImages
from tests.adapters.upstream_script import (
    DONE,
    HTML,
    KOI,
    OK_BODY,
    P0,
    P3,
    Exchange,
    Script,
    error,
    hang,
    head,
    listening,
    raw,
    refused,
    reply,
    reset,
    scripted,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


async def close(exchange: Exchange) -> None:
    exchange.writer.close()


async def trickle(exchange: Exchange) -> None:
    await exchange.send(head(200, "Content-Length: 500"), *[b" "] * 100, pause_s=0.05)


async def trickled_head(exchange: Exchange) -> None:
    await exchange.send(*(bytes([byte]) for byte in head(200, "X-Slow: " + "y" * 90)), pause_s=0.05)


async def head_then_hang(exchange: Exchange) -> None:
    await exchange.send(head(200, "Content-Length: 500"))
    await exchange.gone()


async def reset_in_body(exchange: Exchange) -> None:
    await exchange.send(head(200, "Content-Length: 500"), b'{"created": 1', pause_s=0.05)
    exchange.reset()


async def closed_in_body(exchange: Exchange) -> None:
    await exchange.send(head(200, "Content-Length: 500"), b'{"created": 1')
    exchange.writer.close()


async def closed_in_chunk(exchange: Exchange) -> None:
    await exchange.send(head(200, "Transfer-Encoding: chunked"), b'd\r\n{"created": 1\r\n')
    exchange.writer.close()


async def cut_where_only_close_tells(exchange: Exchange) -> None:
    await exchange.send(head(200, "Connection: close") + b'{"created": 1, "data": [{"url"')
    exchange.writer.close()


async def endless(exchange: Exchange) -> None:
    await exchange.send(head(200, "Transfer-Encoding: chunked"))
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with contextlib.suppress(OSError):
        for _ in range(300):
            await exchange.send(chunk)


async def continues_for_ever(exchange: Exchange) -> None:
    with contextlib.suppress(OSError):
        while True:
            await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, pause_s=0.001)


async def announced(exchange: Exchange) -> None:
    await exchange.send(head(200, f"Content-Length: {300 * 2**20}") + b"{")
    await exchange.gone()


async def not_http(exchange: Exchange) -> None:
    await exchange.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


@cache
def bomb(megabytes: int) -> bytes:
    return gzip.compress(bytes(megabytes * 2**20))


def gzipped(name: str, megabytes: int = 32) -> Script:
    """Compressed when it is sent, not when tests are collected."""

    async def send(exchange: Exchange) -> None:
        headers = (f"Content-Encoding: {name}", "Content-Type: application/json")
        await raw(200, bomb(megabytes), *headers)(exchange)

    return send


MANY_HEADERS = [f"X-{number}: 1" for number in range(20_000)]


BROKEN: dict[str, tuple[Script, str]] = {
    "reset": (reset, "upstream_ambiguous"),
    "close": (close, "upstream_ambiguous"),
    "hang": (hang, "upstream_timeout"),
    "trickle": (trickle, "upstream_timeout"),
    "trickled-head": (trickled_head, "upstream_timeout"),
    "head-then-hang": (head_then_hang, "upstream_timeout"),
    "reset-in-body": (reset_in_body, "upstream_incomplete"),
    "close-in-body": (closed_in_body, "upstream_incomplete"),
    "close-in-chunk": (closed_in_chunk, "upstream_incomplete"),
    "close-delimited": (cut_where_only_close_tells, "upstream_incomplete"),
    "truncated-json": (raw(200, OK_BODY[:30]), "upstream_invalid_response"),
    "announced-300-mb": (announced, "upstream_invalid_response"),
    "300-mb-unannounced": (endless, "upstream_invalid_response"),
    "bomb": (gzipped("gzip", 65), "upstream_invalid_response"),
    "bomb-of-blanks": (gzipped("gzip", 32), "upstream_invalid_response"),
    "unknown-coding": (gzipped("lzma", 1), "upstream_invalid_response"),
    "no-brotli": (gzipped("br", 1), "upstream_invalid_response"),
    "html": (raw(200, HTML, "Content-Type: text/html"), "upstream_invalid_response"),
    "empty": (raw(200, b""), "upstream_invalid_response"),
    "no-content": (raw(204, b""), "upstream_invalid_response"),
    "list": (raw(200, b"[" + OK_BODY + b"]"), "upstream_invalid_response"),
    "data-missing": (reply(200, {"created": 1}), "empty_result"),
    "data-empty": (reply(200, {"created": 1, "data": []}), "empty_result"),
    "nothing-usable": (reply(200, {"data": [{}, {"url": 7}, None]}), "empty_result"),
    "javascript-link": (reply(200, {"data": [{"url": "javascript:a/b"}]}), "empty_result"),
    "file-link": (reply(200, {"data": [{"url": "file:///etc/passwd"}]}), "empty_result"),
    "link-of-1-mb": (reply(200, {"data": [{"url": "https://a/" + "x" * 2**20}]}), "empty_result"),
    "deep": (
        raw(200, b'{"x": ' + b"[" * 64 + b"]" * 64 + b"," + OK_BODY[1:]),
        "upstream_invalid_response",
    ),
    "nested-90-000": (
        raw(200, b'{"x": ' + b"[" * 90_000 + b"]" * 90_000 + b"," + OK_BODY[1:]),
        "upstream_invalid_response",
    ),
    "million-values": (
        raw(200, b'{"x": [' + b"0," * 10**6 + b"0]," + OK_BODY[1:]),
        "upstream_invalid_response",
    ),
    "502-html": (raw(502, HTML, "Content-Type: text/html"), "upstream_ambiguous"),
    "503-html": (raw(503, HTML), "upstream_ambiguous"),
    "504-html": (raw(504, HTML), "upstream_ambiguous"),
    "524-empty": (raw(524, b""), "upstream_ambiguous"),
    "504-json": (error(504, "generation_timeout"), "upstream_ambiguous"),
    "gateway-json": (reply(503, {"message": "no healthy upstream"}), "upstream_ambiguous"),
    "500-empty-object": (reply(500, {}), "upstream_ambiguous"),
    "408-json": (error(408, "timeout"), "upstream_ambiguous"),
    "409-json": (error(409, "conflict"), "upstream_ambiguous"),
    "460-gone": (raw(460, b""), "upstream_ambiguous"),
    "20000-headers": (raw(200, OK_BODY, *MANY_HEADERS), "upstream_invalid_response"),
    "1-mb-header": (raw(200, OK_BODY, "X: " + "a" * 2**20), "upstream_invalid_response"),
    "no-http": (not_http, "upstream_invalid_response"),
    "continues": (continues_for_ever, "upstream_invalid_response"),
    "no-id": (reply(200, {"status": "queued"}), "upstream_invalid_response"),
}


NEVER_S = 120


def patience_s(code: str) -> float:
    """Short where the deadline is what the row is about, else longer than any machine takes."""
    return 1 if code == "upstream_timeout" else 60


@pytest.mark.parametrize("row", BROKEN)
async def test_what_may_have_been_done_is_held_and_posted_once(row: str) -> None:
    script, code = BROKEN[row]

    async with (
        asyncio.timeout(NEVER_S),
        scripted(script, timeout_s=patience_s(code)) as (provider, upstream),
    ):
        failed = await refused(provider)

    assert (failed.reason, failed.proof) == (code, P3)
    assert failed.note.charged
    assert not failed.note.retryable
    assert upstream.posts == 1


TELLING = {
    "data-empty", "nothing-usable", "javascript-link", "file-link", "link-of-1-mb", "no-id",
}  # fmt: skip


@pytest.mark.parametrize("row", [row for row in BROKEN if row not in TELLING])
async def test_a_broken_poll_leaves_the_task_alone(row: str) -> None:
    script, code = BROKEN[row]

    async with (
        asyncio.timeout(NEVER_S),
        scripted(script, poll_timeout_s=patience_s(code)) as (provider, _),
    ):
        with pytest.raises(PollInconclusive) as trouble:
            await provider.poll("task_1")

    assert not trouble.value.missing


@pytest.mark.parametrize("script", [endless, gzipped("gzip", 500)], ids=["endless", "bomb"])
async def test_memory_stays_below_twice_the_cap(script: Script) -> None:
    clear_peak = Path("/proc/self/clear_refs")
    if not clear_peak.exists():
        pytest.skip("only Linux tells its peak memory this way")
    clear_peak.write_text("5", encoding="ascii")
    before_mb = peak_mb()

    async with scripted(script) as (provider, _):
        await refused(provider)

    assert peak_mb() - before_mb < 128


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


async def test_a_cancelled_call_closes_its_connection_and_posts_once() -> None:
    async with scripted(hang) as (provider, upstream):
        call = asyncio.create_task(provider.dispatch(KOI, asynchronous=False))
        while not upstream.asked:
            await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        upstream.scripts[0] = reply(200, DONE)
        await provider.dispatch(KOI, asynchronous=False)

    assert upstream.posts == 2
    assert [asked.connection for asked in upstream.asked] == [1, 2]


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "gzip, br": lambda body: brotli.compress(gzip.compress(body)),
}


@pytest.mark.parametrize("coding", CODINGS)
async def test_an_encoded_answer_is_read_although_nobody_asked_for_it(coding: str) -> None:
    events: list[str] = []
    headers = (f"Content-Encoding: {coding}", "Content-Type: application/json")
    script = raw(200, CODINGS[coding](OK_BODY), *headers)

    async with scripted(script, observe=events.append) as (provider, upstream):
        answers = [
            await provider.dispatch(KOI, asynchronous=False),
            await provider.poll("task_1"),
        ]

    assert all(isinstance(answer, TaskImages) for answer in answers)
    assert ("accept-encoding", "identity") in [(k.lower(), v) for k, v in upstream.asked[0].headers]
    assert events == ["encoded_answer"] * 2


async def test_an_encoded_refusal_is_understood() -> None:
    body = gzip.compress(b'{"error": {"message": "too small", "code": "invalid_value"}}')

    async with scripted(raw(400, body, "Content-Encoding: gzip")) as (provider, _):
        failed = await refused(provider)

    assert (failed.reason, failed.message) == ("upstream_rejected", "too small")


LENIENT: dict[str, bytes] = {
    "nan": b'{"created": NaN,' + OK_BODY[1:],
    "infinity": b'{"x": [-Infinity, 1e999],' + OK_BODY[1:],
    "duplicate": b'{"data": [],' + OK_BODY[1:],
    "surrogate": b'{"x\\ud800": "\\ud800",' + OK_BODY[1:],
    "bom": b"\xef\xbb\xbf" + OK_BODY,
    "junk-behind": OK_BODY + b"\n<!-- cache hit -->",
    "twice": OK_BODY + b'{"data": []}',
    "no-utf-8": b'{"x": "\xff\xfe",' + OK_BODY[1:],
    "long-number": b'{"x": ' + b"9" * 5000 + b"," + OK_BODY[1:],
}


@pytest.mark.parametrize("row", LENIENT)
async def test_json_with_one_visible_meaning_is_read_and_counted(row: str) -> None:
    events: list[str] = []
    script = raw(200, LENIENT[row], "Content-Type: application/json")

    async with scripted(script, observe=events.append) as (provider, _):
        answers = [
            await provider.dispatch(KOI, asynchronous=False),
            await provider.poll("task_1"),
        ]

    for answer in answers:
        assert isinstance(answer, TaskImages)
        assert [image.url for image in answer.images] == ["https://a.example/b.png"]
    assert events == ["lenient_json"] * 2


@pytest.mark.parametrize("key", ["sk-\nx", "sk-\r\nx: y"])
async def test_what_cannot_be_sent_ends_with_the_proof_of_it(key: str) -> None:
    async with listening(reply(200, DONE)) as upstream:
        url = f"http://127.0.0.1:{upstream.port}/v1"
        provider = DieyuyunProvider(url, key, open_transport(), timeout_s=15)
        failed = await refused(provider)
        with pytest.raises(PollInconclusive):
            await provider.poll("task_1")
        await provider.close()

    assert (failed.reason, failed.proof) == ("upstream_error", P0)
    assert not failed.note.charged
    assert upstream.asked == []


class Failing:
    """A transport that breaks in a way of its own, before or after it sent."""

    def __init__(self, step: SendStage) -> None:
        self._step = step

    async def send(self, _request: HttpRequest, send_state: SendState) -> HttpResponse:
        send_state.enter(self._step)
        raise LookupError("nobody thought of this")

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(("step", "proof"), [(SendStage.CONNECTING, P0), (SendStage.SENT, P3)])
async def test_the_unforeseen_ends_with_the_proof_there_is(
    step: SendStage, proof: BillingEvidence
) -> None:
    provider = DieyuyunProvider("http://127.0.0.1:9/v1", "sk-1", Failing(step), timeout_s=15)

    failed = await refused(provider)

    assert failed.proof is proof
