"""The bad-input matrix (reliability study, section 8), row by row, over real sockets.

Rows are as in the study, amended by design section 9: unknown fields are accepted unless strict,
path spellings and a missing content type are tolerated, a missing model is the default one.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.contract.door import Answer, Door

KOI: dict[str, Any] = {"model": "grok-imagine", "prompt": "a koi"}
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
    Row("B1 empty body", b"", code="invalid_json"),
    Row("B2 no JSON", b"hello", code="invalid_json"),
    Row("B3 truncated", START, code="invalid_json"),
    Row("B4 array", b"[]", code="invalid_body"),
    Row("B5 null", b"null", code="invalid_body"),
    Row("B5 string", b'"koi"', code="invalid_body"),
    Row("B5 number", b"12", code="invalid_body"),
    Row("B6 trailing garbage", koi() + b"x", code="invalid_json"),
    Row("B6 two documents", koi() + koi(), code="invalid_json"),
    Row("B7 comment", b"/* koi */" + koi(), code="invalid_json"),
    Row("B7 single quotes", b"{'prompt':'koi'}", code="invalid_json"),
    Row("B8 byte order mark", b"\xef\xbb\xbf" + koi(), code="invalid_json"),
    Row("B9 UTF-16 with mark", koi().decode().encode("utf-16"), code="invalid_encoding"),
    Row("B9 UTF-16 without mark", koi().decode().encode("utf-16-le"), code="invalid_encoding"),
    Row("B10 invalid UTF-8", spliced('"user":"\xff"').replace(b"\xc3\xbf", b"\xff"),
        code="invalid_encoding"),
    Row("B11 duplicate n", spliced('"n":1,"n":10'), code="duplicate_key", param="n"),
    Row("B12 duplicate prompt", spliced('"prompt":"b"'), code="duplicate_key", param="prompt"),
    Row("B12 duplicate deep inside", spliced('"x":{"a":1,"a":2}'), code="duplicate_key",
        param="a"),
    Row("B13 prompt nested 500", b'{"prompt":' + nested(500).encode() + b"}", code="too_deep"),
    Row("B13 prompt nested 5", b'{"prompt":' + nested(5).encode() + b"}", code="invalid_type",
        param="prompt"),
    Row("B14 nested 10 000", spliced('"x":' + nested(10_000)), code="too_deep"),
    Row("B14 nested 90 000", spliced('"x":' + nested(90_000)), code="too_deep"),
    Row("B14 braces in a prompt are no depth", koi(prompt="{[" * 500), 200),
    Row("B15 10 000 keys", koi(**{f"k{i}": 1 for i in range(10_000)}),
        code="unknown_parameter"),
    Row("B18 body over the cap", koi(prompt="x" * 1_000_000), 413, "request_too_large"),
    Row("B20 no content type", koi(), 200, headers={"Content-Type": None}),
    Row("B20 text/plain", koi(), 200, headers={"Content-Type": "text/plain"}),
    Row("B20 form", koi(), 415, "unsupported_media_type",
        headers={"Content-Type": "application/x-www-form-urlencoded"}),
    Row("B20 multipart", koi(), 415, "unsupported_media_type",
        headers={"Content-Type": "multipart/form-data; boundary=x"}),
    Row("B21 charset utf-16", koi(), 415, "unsupported_media_type",
        headers={"Content-Type": "application/json; charset=utf-16"}),
    Row("B21 charset utf-8", koi(), 200,
        headers={"Content-Type": 'application/json; charset="UTF-8"'}),
    Row("B22 gzip", koi(), 415, "unsupported_media_type", headers={"Content-Encoding": "gzip"}),
    Row("B23 Accept XML", koi(), 200, headers={"Accept": "application/xml"}),
    Row("B24 model missing", without("model"), 200),
    Row("B25 model unknown", koi(model="dall-e-9"), 404, "model_not_found", "model"),
    Row("B27 model int", koi(model=5), code="invalid_type", param="model"),
    Row("B27 model list", koi(model=["grok-imagine"]), code="invalid_type", param="model"),
    Row("B27 model 10 KB", koi(model="m" * 10_000), code="string_above_max_length",
        param="model"),
    Row("B27 model null", koi(model=None), 200),
    Row("B28 prompt missing", without("prompt"), code="missing_required_parameter",
        param="prompt"),
    Row("B28 prompt null", koi(prompt=None), code="missing_required_parameter", param="prompt"),
    Row("B29 prompt empty", koi(prompt=""), code="invalid_value", param="prompt"),
    Row("B30 prompt white space", koi(prompt=" \t\n\u3000"), code="invalid_value",
        param="prompt"),
    Row("B30 prompt zero width", koi(prompt="\u200b\u2060\ufeff"), code="invalid_value",
        param="prompt"),
    Row("B31 prompt int", koi(prompt=7), code="invalid_type", param="prompt"),
    Row("B31 prompt list", koi(prompt=["a"]), code="invalid_type", param="prompt"),
    Row("B31 prompt object", koi(prompt={"a": 1}), code="invalid_type", param="prompt"),
    Row("B32 prompt at the limit", koi(prompt="\u00e9" * 32_000), 200),
    Row("B33 prompt over the limit", koi(prompt="x" * 32_001), code="string_above_max_length",
        param="prompt"),
    Row("B34 lone surrogate", b'{"prompt":"\\ud800"}', code="invalid_encoding", param="prompt"),
    Row("B34 surrogate in passing", spliced('"x":["\\uDFFF"]'), code="invalid_encoding",
        param="x"),
    Row("B34 a surrogate pair is fine", b'{"prompt":"\\ud83d\\udc1f"}', 200),
    Row("B35 NUL", koi(prompt="a\x00b"), code="invalid_value", param="prompt"),
    Row("B35 escape", koi(prompt="a\x1bb"), code="invalid_value", param="prompt"),
    Row("B35 raw control", START.replace(b"a koi", b"a\x01koi") + b"}", code="invalid_json"),
    Row("B35 tab and newline", koi(prompt="a\tb\nc\rd"), 200),
    Row("B36 right-to-left override", koi(prompt="\u202ekoi e\u0301\u0301"), 200),
    Row("B37 line break and fake log", koi(prompt='koi\r\n{"level":"error"}'), 200),
    Row("B38 template, SQL, RESP", koi(prompt="{{7*7}} %n ' OR 1=1 *1\r\n$8"), 200),
    Row("B39 n 0", koi(n=0), code="integer_below_min_value", param="n"),
    Row("B40 n -1", koi(n=-1), code="integer_below_min_value", param="n"),
    Row("B41 n 11", koi(n=11), code="integer_above_max_value", param="n"),
    Row("B41 n 10", koi(n=10), 200),
    Row("B42 n a billion", koi(n=10**9), code="integer_above_max_value", param="n"),
    Row("B43 n of 4 000 digits", spliced('"n":' + "9" * 4_000), code="invalid_json"),
    Row("B44 n of 5 000 digits", spliced('"n":' + "9" * 5_000), code="invalid_json"),
    Row("B44 n of 11 digits", koi(n=10**11), code="integer_above_max_value", param="n"),
    Row("B45 n 1.5", koi(n=1.5), code="invalid_type", param="n"),
    Row("B46 n 1.0", koi(n=1.0), code="invalid_type", param="n"),
    Row("B46 n 1e0", spliced('"n":1e0'), code="invalid_type", param="n"),
    Row("B47 n text", koi(n="1"), code="invalid_type", param="n"),
    Row("B48 n true", koi(n=True), code="invalid_type", param="n"),
    Row("B49 n NaN", spliced('"n":NaN'), code="invalid_json"),
    Row("B49 n Infinity", spliced('"n":Infinity'), code="invalid_json"),
    Row("B49 n 1e400", spliced('"n":1e400'), code="invalid_json"),
    Row("B50 n null", koi(n=None), 200),
    Row("B51 n list", koi(n=[]), code="invalid_type", param="n"),
    Row("B52 size 0x0", koi(size="0x0"), code="invalid_value", param="size"),
    Row("B52 size with X", koi(size="1024X1024"), code="invalid_value", param="size"),
    Row("B52 size with *", koi(size="1024*1024"), code="invalid_value", param="size"),
    Row("B52 size with a blank", koi(size=" 1024x1024"), code="invalid_value", param="size"),
    Row("B53 size list", koi(size=["1024x1024"]), code="invalid_type", param="size"),
    Row("B53 size int", koi(size=1024), code="invalid_type", param="size"),
    Row("B54 size null", koi(size=None), 200),
    Row("B55 quality ultra", koi(quality="ultra"), code="invalid_value", param="quality"),
    Row("B56 response_format png", koi(response_format="png"), code="invalid_value",
        param="response_format"),
    Row("B57 async text", koi(**{"async": "true"}), code="invalid_type", param="async"),
    Row("B57 async 1", koi(**{"async": 1}), code="invalid_type", param="async"),
    Row("B58 async null", koi(**{"async": None}), 200),
    Row("B59 async_", koi(async_=True), 200),
    Row("B60 unknown field", koi(seed=7), 200),
    Row("B61 steering", koi(api_base="http://evil.example", host="evil.example"), 200),
    Row("B62 prototype", koi(__proto__={"a": 1}, constructor=1), 200),
    Row("B63 style", koi(style="vivid"), 200),
    Row("B64 user of 64", koi(user="u" * 64), 200),
    Row("B64 user of 10 KB", koi(user="u" * 10_000), code="string_above_max_length",
        param="user"),
    Row("B64 user object", koi(user={"a": 1}), code="invalid_type", param="user"),
    Row("stream text", koi(stream="true"), code="invalid_type", param="stream"),
    Row("stream and async", koi(stream=True, **{"async": True}), code="unsupported_parameter",
        param="stream"),
    Row("partial_images 4", koi(partial_images=4), code="integer_above_max_value",
        param="partial_images"),
    Row("B73 key empty", koi(), code="invalid_idempotency_key", headers={"Idempotency-Key": ""}),
    Row("B73 key of 256", koi(), code="invalid_idempotency_key",
        headers={"Idempotency-Key": "k" * 256}),
    Row("B73 key with a tab", koi(), code="invalid_idempotency_key",
        headers={"Idempotency-Key": "a\tb"}),
    Row("B73 key twice", koi(), code="invalid_idempotency_key",
        headers={"Idempotency-Key": "a", "idempotency-key": "b"}),
    Row("B73 key of 255", koi(), 200, headers={"Idempotency-Key": "k" * 255}),
]  # fmt: skip


@pytest.mark.parametrize("row", BODIES, ids=lambda row: row.id)
def test_a_body_is_understood_or_refused_by_name(door: Door, row: Row) -> None:
    answer = door.post(row.body, row.headers)

    if row.status == 200:
        assert answer.status == 200, answer
        assert len(door.stage.asked) == 1
        return
    assert_error(answer, row.status, row.code, row.param)
    assert not door.stage.asked
    assert b"evil" not in answer.body
    assert len(answer.body) < 600


STRICT = [
    Row("B24 model missing", without("model"), code="missing_required_parameter", param="model"),
    Row("B27 model null", koi(model=None), code="missing_required_parameter", param="model"),
    Row("B52 size 512x512", koi(size="512x512"), code="invalid_value", param="size"),
    Row("B59 async_", koi(async_=True), code="unknown_parameter", param="async_"),
    Row("B60 unknown field", koi(seed=7), code="unknown_parameter", param="seed"),
    Row("B61 steering", koi(base_url="http://evil.example"), code="unknown_parameter",
        param="base_url"),
    Row("B62 prototype", koi(__proto__=1), code="unknown_parameter", param="__proto__"),
    Row("B62 unprintable name", koi(**{"a b\n": 1}), code="unknown_parameter"),
    Row("B63 style", koi(style="vivid"), code="unsupported_parameter", param="style"),
    Row("B63 stream false", koi(stream=False, user="u"), 200),
]  # fmt: skip


@pytest.mark.parametrize("row", STRICT, ids=lambda row: row.id)
def test_a_strict_gateway_refuses_what_it_would_ignore(strict_door: Door, row: Row) -> None:
    answer = strict_door.post(row.body)

    if row.status == 200:
        assert answer.status == 200, answer
        return
    assert_error(answer, row.status, row.code, row.param)
    assert not strict_door.stage.asked


def test_b26_a_forbidden_model_looks_like_an_unknown_one(door: Door) -> None:
    forbidden = door.post(koi(), key=door.narrow_key)
    unknown = door.post(koi(model="nonsense"), key=door.narrow_key)

    assert forbidden.status == unknown.status == 404
    assert forbidden.json == unknown.json
    assert forbidden.error["code"] == "model_not_found"


def test_b61_steering_fields_are_dropped_reported_and_counted(door: Door) -> None:
    answer = door.post(koi(api_base="http://evil.example", webhook_url="http://evil.example"))

    assert answer.headers["x-koi-adjusted"] == "api_base, webhook_url"
    assert door.stage.steering == 1
    assert "evil" not in repr(door.stage.asked)


CREDENTIALS = {
    "B65 none": {},
    "B66 Basic": {"Authorization": "Basic a29pOmtvaQ=="},
    "B66 double space": {"Authorization": "Bearer  koi-ann-0123456789"},
    "B66 Bearer alone": {"Authorization": "Bearer"},
    "B68 non-ASCII": {"Authorization": "Bearer koi-\xe4\xff"},
    "B69 8 KB": {"Authorization": "Bearer " + "k" * 8192},
    "B72 unknown": {"Authorization": "Bearer koi-nobody-000000"},
    "B72 unknown api-key": {"api-key": "koi-nobody-000000"},
}


@pytest.mark.parametrize("headers", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_every_bad_credential_gets_the_same_401(door: Door, headers: dict[str, str]) -> None:
    answer = door.call("GET", "/v1/models", headers, key=None)
    reference = door.call("GET", "/v1/models", key=None)

    assert_error(answer, 401, "invalid_api_key", None)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.body == reference.body


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "bearer koi-ann-0123456789"},
        {"api-key": "koi-ann-0123456789"},
        {"x-api-key": "koi-ann-0123456789"},
    ],
    ids=["B66 lower case", "api-key", "x-api-key"],
)
def test_a_key_is_taken_where_clients_put_it(door: Door, headers: dict[str, str]) -> None:
    assert door.call("GET", "/v1/models", headers, key=None).status == 200


def test_b67_a_key_with_nul_stops_at_the_parser(door: Door) -> None:
    raw = b"GET /v1/models HTTP/1.1\r\nHost: koi\r\nAuthorization: Bearer a\x00b\r\n\r\n"

    assert_error(door.send(raw), 400, "bad_request", None)


def test_b70_two_authorization_headers_are_refused(door: Door) -> None:
    headers = {"Authorization": f"Bearer {door.key}", "authorization": "Bearer b"}

    assert_error(door.call("GET", "/v1/models", headers, key=None), 400, "duplicate_header", None)


def test_b71_a_key_in_the_query_is_no_credential(door: Door) -> None:
    answer = door.call("GET", f"/v1/models?api_key={door.key}", key=None)

    assert_error(answer, 401, "invalid_api_key", None)


NOWHERE = [
    ("B76 GET generations", "GET", "/v1/images/generations", 405, "method_not_allowed", "POST"),
    ("B76 DELETE generations", "DELETE", "/v1/images/generations", 405, "method_not_allowed",
     "POST"),
    ("B76 PUT task", "PUT", "/v1/tasks/x", 405, "method_not_allowed", "DELETE, GET, HEAD"),
    ("B76 FOO", "FOO", "/v1/models", 405, "method_not_allowed", "DELETE, GET, HEAD, OPTIONS, POST"),
    ("B85 TRACE", "TRACE", "/v1/models", 405, "method_not_allowed", "GET, HEAD"),
    ("B78 unknown", "GET", "/v1/nowhere", 404, "unknown_url", None),
    ("B78 root", "GET", "/", 404, "unknown_url", None),
    ("B78 dots", "GET", "/v1/%2e%2e/metrics", 404, "unknown_url", None),
    ("B78 docs", "GET", "/docs", 404, "unknown_url", None),
    ("B78 schema", "GET", "/openapi.json", 404, "unknown_url", None),
    ("B78 metrics below v1", "GET", "/v1/metrics", 404, "unknown_url", None),
    ("B79 5 000 chars", "GET", "/v1/tasks/" + "t" * 3_900, 404, "task_not_found", None),
    ("B79 NUL", "GET", "/v1/tasks/a%00b", 404, "task_not_found", None),
    ("B79 CR LF", "GET", "/v1/tasks/a%0d%0aX:1", 404, "task_not_found", None),
    ("B79 dots", "GET", "/v1/tasks/..", 404, "task_not_found", None),
    ("B79 query inside", "GET", "/v1/tasks/x%3Fy=1", 404, "task_not_found", None),
    ("B79 slash inside", "GET", "/v1/tasks/a%2Fb", 404, "unknown_url", None),
    ("B80 unknown", "GET", "/v1/tasks/task_" + "0" * 32, 404, "task_not_found", None),
    ("image dots", "GET", "/v1/images/..%2f..%2fetc", 404, "unknown_url", None),
    ("image odd name", "GET", "/v1/images/img_x.png", 404, "image_not_found", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "code", "allow"),
                         [row[1:] for row in NOWHERE], ids=[row[0] for row in NOWHERE])  # fmt: skip
def test_a_way_that_leads_nowhere_says_so(
    door: Door, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    answer = door.call(method, path)

    assert_error(answer, status, code, None)
    assert answer.headers.get("allow") == allow


def test_b80_a_foreign_task_looks_like_an_unknown_one(door: Door) -> None:
    task = door.post(koi(**{"async": True})).json
    foreign = door.call("GET", f"/v1/tasks/{task['id']}", key=door.other_key)
    unknown = door.call("GET", f"/v1/tasks/task_{'0' * 32}", key=door.other_key)

    assert foreign.status == unknown.status == 404
    assert foreign.json == unknown.json


def request(head: str, body: bytes = b"", *, host: str = "Host: koi") -> bytes:
    lines = [line for line in (*head.split("\n"), host) if line]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


POST = "POST /v1/images/generations HTTP/1.1\nAuthorization: Bearer koi-ann-0123456789"
GET = "GET /v1/models HTTP/1.1\nAuthorization: Bearer koi-ann-0123456789"

WIRE = [
    ("B81 CL and TE", request(f"{POST}\nContent-Length: 5\nTransfer-Encoding: chunked",
                              b"0\r\n\r\n"), 400, "bad_request"),
    ("B82 CL twice, same", request(f"{POST}\nContent-Length: 2\nContent-Length: 2", b"{}"),
     400, "bad_request"),
    ("B82 CL twice, different", request(f"{POST}\nContent-Length: 2\nContent-Length: 3", b"{}"),
     400, "bad_request"),
    ("B82 CL +5", request(f"{POST}\nContent-Length: +5", b"hello"), 400, "bad_request"),
    ("B82 CL -1", request(f"{POST}\nContent-Length: -1"), 400, "bad_request"),
    ("B82 CL 5_0", request(f"{POST}\nContent-Length: 5_0"), 400, "bad_request"),
    ("B82 CL of 22 digits", request(f"{POST}\nContent-Length: {10**22}"), 400, "bad_request"),
    ("B82 TE xchunked", request(f"{POST}\nTransfer-Encoding: xchunked", b"0\r\n\r\n"),
     400, "bad_request"),
    ("B82 TE chunked, identity", request(f"{POST}\nTransfer-Encoding: chunked, identity",
                                         b"0\r\n\r\n"), 400, "bad_request"),
    ("B82 bad chunk size", request(f"{POST}\nTransfer-Encoding: chunked", b"zz\r\n{}\r\n"),
     400, "bad_request"),
    ("B82 bad chunk end", request(f"{POST}\nTransfer-Encoding: chunked", b"2\r\n{}xx0\r\n\r\n"),
     400, "bad_request"),
    ("B82 space before colon", request(f"{GET}\nX-Koi : 1"), 400, "bad_request"),
    ("B83 folded header", request(f"{GET}\nX-Koi: a\n b"), 400, "bad_request"),
    ("B83 bare LF", b"GET /v1/models HTTP/1.1\nHost: koi\n\n", 400, "bad_request"),
    ("B84 no Host", request(GET, host=""), 400, "invalid_host"),
    ("B84 two Hosts", request(f"{GET}\nHost: a"), 400, "invalid_host"),
    ("B84 Host with a path", request(GET, host="Host: koi/evil"), 400, "invalid_host"),
    ("B84 Host with userinfo", request(GET, host="Host: a@koi"), 400, "invalid_host"),
    ("B84 Host empty", request(GET, host="Host:"), 400, "invalid_host"),
    ("B85 HTTP/0.9", b"GET /v1/models\r\n\r\n", 400, "bad_request"),
    ("B85 h2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    ("B85 TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
     400, "bad_request"),
    ("B85 absolute form", request("GET http://koi/v1/models HTTP/1.1"), 400, "bad_request"),
    ("B85 CONNECT", request("CONNECT evil.example:443 HTTP/1.1"), 400, "bad_request"),
    ("B85 HTTP/3.7", request(GET.replace("1.1", "3.7")), 400, "bad_request"),
    ("B86 101 headers", request(GET + "".join(f"\nX-{i}: 1" for i in range(100))),
     431, "header_fields_too_large"),
    ("B86 10 000 headers", request(GET + "".join(f"\nX-{i}: 1" for i in range(10_000))),
     431, "header_fields_too_large"),
    ("B69 1 MB header", request(f"{GET}\nX-Koi: {'x' * 1_000_000}"),
     431, "header_fields_too_large"),
    ("B69 endless header", b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
     431, "header_fields_too_large"),
    ("B86 URI of 100 KB", request("GET /" + "u" * 100_000 + " HTTP/1.1"), 414, "uri_too_long"),
    ("B17 CL over the cap", request(f"{POST}\nContent-Length: 300000000"),
     413, "request_too_large"),
    ("B16 300 MB", request(f"{POST}\nContent-Length: 300000000", b"x" * 9_000_000),
     413, "request_too_large"),
    ("B18 chunked over the cap", request(f"{POST}\nTransfer-Encoding: chunked",
                                         b"80000\r\n" + b"x" * 0x80000 + b"\r\n0\r\n\r\n"),
     413, "request_too_large"),
    ("B19 body that stalls", request(f"{POST}\nContent-Length: 100", b"{"),
     408, "request_timeout"),
    ("head that stalls", b"GET /v1/models HTTP/1.1\r\nHost: k", 408, "request_timeout"),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "status", "code"), [row[1:] for row in WIRE],
                         ids=[row[0] for row in WIRE])  # fmt: skip
def test_bytes_that_are_no_proper_request_end_the_connection(
    door: Door, raw: bytes, status: int, code: str
) -> None:
    answer = door.send(raw)

    assert_error(answer, status, code, None)
    assert answer.headers["connection"] == "close"
    assert answer.closed
    assert not door.stage.asked


def test_a_silent_socket_is_closed(door: Door) -> None:
    with pytest.raises(ConnectionError, match="closed after b''"):
        door.send(b"")


def test_a_trailer_does_not_pass_for_a_header(door: Door) -> None:
    raw = request(
        "GET /v1/models HTTP/1.1\nTransfer-Encoding: chunked",
        b"0\r\nAuthorization: Bearer koi-ann-0123456789\r\n\r\n",
    )

    assert door.send(raw).status == 401


def test_an_upgrade_offer_is_ignored(door: Door) -> None:
    raw = request(f"{GET}\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AA")

    assert door.send(raw).status == 200


def test_a_second_request_that_is_garbage_does_not_spoil_the_first(door: Door) -> None:
    door.stage.delay_s = 0.1
    body = koi()
    first = request(f"{POST}\nContent-Length: {len(body)}", body)

    answer = door.send(first + b"\x00garbage\r\n\r\n")

    assert answer.status == 200
    assert answer.json["data"]


def test_only_allowed_hosts_are_served(admin_door: Door) -> None:
    known = admin_door.send(request(GET, host="Host: KOI.example:8000"))
    stranger = admin_door.send(request(GET, host="Host: evil.example"))

    assert known.status == 200
    assert_error(stranger, 400, "invalid_host", None)
