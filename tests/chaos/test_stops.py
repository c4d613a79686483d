"""SIGTERM at awkward moments: between admission and dispatch, and with tasks at the provider."""

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from app.sandbox.server import Sandbox
from tests.chaos.crowd import GENERATE
from tests.chaos.gateways import Variant, deployed
from tests.harness import KOI, quick_sandbox

PATIENT = {
    "upstream_timeout_s": 30,
    "task_deadline_s": 300,
    "redis_timeout_ms": 10_000,
    "log_level": "info",
}

TASKS = 20


def in_flight(url: str) -> int:
    """Requests being answered, without the one that asks."""
    page = httpx.get(f"{url}/metrics").text
    (line,) = [row for row in page.splitlines() if row.startswith("koi_in_flight_requests ")]
    return round(float(line.partition(" ")[2])) - 1


def eventually(check: Callable[[], bool], within_s: float = 4) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_request_admitted_while_the_drain_begins_is_sent_on_not_paid_and_lost(
    tmp_path: Path,
) -> None:
    with (
        quick_sandbox() as sandbox,
        deployed(Variant("late", ("sync",), settings=PATIENT), sandbox, tmp_path) as deployment,
        ThreadPoolExecutor() as pool,
    ):
        sandbox.set(latency_s=11.5)  # longer than the server waits for last answers
        (gateway,) = deployment.gateways
        headers = {"authorization": f"Bearer {deployment.koi.key()}"}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
            client.get("/v1/models")  # from here on the key is known without the store
            os.kill(deployment.the_store(), signal.SIGSTOP)
            waiting = pool.submit(client.post, GENERATE, json=KOI)
            eventually(lambda: in_flight(gateway.url) == 1)

            stopping = pool.submit(gateway.stop)
            eventually(lambda: '"draining"' in gateway.log.read_text())
            os.kill(deployment.the_store(), signal.SIGCONT)

            assert stopping.result() == 0
            assert waiting.result().json()["error"]["code"] == "draining"
            assert sandbox.posts == 0


def test_tasks_at_the_provider_do_not_hold_up_a_drain(tmp_path: Path) -> None:
    with (
        Sandbox(time_scale=8) as sandbox,  # polls take up to two thirds of a second
        deployed(Variant("busy", ("auto",), settings=PATIENT), sandbox, tmp_path) as deployment,
    ):
        sandbox.set(latency_s=300)
        (gateway,) = deployment.gateways
        headers = {"authorization": f"Bearer {deployment.koi.key()}"}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=30) as client:
            for number in range(TASKS):
                body = {**KOI, "prompt": f"koi {number}", "async": True}
                assert client.post(GENERATE, json=body).status_code == 200
        deadline = time.monotonic() + 20
        while sandbox.polls < TASKS:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        began = time.monotonic()

        assert gateway.stop() == 0
        assert time.monotonic() - began < 10
