"""What one connection may hold or take of the process, with and without a key."""

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from app.api.settings import EdgeSettings
from app.main import create_app
from tests.contract.bad_bodies import koi
from tests.contract.door import Door, read_answer, served
from tests.contract.stand_in import Stage, opener

BODY = koi()
ENDLESS_BYTES = 1 << 20
CHUNKED = "POST /v1/images/generations HTTP/1.1\r\nHost: koi\r\nTransfer-Encoding: chunked\r\n"
NEVER_A_BODY = {
    "the value of a trailer": b"0\r\nX: ",
    "the name of a trailer": b"0\r\n",
    "the extension of a chunk": b"2;a=",
    "the extension of a later chunk": b"2\r\n{}\r\n2;a=",
    "the size of a chunk": b"",
}


def whole(door: Door, version: str = "1.1", *lines: str) -> bytes:
    top = f"POST /v1/images/generations HTTP/{version}"
    given = [f"Authorization: Bearer {door.key}", f"Content-Length: {len(BODY)}", "Host: koi"]
    return "\r\n".join([top, *given, *lines, "", ""]).encode() + BODY


def everything(wire: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    came = b""
    with suppress(ConnectionResetError):
        while more := wire.recv(65_536):
            came += more
    return came


@pytest.fixture(scope="module")
def hasty_door() -> Iterator[Door]:
    """It waits 0.3 s for a body."""
    stage = Stage()
    with served(create_app(opener(stage, EdgeSettings(body_timeout_s=0.3)))) as (host, port):
        yield Door(host, port, stage=stage)


@pytest.mark.parametrize("status", [431, 401], ids=["a key", "no key"])
@pytest.mark.parametrize("opening", NEVER_A_BODY.values(), ids=NEVER_A_BODY.keys())
def test_what_frames_a_body_may_not_go_on_for_ever(door: Door, opening: bytes, status: int) -> None:
    """The parser keeps a field until it ends: this took memory without bound, and time with the
    square of it."""
    key = f"Authorization: Bearer {door.key}\r\n" if status == 431 else ""
    with socket.create_connection((door.host, door.port), timeout=5) as wire:
        wire.sendall(f"{CHUNKED}{key}\r\n".encode() + opening)
        with suppress(OSError):
            wire.sendall(b"0" * ENDLESS_BYTES)
        came = everything(wire)

    assert came.startswith(f"HTTP/1.1 {status} ".encode())
    assert door.stage.asked == []


def test_of_thousands_of_requests_sent_at_once_few_wait_behind_a_slow_one(door: Door) -> None:
    """Each that waits takes memory. Those that were taken are answered; then the client, which may
    always find its connection closed, has to come again."""
    door.stage.delay_s = 0.3
    behind = b"GET /livez HTTP/1.1\r\nHost: koi\r\n\r\n" * 5000
    with socket.create_connection((door.host, door.port), timeout=20) as wire:
        wire.sendall(whole(door))
        with suppress(OSError):
            wire.sendall(behind)
        answers = everything(wire).count(b"HTTP/1.1 200 OK\r\n")

    assert answers == 1 + 16


def test_a_client_that_sent_part_of_another_request_gets_its_answer(door: Door) -> None:
    door.stage.delay_s = 0.5
    with socket.create_connection((door.host, door.port), timeout=5) as wire:
        wire.sendall(whole(door) + b"POST /v1/ima")
        wire.shutdown(socket.SHUT_WR)
        interim = wire.recv(65_536)
        assert interim.startswith(b"HTTP/1.1 102 ")
        answer = read_answer(wire, interim.partition(b"\r\n\r\n")[2])

    assert answer.status == 200
    assert answer.closed


def test_http_1_0_is_not_told_to_continue(door: Door) -> None:
    """RFC 9110, section 10.1.1: it does not know interim answers."""
    with socket.create_connection((door.host, door.port), timeout=5) as wire:
        wire.sendall(whole(door, "1.0", "Expect: 100-continue"))
        came = everything(wire)

    assert came.startswith(b"HTTP/1.1 200 ")


def test_a_body_that_came_fast_buys_no_hours_of_silence(hasty_door: Door) -> None:
    """Also one that nobody wants any more, because it is answered already."""
    top = "POST /livez HTTP/1.1\r\nHost: koi\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection((hasty_door.host, hasty_door.port), timeout=10) as wire:
        wire.sendall(top.encode())
        with suppress(OSError):
            for _ in range(64):
                wire.sendall(b"10000\r\n" + b"0" * 0x10000 + b"\r\n")

        assert everything(wire).startswith(b"HTTP/1.1 405 ")
