"""A caller that hangs up and repeats at once, before anybody noticed (decision 21)."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.chaos.crowd import GENERATE
from tests.chaos.forks import Fork
from tests.flow.command import Cli, served_by
from tests.harness import KOI, PRICED, Koi, operator_settings
from tests.store_node import until

TIMES = 10


class Line:
    """One connection of a client that does as it likes."""

    def __init__(self, url: str, key: str) -> None:
        host = httpx.URL(url)
        self._socket = socket.create_connection((host.host, host.port or 80), 40)
        self._key = key

    def post(self, **fields: Any) -> "Line":
        body = json.dumps({**KOI, **fields}).encode()
        head = (
            f"POST {GENERATE} HTTP/1.1\r\nhost: koi\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)
        return self

    def answer(self) -> dict[str, Any]:
        """The body of an answer of known length, or in chunks."""
        with self._socket.makefile("rb") as stream:
            status = int(stream.readline().split()[1])
            headers = {}
            while (line := stream.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                headers[name.strip().lower()] = value.strip()
            if b"content-length" in headers:
                body = stream.read(int(headers[b"content-length"]))
            else:
                body = b"".join(_chunks(stream))
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def last(self) -> str:
        """The only picture of the last answer, whatever its link."""
        with closing(self):
            (item,) = self.answer()["data"]
        return str(item["url"].partition("?")[0])

    def close(self) -> None:
        self._socket.close()


def _chunks(stream: Any) -> Iterator[bytes]:
    while size := int(stream.readline(), 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()


def hang_up_and_repeat(first: str, second: str, key: str, pause_s: float) -> set[str]:
    """Ten calls, each repeated over a connection that is open already; the pictures got."""
    pictures = set()
    with closing(Line(second, key)) as open_line:
        for number in range(TIMES):
            fields = {"prompt": f"koi {number} {pause_s}"}
            call = Line(first, key).post(**fields)
            time.sleep(pause_s)
            call.close()
            (item,) = open_line.post(**fields).answer()["data"]
            pictures.add(item["url"].partition("?")[0])
    return pictures


PAUSES = pytest.mark.parametrize("pause_s", [0, 0.005, 0.01, 0.05])


@PAUSES
@pytest.mark.parametrize("policy", ["off", "private"])
@pytest.mark.parametrize("gateways", [1, 2])
def test_who_hangs_up_and_repeats_at_once_pays_once(
    pair: Any, sandbox: Sandbox, policy: str, pause_s: float, gateways: int
) -> None:
    first, second = pair(cache_policy=policy, cache_variants=4)
    sandbox.set(latency_s=0.2)

    other = second if gateways == 2 else first
    pictures = hang_up_and_repeat(first.url, other.url, first.key(), pause_s)

    assert len(pictures) == sandbox.posts == TIMES


@pytest.mark.parametrize("policy", ["off", "private"])
def test_it_does_so_whichever_worker_takes_the_repeat(
    sandbox: Sandbox, tmp_path: Path, policy: str
) -> None:
    sandbox.set(latency_s=0.2)
    settings = {
        **served_by(sandbox.url),
        "KOI_CACHE_POLICY": policy,
        "KOI_REDIS_TIMEOUT_MS": "3000",
    }
    cli = Cli(tmp_path, settings)
    key = cli.key()
    with cli.forked("--workers", "2") as serving:
        for pause_s in (0, 0.01):
            hang_up_and_repeat(serving.url, serving.url, key, pause_s)

    assert sandbox.posts == 2 * TIMES


@pytest.mark.parametrize("policy", ["off", "private"])
def test_of_parallel_calls_the_one_that_hung_up_is_repeated_and_the_others_stay_their_own(
    pair: Any, sandbox: Sandbox, policy: str
) -> None:
    first, second = pair(cache_policy=policy, cache_variants=4)
    key = first.key()
    sandbox.set(latency_s=1)

    with ThreadPoolExecutor(6) as pool:
        calls = [Line(koi.url, key) for koi in (first, second, first, second)]
        for call in calls:
            call.post()
        _opened(sandbox, 4)
        calls[1].close()
        repeats = [Line(koi.url, key).post() for koi in (first, second)]
        answers = [pool.submit(line.last) for line in (calls[0], *calls[2:], *repeats)]
        pictures = [answer.result() for answer in answers]

    # One of the two repeats took the place of who hung up, the other wants a picture of its own.
    assert len(set(pictures)) == 5 if policy == "off" else 4
    assert sandbox.posts == (5 if policy == "off" else 4)


def test_a_frozen_or_dead_gateways_callers_cannot_be_answered_so_their_repeat_joins(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with EmbeddedStore(tmp_path / "store") as store:
        sandbox.set(latency_s=4, picture_style="plain")
        settings: dict[str, Any] = {
            "upstream_base_url": sandbox.url,
            "upstream_api_key": sandbox.key,
            "upstream_poll_interval_s": 0.1,
            "cache_policy": "off",
            "redis_url": store.url,
            "redis_timeout_ms": 10_000,
            "data_dir": tmp_path / "koi",
            "catalog": PRICED,
            "log_level": "error",
        }
        frozen, alive = Fork(settings, tmp_path / "log"), Fork(settings, tmp_path / "log")
        koi = Koi(alive.url, sandbox, operator_settings(**settings))
        key = koi.key()
        try:
            Line(alive.url, key).post(prompt="warm").last()
            call = Line(frozen.url, key).post()
            _opened(sandbox, 2)
            polls = sandbox.polls
            until(lambda: sandbox.polls > polls, "it has written down that the call was taken")
            os.kill(frozen.pid, signal.SIGSTOP)
            call.close()
            Line(alive.url, key).post().last()
        finally:
            frozen.kill()
            alive.kill()
            frozen.place.close()
            alive.place.close()

    assert sandbox.posts == 2


def test_a_caller_who_joined_by_the_cache_hangs_up_and_repeats_and_does_not_buy_its_own(
    pair: Any, sandbox: Sandbox
) -> None:
    first, _ = pair(cache_variants=4)
    key = first.key()
    sandbox.set(latency_s=4)

    owner = Line(first.url, key).post()
    _opened(sandbox, 1)
    time.sleep(2.2)  # no longer a sibling of the call that makes it
    joined = Line(first.url, key).post()
    _under_way(first, 2)
    joined.close()

    assert Line(first.url, key).post().last() == owner.last()
    assert sandbox.posts == 1


def test_a_joined_caller_who_hangs_up_leaves_the_owners_next_call_alone(
    pair: Any, sandbox: Sandbox
) -> None:
    """Before, the owner's deliberate second call got its own first picture."""
    first, _ = pair(cache_policy="private")
    key = first.key()
    sandbox.set(latency_s=3)
    owner = Line(first.url, key).post()
    _opened(sandbox, 1)
    time.sleep(2.2)
    joined = Line(first.url, key).post()
    _under_way(first, 2)
    joined.close()
    mine = owner.last()

    sandbox.set(latency_s=0.2)
    with first.client(key) as client:
        fresh = client.post(GENERATE, json=KOI, headers={"cache-control": "no-cache"})

    assert fresh.json()["data"][0]["url"].partition("?")[0] != mine
    assert sandbox.posts == 2


def _under_way(koi: Koi, requests: int) -> None:
    """So many requests are being answered; a moment later the newest has joined a job, too."""
    deadline = time.monotonic() + 20
    while koi.in_flight() < requests:
        assert time.monotonic() < deadline, koi.in_flight()
        time.sleep(0.01)
    time.sleep(0.3)


def _opened(sandbox: Sandbox, posts: int) -> None:
    deadline = time.monotonic() + 20
    while sandbox.posts < posts:
        assert time.monotonic() < deadline, sandbox.posts
        time.sleep(0.01)
