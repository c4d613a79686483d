"""What callers can use up: connections, log lines, series, waits (S33, S34, S36, S39)."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow import command
from tests.flow.command import Cli, generate, served_by
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi
from tests.security.test_canaries import store_at
from tests.security.trap import eventually

FILES = 300
ASK = b"GET /livez HTTP/1.1\r\nHost: koi\r\n\r\n"


@pytest.fixture
def cli(sandbox: Sandbox, tmp_path: Path) -> Cli:
    return Cli(tmp_path, {**served_by(sandbox.url), "KOI_UPSTREAM_POLL_INTERVAL_S": "0.1"})


@contextlib.contextmanager
def flood(url: httpx.URL, connections: int) -> Iterator[Counter[bytes]]:
    """That many connections, each used once and then held; gives their status lines."""
    with contextlib.ExitStack() as held:
        statuses: Counter[bytes] = Counter()
        for _ in range(connections):
            line = held.enter_context(socket.create_connection((url.host, url.port or 80), 10))
            with contextlib.suppress(OSError):
                line.sendall(ASK)
            statuses[line.recv(4096)[9:12]] += 1
        yield statuses


def test_a_flood_of_connections_leaves_room_for_the_work_under_way(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = ["sh", "-c", f'ulimit -n {FILES} && exec "$@"', "koi"]
    monkeypatch.setattr(command, "KOI", [*shell, sys.executable, "-m", "app.cli"])
    key = cli.key()
    with cli.serving() as serving:
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=serving.url, headers=headers, timeout=30) as early:
            assert early.get("/v1/models").status_code == 200
            with flood(early.base_url, 250) as statuses:
                made = early.post(GENERATE, json=KOI)
            assert statuses.keys() == {b"200", b"503"}
            assert statuses[b"200"] <= FILES // 3
            assert made.status_code == 200
            assert httpx.get(made.json()["data"][0]["url"]).status_code == 200
        eventually(lambda: generate(serving.url, key, "afterwards").status_code == 200)


def test_a_store_that_is_away_is_told_once_and_not_with_every_request(
    cli: Cli, tmp_path: Path
) -> None:
    key = cli.key()
    cli.settings["KOI_REDIS_TIMEOUT_MS"] = "300"
    with cli.forked() as serving:
        eventually(lambda: generate(serving.url, key).status_code == 200)
        with store_at(tmp_path) as store:
            server = store.info("server")["process_id"]
        os.kill(server, signal.SIGSTOP)
        asked, until = 0, time.monotonic() + 4
        try:
            while asked <= 10 or time.monotonic() < until:
                assert generate(serving.url, key, f"{asked}").status_code == 503
                asked += 1
        finally:
            os.kill(server, signal.SIGCONT)
        eventually(lambda: generate(serving.url, key, "back").status_code == 200)
        serving.wait_for("store_breaker", times=2)
    lines = [json.loads(line) for line in serving.log.read_text().splitlines() if line[0] == "{"]
    events = Counter(line["event"] for line in lines)
    states = [line["state"] for line in lines if line["event"] == "store_breaker"]

    assert asked > 10
    assert states == ["open", "closed"]
    assert events.pop("request") >= asked
    assert events.total() < 20, events


def test_three_hundred_users_add_no_series(koi: Koi) -> None:
    async def issue_keys(operator: OperatorContext) -> list[str]:
        return [(await operator.keys.issue(f"user{n}", name=f"key{n}")).secret for n in range(300)]

    async def all_ask(keys: list[str]) -> set[int]:
        limits = httpx.Limits(max_connections=32)
        async with httpx.AsyncClient(base_url=koi.url, timeout=60, limits=limits) as client:
            calls = [
                client.get(path, headers={"authorization": f"Bearer {key}"})
                for n, key in enumerate(keys)
                for path in [("/v1/usage", f"/v1/tasks/{key[-12:]}", f"/{key[-12:]}")[n % 3]]
            ]
            return {answer.status_code for answer in await asyncio.gather(*calls)}

    def series() -> set[str]:
        text = httpx.get(f"{koi.url}/metrics").text
        return {line.rpartition(" ")[0] for line in text.splitlines() if line[0] != "#"}

    keys = koi.operate(issue_keys)
    assert asyncio.run(all_ask(keys[:3])) == {200, 404}
    few = series() | series()
    assert asyncio.run(all_ask(keys[3:])) == {200, 404}
    new = series() - few

    # A slow machine may show the store a new outcome; a user more must show nothing.
    assert len(new) < 100
    assert not any(word in name for name in new for word in ("user", "key_", *keys))


def test_a_long_poll_ends_and_hundreds_of_them_ask_the_provider_nothing_more(
    start: Start,
) -> None:
    """S34: waits are capped, cost one look at the store each, and none upstream."""
    koi = start(upstream_poll_interval_s=0.5)
    koi.sandbox.set(latency_s=2)
    key = koi.key()
    with koi.client(key) as client:
        task_id = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]

    async def crowd() -> set[str]:
        limits = httpx.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            base_url=koi.url, headers=headers, timeout=60, limits=limits
        ) as client:
            calls = [client.get(f"/v1/tasks/{task_id}?wait=9999") for _ in range(100)]
            return {answer.json()["status"] for answer in await asyncio.gather(*calls)}

    assert asyncio.run(crowd()) == {"completed"}
    assert koi.sandbox.polls <= 8
    with koi.client(key) as client:
        assert client.get(f"/v1/tasks/{task_id}?wait=99999").status_code == 200


def test_a_house_limit_of_nothing_stops_all_spending(start: Start) -> None:
    """S43: the kill switch, checked in the same step as every other limit."""
    koi = start(house_images_per_day=0)
    with koi.client() as client:
        refused = [client.post(GENERATE, json={**KOI, "n": n}) for n in (1, 2)]
        models = client.get("/v1/models").status_code

    assert {answer.json()["error"]["code"] for answer in refused} == {"insufficient_quota"}
    assert {answer.headers["x-should-retry"] for answer in refused} == {"false"}
    assert models == 200
    assert koi.sandbox.posts == 0
