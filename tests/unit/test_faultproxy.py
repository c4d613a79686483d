"""The fault proxy does what it says: plain sockets on both sides."""

import random
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faultproxy import FaultProxy
from tests.linkfaults import (
    PASS,
    Fault,
    Way,
    black_hole,
    delay,
    freeze,
    half_close,
    lose_replies,
    refuse,
    reset,
    throttle,
    truncate,
)

SILENCE_S = 0.15
BIG = random.Random(1).randbytes(3_000_000)


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it hears; remembers it, and how each connection ended."""

    def handle(self) -> None:
        assert isinstance(self.server, EchoServer)
        try:
            while chunk := self.request.recv(65_536):
                self.server.heard += chunk
                self.request.sendall(chunk)
            self.server.ends.append("fin")
            with suppress(OSError):
                self.request.sendall(b"bye")
        except ConnectionError as error:
            self.server.ends.append(type(error).__name__)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, address: object) -> None:
        if isinstance(address, str):
            self.address_family = socket.AF_UNIX
        super().__init__(address, Echo)  # type: ignore[arg-type]
        self.heard = b""
        self.ends: list[str] = []

    def hears(self, words: bytes) -> bool:
        deadline = time.monotonic() + 10
        while self.heard != words and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.heard == words

    def ended(self) -> str:
        deadline = time.monotonic() + 10
        while not self.ends:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return self.ends[-1]


@pytest.fixture(params=["tcp", "unix"])
def echo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EchoServer]:
    with EchoServer(("127.0.0.1", 0) if request.param == "tcp" else f"{tmp_path}/s") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def link(echo: EchoServer) -> Iterator[FaultProxy]:
    address = echo.server_address
    with FaultProxy(address if isinstance(address, str) else f"127.0.0.1:{address[1]}") as link:
        yield link


@pytest.fixture
def wire(link: FaultProxy) -> Iterator[socket.socket]:
    """A connection that was used before anything went wrong."""
    with dialled(link) as wire:
        assert said(wire, b"hello") == b"hello"
        yield wire


def dialled(link: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=10)


def said(wire: socket.socket, words: bytes) -> bytes:
    wire.sendall(words)
    return heard(wire, len(words))


def heard(wire: socket.socket, size: int) -> bytes:
    """Up to `size` bytes, fewer when it ends before."""
    answer = b""
    while len(answer) < size and (chunk := wire.recv(size - len(answer))):
        answer += chunk
    return answer


def greeted(link: FaultProxy) -> bytes:
    """What a new connection hears first; the reset of one may be as early as its connect."""
    with dialled(link) as wire:
        return heard(wire, 1)


def silent(wire: socket.socket) -> bool:
    wire.settimeout(SILENCE_S)
    try:
        return not wire.recv(1)
    except TimeoutError:
        return True
    finally:
        wire.settimeout(10)


def test_a_healthy_link_passes_everything_and_both_ends(
    wire: socket.socket, echo: EchoServer
) -> None:
    sending = threading.Thread(target=wire.sendall, args=(BIG,))
    sending.start()

    assert heard(wire, len(BIG)) == BIG
    sending.join()
    wire.shutdown(socket.SHUT_WR)
    assert heard(wire, 100) == b"bye"
    assert echo.ended() == "fin"


def test_its_url_is_the_targets_by_way_of_the_link() -> None:
    seen = {}
    for url in ("http://127.0.0.1:9/v1", "redis://u:p@127.0.0.1:9/0", "unix:///tmp/s"):
        with FaultProxy(url) as link:
            seen[url] = link.url.replace(str(link.port), "PORT")

    assert list(seen.values()) == [
        "http://127.0.0.1:PORT/v1",
        "redis://u:p@127.0.0.1:PORT/0",
        "redis://127.0.0.1:PORT",
    ]


def test_a_reset_is_a_real_one_on_both_sides(
    link: FaultProxy, wire: socket.socket, echo: EchoServer
) -> None:
    link.set(reset())

    with pytest.raises(ConnectionResetError):
        wire.recv(1)
    with pytest.raises(ConnectionError):
        greeted(link)
    if echo.address_family == socket.AF_INET:
        assert echo.ended() == "ConnectionResetError"


def test_the_other_sides_reset_is_passed_on(link: FaultProxy, echo: EchoServer) -> None:
    link.set(delay(0.05))
    with dialled(link) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wire.sendall(b"never mind")

    assert echo.ended() in {"ConnectionResetError", "fin"}
    deadline = time.monotonic() + 10
    while link.connections:
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("way", "turns"), [(Way.BOTH, 2), (Way.THERE, 1), (Way.BACK, 1)])
def test_a_delay_is_one_of_each_direction(
    link: FaultProxy, wire: socket.socket, way: Way, turns: int
) -> None:
    link.set(delay(0.06, jitter_s=0.01, way=way))
    began = time.monotonic()

    assert said(wire, b"x" * 100_000) == b"x" * 100_000
    assert time.monotonic() - began >= 0.06 * turns


def test_a_long_delay_is_over_when_the_link_is_healed(
    link: FaultProxy, wire: socket.socket
) -> None:
    link.set(delay(600))
    wire.sendall(b"hello")
    assert silent(wire)

    link.heal()

    assert heard(wire, 5) == b"hello"


def test_a_throttled_link_takes_its_time(link: FaultProxy, wire: socket.socket) -> None:
    link.set(throttle(100_000, Way.BACK))
    began = time.monotonic()

    assert said(wire, b"x" * 20_000) == b"x" * 20_000
    assert time.monotonic() - began >= 0.15


def test_a_black_hole_takes_everything_and_says_nothing(
    link: FaultProxy, wire: socket.socket, echo: EchoServer
) -> None:
    link.set(black_hole())
    with dialled(link) as late:
        late.sendall(BIG)
        wire.sendall(b"anybody")
        assert silent(wire)
        assert silent(late)

        link.heal()

        assert silent(wire)
    assert echo.heard == b"hello"


def test_requests_into_a_black_hole_of_answers_arrive(
    link: FaultProxy, wire: socket.socket, echo: EchoServer
) -> None:
    link.set(black_hole(Way.BACK))

    wire.sendall(b" again")

    assert echo.hears(b"hello again")
    assert silent(wire)


def test_what_a_frozen_link_held_flows_on_when_it_thaws(
    link: FaultProxy, wire: socket.socket, echo: EchoServer
) -> None:
    link.set(freeze())
    with dialled(link) as late:  # the system's queue takes it
        late.sendall(b"new")
        wire.sendall(b"old")
        assert silent(late)
        assert silent(wire)
        assert echo.heard == b"hello"

        link.heal()

        assert heard(late, 3) == b"new"
        assert heard(wire, 3) == b"old"


def test_a_refusing_link_hangs_up_on_everybody_and_can_come_back(
    link: FaultProxy, wire: socket.socket
) -> None:
    for _ in range(3):
        link.set(refuse())
        with pytest.raises(ConnectionRefusedError):
            dialled(link)

        link.heal()
        with dialled(link) as late:
            assert said(late, b"back") == b"back"

    with pytest.raises(ConnectionResetError):
        wire.recv(1)


@pytest.mark.parametrize("fault", [truncate(7), reset(after=7, way=Way.BACK)], ids=str)
def test_an_answer_can_be_cut_in_the_middle(
    link: FaultProxy, wire: socket.socket, fault: Fault
) -> None:
    link.set(fault)
    wire.sendall(b"0123456789")

    assert heard(wire, 7) == b"0123456"
    if fault.rst:
        with pytest.raises(ConnectionResetError):
            wire.recv(1)
    else:
        assert wire.recv(1) == b""


def test_a_request_can_be_cut_in_the_middle(
    link: FaultProxy, wire: socket.socket, echo: EchoServer
) -> None:
    link.set(truncate(4, Way.THERE))

    wire.sendall(b"0123456789")

    assert echo.ended() in {"fin", "ConnectionResetError", "BrokenPipeError"}
    assert echo.heard == b"hello0123"


def test_half_a_connection_can_end(link: FaultProxy, wire: socket.socket, echo: EchoServer) -> None:
    link.set(half_close(Way.THERE))

    assert heard(wire, 3) == b"bye"
    assert echo.ended() == "fin"


def test_the_half_that_did_not_end_goes_on(
    link: FaultProxy, wire: socket.socket, echo: EchoServer
) -> None:
    link.set(half_close(Way.BACK))

    assert wire.recv(1) == b""
    wire.sendall(b" still")
    wire.shutdown(socket.SHUT_WR)
    assert echo.ended() == "fin"
    assert echo.heard == b"hello still"


def test_a_lost_reply_is_lost_after_the_request_was_heard(
    link: FaultProxy, wire: socket.socket, echo: EchoServer
) -> None:
    link.set(lose_replies())

    with pytest.raises(ConnectionResetError):
        said(wire, b" again")
    assert echo.heard == b"hello again"


def test_faults_can_be_chosen_by_what_is_asked(link: FaultProxy, wire: socket.socket) -> None:
    link.choose(lambda request: lose_replies() if b"unlucky" in request else PASS)

    assert said(wire, b"lucky") == b"lucky"
    with pytest.raises(ConnectionResetError):
        said(wire, b"unlucky")
    assert link.drawn == {"lose replies": 1}


def test_random_faults_come_at_their_rate_and_again_by_their_seed(link: FaultProxy) -> None:
    def stormy(seed: int) -> list[bool]:
        link.random(0.2, seed, [reset(), lose_replies()])
        fates = []
        for _ in range(60):
            with dialled(link) as wire, suppress(ConnectionError):
                fates.append(False)
                fates[-1] = [said(wire, b"one"), said(wire, b"two")] == [b"one", b"two"]
        return fates

    once, again, other = stormy(1), stormy(1), stormy(2)

    assert once == again != other
    assert 8 <= once.count(False) <= 36


def test_nothing_is_left_when_it_ends(echo: EchoServer) -> None:
    address = echo.server_address
    before = threading.active_count()
    with FaultProxy(address if isinstance(address, str) else f"127.0.0.1:{address[1]}") as link:
        wire = dialled(link)
        assert said(wire, b"hello") == b"hello"

    with pytest.raises(ConnectionResetError):
        wire.recv(1)
    wire.close()
    with pytest.raises(ConnectionRefusedError):
        dialled(link)
    assert threading.active_count() <= before + 1  # the echo's own for that connection
