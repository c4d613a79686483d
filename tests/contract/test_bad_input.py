"""Bad bodies, credentials, paths and bytes on the wire, one by one, over real sockets.

Tolerated: unknown fields unless the gateway is strict, other spellings of a path, a missing
content type, and a missing model, which is the default one.
"""

import pytest

from tests.contract.bad_bodies import BODIES, STRICT, Row, assert_error, koi
from tests.contract.door import Door


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


@pytest.mark.parametrize("row", STRICT, ids=lambda row: row.id)
def test_a_strict_gateway_refuses_what_it_would_ignore(strict_door: Door, row: Row) -> None:
    answer = strict_door.post(row.body)

    if row.status == 200:
        assert answer.status == 200, answer
        return
    assert_error(answer, row.status, row.code, row.param)
    assert not strict_door.stage.asked


def test_a_forbidden_model_looks_like_an_unknown_one(door: Door) -> None:
    forbidden = door.post(koi(), key=door.narrow_key)
    unknown = door.post(koi(model="nonsense"), key=door.narrow_key)

    assert forbidden.status == unknown.status == 404
    assert forbidden.json == unknown.json
    assert forbidden.error["code"] == "model_not_found"


def test_steering_fields_are_dropped_reported_and_counted(door: Door) -> None:
    answer = door.post(koi(api_base="http://evil.example", webhook_url="http://evil.example"))

    assert answer.headers["x-koi-adjusted"] == "api_base, webhook_url"
    assert door.stage.steering == 1
    assert "evil" not in repr(door.stage.asked)


CREDENTIALS = {
    "Basic": {"Authorization": "Basic a29pOmtvaQ=="},
    "blank inside": {"Authorization": "Bearer koi-ann 0123456789"},
    "non-ASCII": {"Authorization": "Bearer koi-\xe4\xff"},
    "a key of 8 KB": {"Authorization": "Bearer " + "k" * 8192},
    "unknown key": {"Authorization": "Bearer koi-nobody-000000"},
    "unknown api-key": {"api-key": "koi-nobody-000000"},
}


@pytest.mark.parametrize("headers", CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_every_bad_credential_gets_the_same_401(door: Door, headers: dict[str, str]) -> None:
    answer = door.call("GET", "/v1/models", headers, key=None)
    reference = door.call("GET", "/v1/models", {"Authorization": "Bearer koi-eve-0"}, key=None)

    assert_error(answer, 401, "invalid_api_key", None)
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.body == reference.body


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer"}], ids=["none", "blank"])
def test_who_sends_no_key_is_told_so(door: Door, headers: dict[str, str]) -> None:
    answer = door.call("GET", "/v1/models", headers, key=None)

    assert_error(answer, 401, "invalid_api_key", None)
    assert answer.error["message"].startswith("No API key was sent.")


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "bearer koi-ann-0123456789"},
        {"api-key": "koi-ann-0123456789"},
        {"x-api-key": "koi-ann-0123456789"},
    ],
    ids=["lower case", "api-key", "x-api-key"],
)
def test_a_key_is_taken_where_clients_put_it(door: Door, headers: dict[str, str]) -> None:
    assert door.call("GET", "/v1/models", headers, key=None).status == 200


def test_a_key_with_nul_stops_at_the_parser(door: Door) -> None:
    raw = b"GET /v1/models HTTP/1.1\r\nHost: koi\r\nAuthorization: Bearer a\x00b\r\n\r\n"

    assert_error(door.send(raw), 400, "bad_request", None)


def test_two_authorization_headers_are_refused(door: Door) -> None:
    headers = {"Authorization": f"Bearer {door.key}", "authorization": "Bearer b"}

    assert_error(door.call("GET", "/v1/models", headers, key=None), 400, "duplicate_header", None)


def test_a_key_in_the_query_is_no_credential(door: Door) -> None:
    answer = door.call("GET", f"/v1/models?api_key={door.key}", key=None)

    assert_error(answer, 401, "invalid_api_key", None)


NOWHERE = [
    ("GET generations", "GET", "/v1/images/generations", 405, "method_not_allowed", "POST"),
    ("DELETE generations", "DELETE", "/v1/images/generations", 405, "method_not_allowed",
     "POST"),
    ("PUT task", "PUT", "/v1/tasks/x", 405, "method_not_allowed", "DELETE, GET, HEAD"),
    ("FOO", "FOO", "/v1/models", 405, "method_not_allowed", "DELETE, GET, HEAD, OPTIONS, POST"),
    ("TRACE", "TRACE", "/v1/models", 405, "method_not_allowed", "GET, HEAD"),
    ("unknown path", "GET", "/v1/nowhere", 404, "unknown_url", None),
    ("dots", "GET", "/v1/%2e%2e/metrics", 404, "unknown_url", None),
    ("docs file", "GET", "/docs/nothing.js", 404, "unknown_url", None),
    ("docs dots", "GET", "/docs/..%2finit.js", 404, "unknown_url", None),
    ("metrics below v1", "GET", "/v1/metrics", 404, "unknown_url", None),
    ("a task of 3 900 chars", "GET", "/v1/tasks/" + "t" * 3_900, 404, "task_not_found", None),
    ("NUL in a task", "GET", "/v1/tasks/a%00b", 404, "task_not_found", None),
    ("CR LF in a task", "GET", "/v1/tasks/a%0d%0aX:1", 404, "task_not_found", None),
    ("dots as a task", "GET", "/v1/tasks/..", 404, "task_not_found", None),
    ("query inside", "GET", "/v1/tasks/x%3Fy=1", 404, "task_not_found", None),
    ("slash inside", "GET", "/v1/tasks/a%2Fb", 404, "unknown_url", None),
    ("unknown task", "GET", "/v1/tasks/task_" + "0" * 32, 404, "task_not_found", None),
    ("image dots", "GET", "/v1/images/..%2f..%2fetc", 404, "unknown_url", None),
    ("image odd name", "GET", "/v1/images/img_x.png", 404, "image_not_found", None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status", "code", "allow"),
                         [row[1:] for row in NOWHERE], ids=[row[0] for row in NOWHERE])  # fmt: skip
def test_a_path_that_leads_nowhere_says_so(
    door: Door, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    answer = door.call(method, path)

    assert_error(answer, status, code, None)
    assert answer.headers.get("allow") == allow


def test_a_foreign_task_looks_like_an_unknown_one(door: Door) -> None:
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
    ("CL and TE", request(f"{POST}\nContent-Length: 5\nTransfer-Encoding: chunked",
                              b"0\r\n\r\n"), 400, "bad_request"),
    ("CL twice, same", request(f"{POST}\nContent-Length: 2\nContent-Length: 2", b"{}"),
     400, "bad_request"),
    ("CL twice, different", request(f"{POST}\nContent-Length: 2\nContent-Length: 3", b"{}"),
     400, "bad_request"),
    ("CL +5", request(f"{POST}\nContent-Length: +5", b"hello"), 400, "bad_request"),
    ("CL -1", request(f"{POST}\nContent-Length: -1"), 400, "bad_request"),
    ("CL 5_0", request(f"{POST}\nContent-Length: 5_0"), 400, "bad_request"),
    ("CL of 22 digits", request(f"{POST}\nContent-Length: {10**22}"), 400, "bad_request"),
    ("TE xchunked", request(f"{POST}\nTransfer-Encoding: xchunked", b"0\r\n\r\n"),
     400, "bad_request"),
    ("TE chunked, identity", request(f"{POST}\nTransfer-Encoding: chunked, identity",
                                         b"0\r\n\r\n"), 400, "bad_request"),
    ("bad chunk size", request(f"{POST}\nTransfer-Encoding: chunked", b"zz\r\n{}\r\n"),
     400, "bad_request"),
    ("bad chunk end", request(f"{POST}\nTransfer-Encoding: chunked", b"2\r\n{}xx0\r\n\r\n"),
     400, "bad_request"),
    ("space before colon", request(f"{GET}\nX-Koi : 1"), 400, "bad_request"),
    ("folded header", request(f"{GET}\nX-Koi: a\n b"), 400, "bad_request"),
    ("bare LF", b"GET /v1/models HTTP/1.1\nHost: koi\n\n", 400, "bad_request"),
    ("no Host", request(GET, host=""), 400, "invalid_host"),
    ("two Hosts", request(f"{GET}\nHost: a"), 400, "invalid_host"),
    ("Host with a path", request(GET, host="Host: koi/evil"), 400, "invalid_host"),
    ("Host with userinfo", request(GET, host="Host: a@koi"), 400, "invalid_host"),
    ("Host empty", request(GET, host="Host:"), 400, "invalid_host"),
    ("HTTP/0.9", b"GET /v1/models\r\n\r\n", 400, "bad_request"),
    ("h2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "bad_request"),
    ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50,
     400, "bad_request"),
    ("absolute form of nothing", request("GET http:///v1/models HTTP/1.1"), 400, "bad_request"),
    ("CONNECT", request("CONNECT evil.example:443 HTTP/1.1"), 400, "bad_request"),
    ("HTTP/3.7", request(GET.replace("1.1", "3.7")), 400, "bad_request"),
    ("101 headers", request(GET + "".join(f"\nX-{i}: 1" for i in range(100))),
     431, "header_fields_too_large"),
    ("10 000 headers", request(GET + "".join(f"\nX-{i}: 1" for i in range(10_000))),
     431, "header_fields_too_large"),
    ("1 MB header", request(f"{GET}\nX-Koi: {'x' * 1_000_000}"),
     431, "header_fields_too_large"),
    ("endless header", b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
     431, "header_fields_too_large"),
    ("URI of 100 KB", request("GET /" + "u" * 100_000 + " HTTP/1.1"), 414, "uri_too_long"),
    ("CL over the cap", request(f"{POST}\nContent-Length: 300000000"),
     413, "request_too_large"),
    ("CL of 20 digits", request(f"{POST}\nContent-Length: 18446744073709551615"),
     413, "request_too_large"),
    ("300 MB", request(f"{POST}\nContent-Length: 300000000", b"x" * 9_000_000),
     413, "request_too_large"),
    ("chunked over the cap", request(f"{POST}\nTransfer-Encoding: chunked",
                                         b"80000\r\n" + b"x" * 0x80000 + b"\r\n0\r\n\r\n"),
     413, "request_too_large"),
    ("a transfer coding that is not undone",
     request(f"{POST}\nTransfer-Encoding: gzip, chunked", b"2\r\n{}\r\n0\r\n\r\n"),
     400, "bad_request"),
    ("body that stalls", request(f"{POST}\nContent-Length: 100", b"{"),
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
