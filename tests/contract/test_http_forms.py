"""Forms of HTTP/1 that real clients, proxies and pasted headers use: served, not refused."""

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from app.api.settings import EdgeSettings
from app.main import create_app
from tests.contract.bad_bodies import assert_error, koi
from tests.contract.door import Answer, Door, read_answer, served, wait_until
from tests.contract.stand_in import Stage, opener

BODY = koi()


def head(door: Door, *lines: str, method: str = "POST", version: str = "1.1") -> bytes:
    first = f"{method} /v1/images/generations HTTP/{version}"
    given = [f"Authorization: Bearer {door.key}", f"Content-Length: {len(BODY)}", *lines]
    return "\r\n".join([first, *given, "", ""]).encode()


def sent_in_pieces(door: Door, *pieces: bytes) -> tuple[Answer, bytes]:
    """The answer to bytes that arrive one packet after the other, and what follows it."""
    with socket.create_connection((door.host, door.port), timeout=5) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            wire.sendall(piece)
            time.sleep(0.03)
        answer = read_answer(wire)
        wire.settimeout(0.2)
        try:
            return answer, wire.recv(65_536)
        except TimeoutError:
            return answer, b""


@pytest.mark.parametrize("token", ["h2c", "websocket", "TLS/1.3", "anything"])
@pytest.mark.parametrize("split", [True, False])
def test_an_offer_to_upgrade_is_ignored_and_the_body_read(
    door: Door, token: str, split: bool
) -> None:
    top = head(door, "Host: koi", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {token}",
               "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")  # fmt: skip
    pieces = (top, BODY) if split else (top + BODY,)

    answer, after = sent_in_pieces(door, *pieces)

    assert answer.status == 200
    assert answer.json["data"]
    assert after == b""
    assert len(door.stage.asked) == 1


def test_a_body_behind_an_offer_is_no_second_request(door: Door) -> None:
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: koi\r\n\r\n"
    top = (
        "POST /v1/images/generations HTTP/1.1\r\nHost: koi\r\n"
        "Connection: upgrade\r\nUpgrade: h2c\r\n"
        f"Authorization: Bearer {door.key}\r\nContent-Length: {len(hidden)}\r\n\r\n"
    ).encode()

    answer, after = sent_in_pieces(door, top, hidden)

    assert_error(answer, 400, "invalid_json", None)
    assert after == b""


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_any_method_may_offer_to_upgrade(door: Door, method: str) -> None:
    raw = (
        f"{method} /v1/tasks/task_{'0' * 32} HTTP/1.1\r\nHost: koi\r\n"
        f"Authorization: Bearer {door.key}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: x\r\n\r\n"
    )

    assert_error(door.send(raw.encode()), 404, "task_not_found", None)


@pytest.mark.parametrize("value", ["Bearer  {}", "Bearer   {}  ", "  bearer {}\t", "BEARER {} "])
def test_white_space_around_a_key_is_no_part_of_it(door: Door, value: str) -> None:
    headers = {"Authorization": value.format(door.key)}

    assert door.call("GET", "/v1/models", headers, key=None).status == 200


@pytest.mark.parametrize("name", ["api-key", "x-api-key"])
def test_white_space_around_other_headers_is_stripped_too(door: Door, name: str) -> None:
    assert door.call("GET", "/v1/models", {name: f"  {door.key} \t"}, key=None).status == 200


def test_http_1_0_needs_no_host_and_gets_an_answer_without_chunks(admin_door: Door) -> None:
    door = admin_door
    door.stage.delay_s = 0.8
    raw = head(door, "Host: 127.0.0.1", version="1.0") + BODY

    with socket.create_connection((door.host, door.port), timeout=5) as wire:
        wire.sendall(raw)
        received = b"".join(iter(lambda: wire.recv(65_536), b""))

    top, _, content = received.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding" not in top.lower()
    assert content.startswith(b" ")
    assert json.loads(content)["data"]


def test_http_1_0_without_a_host_is_served(door: Door) -> None:
    answer = door.send(head(door, version="1.0") + BODY)

    assert answer.status == 200
    assert answer.closed


def test_a_stream_to_http_1_0_ends_with_its_connection(door: Door) -> None:
    body = koi(stream=True)
    top = (
        "POST /v1/images/generations HTTP/1.0\r\n"
        f"Authorization: Bearer {door.key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((door.host, door.port), timeout=5) as wire:
        wire.sendall(top.encode() + body)
        received = b"".join(iter(lambda: wire.recv(65_536), b""))

    top_lines, _, events = received.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in top_lines.lower()
    assert b"event: image_generation.completed" in events
    assert not events.startswith(b"5\r\n")


@pytest.mark.parametrize(
    "target", ["http://koi.example/v1/models", "HTTP://127.0.0.1:80/v1/models"]
)
def test_an_absolute_target_is_served_and_names_the_host(admin_door: Door, target: str) -> None:
    key = f"Authorization: Bearer {admin_door.key}"
    raw = f"GET {target} HTTP/1.1\r\nHost: evil.example\r\n{key}\r\n"

    assert admin_door.send(f"{raw}\r\n".encode()).status == 200


def test_an_absolute_target_of_a_host_that_is_not_served_is_refused(admin_door: Door) -> None:
    raw = "GET http://evil.example/v1/models HTTP/1.1\r\nHost: koi.example\r\n\r\n"

    assert_error(admin_door.send(raw.encode()), 400, "invalid_host", None)


@pytest.mark.parametrize("wait", ["99999", "9" * 18])
def test_a_wait_that_is_too_long_is_cut_not_refused(door: Door, wait: str) -> None:
    task = door.post(koi(**{"async": True})).json

    answer = door.call("GET", f"/v1/tasks/{task['id']}?wait={wait}")

    assert answer.json["status"] == "completed"


def test_the_longest_prompt_fits_however_it_is_escaped(door: Door) -> None:
    body = json.dumps({"model": "grok-imagine", "prompt": "🐟" * 32_000}).encode()

    assert len(body) > 384_000
    assert door.post(body).status == 200


@pytest.mark.parametrize("path", ["/health", "/healthz", "/health/"])
def test_health_is_found_where_platforms_look(door: Door, path: str) -> None:
    assert door.call("GET", path, key=None).json == {"status": "ok"}


def test_a_base_url_below_api_works(door: Door) -> None:
    assert door.post(BODY, path="/api/v1/images/generations").status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/responses"])
def test_a_route_for_text_says_that_images_are_made_here_and_where(door: Door, path: str) -> None:
    answer = door.post(b"{}", path=path)

    assert_error(answer, 404, "unknown_url", None)
    assert "/v1/images/generations" in answer.error["message"]


def test_a_client_that_closed_only_its_own_side_gets_its_answer(door: Door) -> None:
    door.stage.delay_s = 1
    with socket.create_connection((door.host, door.port), timeout=5) as wire:
        wire.sendall(head(door, "Host: koi") + BODY)
        wire.shutdown(socket.SHUT_WR)
        interim = wire.recv(65_536)
        assert interim.startswith(b"HTTP/1.1 102 ")
        answer = read_answer(wire, interim.partition(b"\r\n\r\n")[2])

    assert answer.status == 200
    assert answer.json["data"]
    assert answer.closed
    assert door.stage.abandoned == []


def test_a_client_that_closed_both_sides_is_still_noticed_at_once(door: Door) -> None:
    door.stage.delay_s = 30
    with socket.create_connection((door.host, door.port)) as wire:
        wire.sendall(head(door, "Host: koi") + BODY)
        wait_until(lambda: bool(door.stage.asked))
    gone_s = time.monotonic()

    wait_until(lambda: bool(door.stage.abandoned))

    assert time.monotonic() - gone_s < 2


def test_a_client_that_leaves_in_the_middle_of_its_body_is_let_go(door: Door) -> None:
    done = threading.Event()
    with socket.create_connection((door.host, door.port), timeout=5) as wire:
        wire.sendall(head(door, "Host: koi") + BODY[:10])
        wire.shutdown(socket.SHUT_WR)
        assert wire.recv(100) == b""
        done.set()

    assert done.is_set()
    assert door.stage.asked == []


def test_of_several_proxies_the_first_says_how_the_client_came(door: Door) -> None:
    answer = door.post(BODY, {"X-Forwarded-Proto": "https, http"})

    assert answer.json["data"][0]["url"].startswith("https://")


def test_a_long_body_is_no_part_of_the_head_that_follows_it(door: Door) -> None:
    """Both come in one piece, and the rest of the head comes later."""
    body = b'{"prompt": "%s"}' % (b"x" * 40_000)
    first = head(door, "Host: koi").replace(b": %d\r" % len(BODY), b": %d\r" % len(body))
    behind = b"GET /livez HTTP/1.1\r\nHost: ", b"koi\r\n\r\n"
    answer, after = sent_in_pieces(door, first + body + behind[0], behind[1])

    assert answer.status == 400
    assert b"HTTP/1.1 200 OK\r\n" in answer.body + after


@pytest.fixture(scope="module")
def hasty_door() -> Iterator[Door]:
    """It lets a connection rest for a second, and waits as long for a body."""
    stage = Stage()
    settings = EdgeSettings(body_timeout_s=0.3)
    with served(create_app(opener(stage, settings)), timeout_keep_alive=1) as (host, port):
        yield Door(host, port, stage=stage)


def test_a_request_behind_a_slow_answer_may_wait_with_its_body(hasty_door: Door) -> None:
    hasty_door.stage.delay_s = 1.8
    top = head(hasty_door, "Host: koi")
    with socket.create_connection((hasty_door.host, hasty_door.port), timeout=10) as wire:
        wire.sendall(top + BODY + top)
        slow = read_answer(wire)
        hasty_door.stage.delay_s = 0.0
        wire.sendall(BODY)
        behind = read_answer(wire)

    assert [slow.status, behind.status] == [200, 200]


REFUSED = "POST /v1/images/generations HTTP/1.1\r\nHost: k\r\n"
LENGTH = "Content-Length: 10\r\n"
LATE_BODIES = {
    "no body": (REFUSED + "Content-Length: 0\r\n", []),
    "no body, a line break": (REFUSED + "Content-Length: 0\r\n", [b"\r\n"]),
    "a body": (REFUSED + LENGTH, [b"0123456789"]),
    "a body in pieces": (REFUSED + LENGTH, [b"012", b"3456789"]),
    "a body, line breaks": (REFUSED + LENGTH, [b"0123456789", b"\r\n", b"\r\n"]),
    "chunks": (REFUSED + "Transfer-Encoding: chunked\r\n", [b"3\r\nabc\r\n", b"0\r\n\r\n"]),
    "an offer to upgrade": (
        REFUSED + "Connection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH,
        [b"0123456789"],
    ),
    "an unknown path": ("POST /nowhere HTTP/1.1\r\nHost: k\r\n" + LENGTH, [b"0123456789"]),
    "GET": ("GET /livez HTTP/1.1\r\nHost: k\r\n" + LENGTH, [b"0123456789"]),
}


@pytest.mark.parametrize(("opening", "late"), LATE_BODIES.values(), ids=LATE_BODIES.keys())
def test_a_connection_that_rests_after_an_answer_is_closed_in_time(
    hasty_door: Door, opening: str, late: list[bytes]
) -> None:
    """Also when the answer came before the body: it must not stay open for ever."""
    with socket.create_connection((hasty_door.host, hasty_door.port), timeout=5) as wire:
        began = time.monotonic()
        wire.sendall(f"{opening}\r\n".encode())
        answer = read_answer(wire)
        for piece in late:
            time.sleep(0.05)
            wire.sendall(piece)

        assert not answer.closed
        assert wire.recv(1) == b""
        assert 0.9 < time.monotonic() - began < 4
