"""`koi tasks`: no task that there is stays out of the list, and what is listed can be shown."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.adapters.redis.keyspace import KEYS
from app.sandbox.server import Sandbox
from tests.flow.command import Cli, cli_on
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway

JOB = next(key.name for key in KEYS if key.noun == "job")
MORE_THAN_IS_READ = 205


@pytest.fixture
def cli(store_url: str, tmp_path: Path) -> Cli:
    """The operator's commands, on the store of the gateway under test."""
    return cli_on(tmp_path, store_url)


Gateway = Callable[[], AbstractContextManager[Koi]]


@pytest.fixture
def running(sandbox: Sandbox, store_url: str, tmp_path: Path) -> Gateway:
    """A gateway that may end while the provider still works. Commands run after its end, since they
    share its standard output."""
    settings = {"task_deadline_s": 60, "drain_timeout_s": 0.1, "free_refusals_per_hour": 1000}
    return partial(gateway, sandbox, store_url, tmp_path / "koi", upstream_mode="async", **settings)


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


def listed(cli: Cli, *words: str) -> list[Any]:
    return [task["id"] for task in cli.json("tasks", "list", *words)]


def test_an_open_task_is_listed_however_many_came_after_it(running: Gateway, cli: Cli) -> None:
    with running() as koi, koi.client() as client, ThreadPoolExecutor(16) as crowd:
        task = begin(koi, client)
        bodies = [{**KOI, "prompt": f"[fault:400] {n}"} for n in range(MORE_THAN_IS_READ)]
        answers = list(crowd.map(lambda body: client.post(GENERATE, json=body), bodies))

    assert {answer.status_code for answer in answers} == {400}
    assert listed(cli, "--status", "processing") == [task]
    assert listed(cli, "--limit", "1000")[-1] == task
    assert "may be missing" in cli.run("tasks", "list", "--status", "completed").stderr
    assert "may be missing" not in cli.run("tasks", "list").stderr
    assert "may be missing" not in cli.run("tasks", "list", "--status", "failed").stderr


def test_the_open_task_of_a_deleted_user_is_listed(running: Gateway, cli: Cli) -> None:
    with running() as koi, koi.client() as client:
        task = begin(koi, client)
    cli.run("users", "delete", "ann")

    assert listed(cli) == listed(cli, "--user", "ann") == [task]


def test_a_task_that_nobody_knows_the_end_of_is_found_and_says_what_it_holds(
    sandbox: Sandbox, store_url: str, tmp_path: Path, cli: Cli
) -> None:
    settings = {"task_deadline_s": 0.5, "resolve_after_s": 600, "drain_timeout_s": 0.1}
    sandbox.set(latency_s=60)
    with (
        gateway(sandbox, store_url, tmp_path / "koi", upstream_mode="async", **settings) as koi,
        koi.client() as client,
    ):
        body = {**KOI, "prompt": "never ends", "n": 2, "async": True}
        task = client.post(GENERATE, json=body).json()["id"]
        deadline = time.monotonic() + 20
        while cli_state(cli, task) != "unknown":
            assert time.monotonic() < deadline
            time.sleep(0.2)

    assert listed(cli, "--status", "unknown") == [task]
    held = cli.json("tasks", "show", task)["held"]
    assert held == {"images": 2, "cost": {"value": "0.28", "currency": "CNY"}}
    assert "2 images, 0.28 CNY, until evidence comes, or" in cli.text("tasks", "show", task)
    assert "unknown" in cli.refused("tasks", "list", "--status", "lost", code=2)


def cli_state(cli: Cli, task: str) -> str:
    return str(json.loads(cli.process("tasks", "show", task, "--json").stdout)["state"])


def test_what_the_list_tells_from_the_ledger_can_be_shown(
    running: Gateway, cli: Cli, store_url: str
) -> None:
    with running() as koi, koi.client() as client:
        for prompt in ("koi", "[fault:400]"):
            client.post(GENERATE, json={**KOI, "prompt": prompt})
    with redis.Redis.from_url(store_url) as client:
        for task in listed(cli):
            client.delete(f"{JOB}{task}")

    found = cli.json("tasks", "list")

    assert sorted(task["status"] for task in found) == ["completed", "failed"]
    assert [cli.json("tasks", "show", task["id"]) for task in found] == found
    assert ["None" in cli.text("tasks", "show", task["id"]) for task in found] == [False] * 2
    assert "the ledger knows of none" in cli.refused("tasks", "show", "task_0", code=1)
