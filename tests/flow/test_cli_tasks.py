"""`koi tasks`: no task that there is stays out of the list, and what is listed can be shown."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox.server import Sandbox
from tests.flow.command import House
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, PRICED, Koi, gateway

MORE_THAN_IS_READ = 205


@pytest.fixture
def house(store_url: str, tmp_path: Path) -> House:
    """The operator's desk, on the store of the gateway under test."""
    settings = {
        "KOI_REDIS_URL": store_url,
        "KOI_DATA_DIR": str(tmp_path / "koi"),
        "KOI_CATALOG": str(PRICED),
    }
    return House(tmp_path, settings)


@pytest.fixture
def koi(sandbox: Sandbox, store_url: str, tmp_path: Path) -> Iterator[Koi]:
    """A gateway that may end while the provider still works."""
    settings = {"task_deadline_s": 60, "drain_timeout_s": 0.1, "free_refusals_per_hour": 1000}
    with gateway(sandbox, store_url, tmp_path / "koi", upstream_mode="async", **settings) as koi:
        yield koi


def begin(koi: Koi, client: httpx.Client) -> str:
    """A task that the provider works at for a minute."""
    koi.sandbox.set(latency_s=60)
    task = client.post(GENERATE, json={**KOI, "prompt": "slow", "async": True}).json()["id"]
    deadline = time.monotonic() + 20
    while client.get(f"/v1/tasks/{task}").json()["status"] != "processing":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    koi.sandbox.set(latency_s=None)
    return str(task)


def listed(house: House, *words: str) -> list[Any]:
    return [task["id"] for task in house.json("tasks", "list", *words)]


def test_an_open_task_is_listed_however_many_came_after_it(koi: Koi, house: House) -> None:
    with koi.client() as client, ThreadPoolExecutor(16) as crowd:
        task = begin(koi, client)
        bodies = [{**KOI, "prompt": f"[fault:400] {n}"} for n in range(MORE_THAN_IS_READ)]
        answers = list(crowd.map(lambda body: client.post(GENERATE, json=body), bodies))

    assert {answer.status_code for answer in answers} == {400}
    assert listed(house, "--status", "processing") == [task]
    assert listed(house, "--limit", "1000")[-1] == task
    assert "may be missing" in house.run("tasks", "list", "--status", "completed").stderr
    assert "may be missing" not in house.run("tasks", "list").stderr
    assert "may be missing" not in house.run("tasks", "list", "--status", "failed").stderr


def test_the_open_task_of_a_deleted_user_is_listed(koi: Koi, house: House) -> None:
    with koi.client() as client:
        task = begin(koi, client)
    house.run("users", "delete", "ann")

    assert listed(house) == listed(house, "--user", "ann") == [task]
