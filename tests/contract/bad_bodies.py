"""Bodies that are wrong or only unusual, and what becomes of each.

Unknown fields are accepted unless the gateway is strict, a missing content type is tolerated, a
missing model is the default one.
"""

import json
from dataclasses import dataclass, field
from typing import Any

from tests.contract.door import Answer

MODEL = "grok-imagine"
PROMPT = "a koi"
KOI: dict[str, Any] = {"model": MODEL, "prompt": PROMPT}
START = b'{"model":"grok-imagine","prompt":"a koi"'


def koi(**fields: Any) -> bytes:
    return json.dumps({**KOI, **fields}).encode()


def without(name: str) -> bytes:
    return json.dumps({k: v for k, v in KOI.items() if k != name}).encode()


def spliced(tail: str) -> bytes:
    return START + b"," + tail.encode() + b"}"


def assert_error(
    answer: Answer, status: int | tuple[int, ...], code: str, param: str | None
) -> None:
    """An OpenAI error object a client can act on."""
    statuses = (status,) if isinstance(status, int) else status
    assert answer.status in statuses, answer
    assert answer.error["code"] in code.split("|"), answer.error
    assert answer.error["param"] == param
    assert {"message", "type", "param", "code"} <= answer.error.keys()
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["x-should-retry"] in ("true", "false")


@dataclass(frozen=True)
class Row:
    """A body and what becomes of it; status 200 means accepted."""

    id: str
    body: bytes
    status: int = 400
    code: str = ""
    param: str | None = None
    headers: dict[str, Any] = field(default_factory=dict)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


BODIES = [
    Row("empty body", b"", code="invalid_json"),
    Row("no JSON", b"hello", code="invalid_json"),
    Row("truncated", START, code="invalid_json"),
    Row("array", b"[]", code="invalid_body"),
    Row("null", b"null", code="invalid_body"),
    Row("string", b'"koi"', code="invalid_body"),
    Row("number", b"12", code="invalid_body"),
    Row("trailing garbage", koi() + b"x", code="invalid_json"),
    Row("two documents", koi() + koi(), code="invalid_json"),
    Row("comment", b"/* koi */" + koi(), code="invalid_json"),
    Row("single quotes", b"{'prompt':'koi'}", code="invalid_json"),
    Row("byte order mark", b"\xef\xbb\xbf" + koi(), 200),
    Row("UTF-16 with mark", koi().decode().encode("utf-16"), code="invalid_encoding"),
    Row("UTF-16 without mark", koi().decode().encode("utf-16-le"), code="invalid_encoding"),
    Row("invalid UTF-8", spliced('"user":"\xff"').replace(b"\xc3\xbf", b"\xff"),
        code="invalid_encoding"),
    Row("duplicate n", spliced('"n":1,"n":10'), code="duplicate_key", param="n"),
    Row("duplicate prompt", spliced('"prompt":"b"'), code="duplicate_key", param="prompt"),
    Row("duplicate deep inside", spliced('"x":{"a":1,"a":2}'), code="duplicate_key",
        param="a"),
    Row("prompt nested 500", b'{"prompt":' + nested(500).encode() + b"}", code="too_deep"),
    Row("prompt nested 5", b'{"prompt":' + nested(5).encode() + b"}", code="invalid_type",
        param="prompt"),
    Row("nested 10 000", spliced('"x":' + nested(10_000)), code="too_deep|too_complex"),
    Row("nested 90 000", spliced('"x":' + nested(90_000)), code="too_deep|too_complex"),
    Row("braces in a prompt are no depth", koi(prompt="{[" * 500), 200),
    Row("10 000 keys", koi(**{f"k{i}": 1 for i in range(10_000)}),
        code="unknown_parameter|too_complex"),
    Row("body over the cap", koi(prompt="x" * 1_000_000), 413, "request_too_large"),
    Row("no content type", koi(), 200, headers={"Content-Type": None}),
    Row("text/plain", koi(), 200, headers={"Content-Type": "text/plain"}),
    Row("what curl -d sends", koi(), 200,
        headers={"Content-Type": "application/x-www-form-urlencoded"}),
    Row("form", b"prompt=koi&model=grok-imagine", 415, "unsupported_media_type",
        headers={"Content-Type": "application/x-www-form-urlencoded"}),
    Row("multipart", koi(), 415, "unsupported_media_type",
        headers={"Content-Type": "multipart/form-data; boundary=x"}),
    Row("charset utf-16", koi(), 415, "unsupported_media_type",
        headers={"Content-Type": "application/json; charset=utf-16"}),
    Row("charset utf-8", koi(), 200,
        headers={"Content-Type": 'application/json; charset="UTF-8"'}),
    Row("gzip", koi(), 415, "unsupported_media_type", headers={"Content-Encoding": "gzip"}),
    Row("Accept XML", koi(), 200, headers={"Accept": "application/xml"}),
    Row("model missing", without("model"), 200),
    Row("model unknown", koi(model="dalle-9"), 404, "model_not_found", "model"),
    Row("model int", koi(model=5), code="invalid_type", param="model"),
    Row("model list", koi(model=["grok-imagine"]), code="invalid_type", param="model"),
    Row("model 10 KB", koi(model="m" * 10_000), code="string_above_max_length",
        param="model"),
    Row("model null", koi(model=None), 200),
    Row("prompt missing", without("prompt"), code="missing_required_parameter",
        param="prompt"),
    Row("prompt null", koi(prompt=None), code="missing_required_parameter", param="prompt"),
    Row("prompt empty", koi(prompt=""), code="missing_required_parameter",
        param="prompt"),
    Row("prompt white space", koi(prompt=" \t\n\u3000\x0b\x0c"),
        code="missing_required_parameter", param="prompt"),
    Row("prompt zero width", koi(prompt="\u200b\u2060\ufeff"),
        code="missing_required_parameter", param="prompt"),
    Row("prompt int", koi(prompt=7), code="invalid_type", param="prompt"),
    Row("prompt list", koi(prompt=["a"]), code="invalid_type", param="prompt"),
    Row("prompt object", koi(prompt={"a": 1}), code="invalid_type", param="prompt"),
    Row("prompt at the limit", koi(prompt="\u00e9" * 32_000), 200),
    Row("prompt over the limit", koi(prompt="x" * 32_001), code="string_above_max_length",
        param="prompt"),
    Row("lone surrogate", b'{"prompt":"\\ud800"}', code="invalid_encoding", param="prompt"),
    Row("surrogate in passing", spliced('"x":["\\uDFFF"]'), code="invalid_encoding",
        param="x"),
    Row("a surrogate pair is fine", b'{"prompt":"\\ud83d\\udc1f"}', 200),
    Row("NUL", koi(prompt="a\x00b"), code="invalid_value", param="prompt"),
    Row("escape", koi(prompt="a\x1bb"), code="invalid_value", param="prompt"),
    Row("raw control", START.replace(b"a koi", b"a\x01koi") + b"}", code="invalid_json"),
    Row("tab and newline", koi(prompt="a\tb\nc\rd"), 200),
    Row("vertical tab and form feed", koi(prompt="a\x0bb\x0cc"), 200),
    Row("right-to-left override", koi(prompt="\u202ekoi e\u0301\u0301"), 200),
    Row("line break and fake log", koi(prompt='koi\r\n{"level":"error"}'), 200),
    Row("template, SQL, RESP", koi(prompt="{{7*7}} %n ' OR 1=1 *1\r\n$8"), 200),
    Row("n 0", koi(n=0), code="integer_below_min_value", param="n"),
    Row("n -1", koi(n=-1), code="integer_below_min_value", param="n"),
    Row("n 11", koi(n=11), code="integer_above_max_value", param="n"),
    Row("n 10", koi(n=10), 200),
    Row("n a billion", koi(n=10**9), code="integer_above_max_value", param="n"),
    Row("n of 4 000 digits", spliced('"n":' + "9" * 4_000), code="invalid_json"),
    Row("n of 5 000 digits", spliced('"n":' + "9" * 5_000), code="invalid_json"),
    Row("n of 11 digits", koi(n=10**11), code="integer_above_max_value", param="n"),
    Row("n 1.5", koi(n=1.5), code="invalid_type", param="n"),
    Row("n 1.0", koi(n=1.0), code="invalid_type", param="n"),
    Row("n 1e0", spliced('"n":1e0'), code="invalid_type", param="n"),
    Row("n text", koi(n="1"), code="invalid_type", param="n"),
    Row("n true", koi(n=True), code="invalid_type", param="n"),
    Row("n NaN", spliced('"n":NaN'), code="invalid_json"),
    Row("n Infinity", spliced('"n":Infinity'), code="invalid_json"),
    Row("n 1e400", spliced('"n":1e400'), code="invalid_json"),
    Row("n null", koi(n=None), 200),
    Row("n list", koi(n=[]), code="invalid_type", param="n"),
    Row("size 0x0", koi(size="0x0"), code="invalid_value", param="size"),
    *(
        Row(f"size {size[:20]}", koi(size=size), code="invalid_value", param="size")
        for size in ("-1x1024", "1024x-1", "1024x0", "7x7", "99999x99999", "16385x1024", "large",
                     "1024x", "x", "1024x1024x2", "0:1", "1e3x1e3", "9k9")
    ),
    Row("size of 300 digits", koi(size="9" * 300 + "x1"), code="string_above_max_length",
        param="size"),
    Row("size with X", koi(size="1024X1024"), 200),
    Row("size with *", koi(size="1024*1024"), 200),
    Row("size with a blank", koi(size=" 1024x1024"), 200),
    Row("size empty", koi(size=""), 200),
    *(
        Row(f"{name} {value!r}", koi(**{name: value}), code="invalid_value", param=name)
        for name, values in {
            "aspect_ratio": ("0:1", "1:0", "-16:9", "wide", "16:", "99999:1", "1:2:3", "1.77"),
            "aspectRatio": ("wide",),
            "resolution": ("0k", "-1k", "huge", "99k", "5", "0p", "1kk", "0x0"),
        }.items()
        for value in values
    ),
    *(
        Row(f"{name} {value!r}", koi(**{name: value}), code="invalid_type", param=name)
        for name, values in {
            "aspect_ratio": (1.5, 1, ["16:9"], {"w": 16}, True),
            "resolution": (1024, ["1k"], True),
            "quality": (80, ["hd"], True),
        }.items()
        for value in values
    ),
    Row("a good size does not hide a bad ratio", koi(size="1024x1024", aspect_ratio="wide"),
        code="invalid_value", param="aspect_ratio"),
    Row("quality of 10 KB", koi(quality="q" * 10_000), code="string_above_max_length",
        param="quality"),
    Row("size list", koi(size=["1024x1024"]), code="invalid_type", param="size"),
    Row("size int", koi(size=1024), code="invalid_type", param="size"),
    Row("size null", koi(size=None), 200),
    Row("quality ultra", koi(quality="ultra"), 200),
    Row("response_format png", koi(response_format="png"), code="invalid_value",
        param="response_format"),
    Row("async text", koi(**{"async": "true"}), code="invalid_type", param="async"),
    Row("async 1", koi(**{"async": 1}), code="invalid_type", param="async"),
    Row("async null", koi(**{"async": None}), 200),
    Row("async_", koi(async_=True), 200),
    Row("unknown field", koi(seed=7), 200),
    Row("steering", koi(api_base="http://evil.example", host="evil.example"), 200),
    Row("prototype", koi(__proto__={"a": 1}, constructor=1), 200),
    Row("style", koi(style="vivid"), 200),
    Row("user of 64", koi(user="u" * 64), 200),
    Row("user of 10 KB", koi(user="u" * 10_000), code="string_above_max_length",
        param="user"),
    Row("user object", koi(user={"a": 1}), code="invalid_type", param="user"),
    Row("stream text", koi(stream="true"), code="invalid_type", param="stream"),
    Row("stream and async", koi(stream=True, **{"async": True}), code="unsupported_parameter",
        param="stream"),
    Row("partial_images 4", koi(partial_images=4), code="integer_above_max_value",
        param="partial_images"),
    Row("key empty", koi(), code="invalid_idempotency_key", headers={"Idempotency-Key": ""}),
    Row("key of 256", koi(), code="invalid_idempotency_key",
        headers={"Idempotency-Key": "k" * 256}),
    Row("key with a tab", koi(), code="invalid_idempotency_key",
        headers={"Idempotency-Key": "a\tb"}),
    Row("key twice", koi(), code="invalid_idempotency_key",
        headers={"Idempotency-Key": "a", "idempotency-key": "b"}),
    Row("key of 255", koi(), 200, headers={"Idempotency-Key": "k" * 255}),
]  # fmt: skip


STRICT = [
    Row("model missing", without("model"), code="missing_required_parameter", param="model"),
    Row("model null", koi(model=None), code="missing_required_parameter", param="model"),
    Row("size 512x512", koi(size="512x512"), code="invalid_value", param="size"),
    Row("size empty", koi(size=""), code="invalid_value", param="size"),
    Row("size with X", koi(size="1024X1024"), code="invalid_value", param="size"),
    Row("size auto", koi(size="auto"), 200),
    Row("quality auto", koi(quality="auto"), 200),
    Row("quality ultra", koi(quality="ultra"), code="invalid_value", param="quality"),
    Row("quality high", koi(quality="high"), code="invalid_value", param="quality"),
    Row("aspect_ratio", koi(aspect_ratio="16:9"), code="unsupported_parameter",
        param="aspect_ratio"),
    Row("aspect_ratio null", koi(aspect_ratio=None), 200),
    Row("resolution", koi(resolution="1k"), code="unsupported_parameter", param="resolution"),
    Row("image", koi(image="https://a.example/a.png"), code="unsupported_parameter",
        param="image"),
    Row("image empty", koi(image=[], mask=None), 200),
    Row("async_", koi(async_=True), code="unknown_parameter", param="async_"),
    Row("unknown field", koi(seed=7), code="unknown_parameter", param="seed"),
    Row("steering", koi(base_url="http://evil.example"), code="unknown_parameter",
        param="base_url"),
    Row("prototype", koi(__proto__=1), code="unknown_parameter", param="__proto__"),
    Row("unprintable name", koi(**{"a b\n": 1}), code="unknown_parameter"),
    Row("style", koi(style="vivid"), code="unsupported_parameter", param="style"),
    Row("stream false", koi(stream=False, user="u"), 200),
]  # fmt: skip
