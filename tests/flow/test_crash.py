"""kill -9 in mid-generation, restart: the same picture, billed once, metered once."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.sandbox.server import Sandbox
from app.settings import build_settings
from tests.chaos.forks import ForkedCommand
from tests.harness import KOI, PRICED, Koi, environment
from tests.ports import free_port
from tests.store_node import until

GENERATE = "/v1/images/generations"


class Process:
    """`koi serve` with the embedded store, killable."""

    def __init__(self, sandbox: Sandbox, data_dir: Path, port: int, mode: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._environment = environment(
            upstream_base_url=sandbox.url,
            upstream_api_key="sk-sandbox",
            upstream_mode=mode,
            upstream_timeout_s="3",
            upstream_poll_interval_s="0.1",
            resolve_after_s="0.5",
            catalog=str(PRICED),
            data_dir=str(data_dir),
            port=str(port),
            log_level="error",
        )
        self._place = data_dir.parent
        self._process: ForkedCommand | None = None

    def start(self) -> None:
        self._process = ForkedCommand(
            ["serve"], self._place, self._environment, self._place / "serve.log"
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "koi serve ended"
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz", timeout=1).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError("koi serve did not become ready")

    def kill(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=60)


@pytest.fixture
def served(sandbox: Sandbox, tmp_path: Path) -> Iterator[Process]:
    process = Process(sandbox, tmp_path / "koi", free_port(), "auto")
    process.start()
    yield process
    process.stop()


def operator(process: Process, sandbox: Sandbox, tmp_path: Path) -> Koi:
    settings = build_settings(data_dir=tmp_path / "koi", catalog=PRICED)
    return Koi(process.url, sandbox, settings)


def test_the_same_idempotency_key_after_kill_minus_nine_gets_the_picture_once_billed(
    served: Process, sandbox: Sandbox, tmp_path: Path
) -> None:
    koi = operator(served, sandbox, tmp_path)
    key = koi.key()
    sandbox.set(latency_s=60)
    headers = {"idempotency-key": "order-4711"}
    koi.hang_up(key, headers)
    until(lambda: sandbox.polls > 0, "its id is written down")

    served.kill()
    served.start()
    sandbox.advance(60)
    with koi.client(key) as client:
        first = client.post(GENERATE, json=KOI, headers=headers)
        again = client.post(GENERATE, json=KOI, headers=headers)

    assert first.status_code == 200
    assert first.json() == again.json()
    assert httpx.get(first.json()["data"][0]["url"]).status_code == 200
    assert (sandbox.posts, sandbox.billed_images) == (1, 1)
    koi.assert_ledger_matches_bill()


def test_a_task_survives_kill_minus_nine_and_is_metered_once(
    served: Process, sandbox: Sandbox, tmp_path: Path
) -> None:
    koi = operator(served, sandbox, tmp_path)
    key = koi.key()
    sandbox.set(latency_s=60)
    with koi.client(key) as client:
        task_id = client.post(GENERATE, json={**KOI, "n": 2, "async": True}).json()["id"]
    until(lambda: sandbox.polls > 0, "its id is written down")

    served.kill()
    served.start()
    sandbox.advance(60)
    with koi.client(key) as client:
        task = client.get(f"/v1/tasks/{task_id}", params={"wait": 20}).json()

    assert task["status"] == "completed"
    assert len(task["data"]) == 2
    assert [entry.images for entry in koi.entries()] == [2]
    koi.assert_ledger_matches_bill()


@pytest.mark.parametrize("mode", ["sync", "auto"])
def test_a_picture_still_to_be_fetched_survives_kill_minus_nine(
    sandbox: Sandbox, tmp_path: Path, mode: str
) -> None:
    process = Process(sandbox, tmp_path / "koi", free_port(), mode)
    process.start()
    try:
        koi = operator(process, sandbox, tmp_path)
        key = koi.key()
        sandbox.set(cdn_status=503)
        with koi.client(key) as client:
            task_id = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]
            told = states(client, task_id, until="collecting")
        process.kill()
        process.start()
        with koi.client(key) as client:
            told += states(client, task_id, until="collecting")
            sandbox.set(cdn_status=None)
            told += states(client, task_id, until="completed")
        koi.assert_ledger_matches_bill()
        (entry,) = koi.entries()
    finally:
        process.stop()

    assert "failed" not in told
    assert (entry.images, entry.presumed, entry.delivered) == (1, 0, 1)
    assert sandbox.posts == 1


def states(client: httpx.Client, task_id: str, until: str) -> list[str]:
    """What the task is said to be, until it is so."""
    deadline, told = time.monotonic() + 40, [""]
    while told[-1] != until:
        assert time.monotonic() < deadline, told[-1]
        told.append(client.get(f"/v1/tasks/{task_id}").json()["status"])
        time.sleep(0.05)
    return told


def test_a_sync_only_generation_killed_in_the_middle_is_presumed_billed_never_repeated(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    process = Process(sandbox, tmp_path / "koi", free_port(), "sync")
    process.start()
    try:
        koi = operator(process, sandbox, tmp_path)
        key = koi.key()
        sandbox.set(latency_s=5)
        koi.hang_up(key)
        process.kill()
        process.start()

        audit = koi.settled(within_s=60)
        (entry,) = koi.entries()
    finally:
        process.stop()

    assert (entry.images, entry.presumed, entry.delivered) == (1, 1, 0)
    assert audit.difference == 0
    assert sandbox.posts == 1
