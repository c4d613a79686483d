"""Tasks at two providers over crashes, restarts, changes of the catalog, and several gateways."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app.sandbox.server import Sandbox
from app.settings import Settings
from tests.flow.command import Cli, served_by
from tests.flow.test_generate import wait_for
from tests.flow.two_providers import (
    GENERATE,
    HERE,
    KEYS,
    MODELS,
    THERE,
    assert_ledger_matches_bills,
    eventually,
    keys_sent,
    metric,
    order,
    section,
    write_catalog,
)
from tests.harness import Koi, gateway, quick_sandbox


@pytest.fixture
def second() -> Iterator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch, quick_sandbox() as sandbox:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield sandbox


@pytest.fixture
def catalog(second: Sandbox, tmp_path: Path) -> Path:
    return write_catalog(tmp_path / "two.toml", section(second.url), MODELS)


def submit(client: httpx.Client, *models: str, prompt: str = "a koi", n: int = 1) -> list[str]:
    """The ids of tasks that run at the providers of these models."""
    body = [order(model, prompt, n=n, **{"async": True}) for model in models]
    return [client.post(GENERATE, json=one).json()["id"] for one in body]


def test_tasks_at_both_providers_survive_kill_minus_nine(
    sandbox: Sandbox, second: Sandbox, catalog: Path, tmp_path: Path
) -> None:
    cli = Cli(tmp_path, {**served_by(sandbox.url), "KOI_CATALOG": str(catalog)})
    settings = Settings(_env_file=None, data_dir=tmp_path / ".koi", catalog=catalog)
    for provider in (sandbox, second):
        provider.set(latency_s=2.5)
    with cli.forked() as serving:
        koi = Koi(serving.url, sandbox, settings)
        key = koi.key()
        with koi.client(key) as client:
            tasks = submit(client, HERE, THERE, n=2)
            eventually(lambda: sandbox.polls > 0 and second.polls > 0)
        os.kill(serving.process.pid, signal.SIGKILL)
        serving.process.wait()
    with cli.forked() as serving:
        koi = Koi(serving.url, sandbox, settings)
        with koi.client(key) as client:
            ended = [wait_for(client, task, 30) for task in tasks]
        assert_ledger_matches_bills(koi, {None: sandbox, "second": second})

    assert [(task["status"], len(task["data"])) for task in ended] == [("completed", 2)] * 2
    assert (sandbox.posts, second.posts) == (1, 1)
    assert keys_sent(second) == set(KEYS.values())


def test_a_task_of_a_provider_that_left_the_catalog_waits_for_it(
    sandbox: Sandbox, second: Sandbox, catalog: Path, store_url: str, tmp_path: Path
) -> None:
    moved = write_catalog(tmp_path / "moved.toml", MODELS.replace('provider = "second"', ""))
    options = {"task_deadline_s": 60, "resolve_after_s": 60, "admin_key": "admin-key-of-this-test"}
    second.set(latency_s=50)
    with gateway(sandbox, store_url, tmp_path / "koi", catalog=catalog, **options) as koi:
        key = koi.key()
        with koi.client(key) as client:
            [task] = submit(client, THERE)
            eventually(lambda: client.get(f"/v1/tasks/{task}").json()["status"] == "processing")
    polls = second.polls

    with (
        gateway(sandbox, store_url, tmp_path / "koi", catalog=moved, **options) as koi,
        koi.client(key) as client,
        koi.client(options["admin_key"]) as admin,
    ):
        # Its model is the main provider's now, which answers at once.
        assert client.post(GENERATE, json=order(THERE, "moved")).status_code == 200
        count = "upstream_duration_seconds_count"
        eventually(lambda: metric(koi, count, outcome="troubled") > 2)
        waiting = client.get(f"/v1/tasks/{task}").json()["status"]
        eventually(lambda: "provider second" in failing(admin))
    asked = [request.path for request in sandbox.requests if request.method == "GET"]
    second.advance(50)

    with gateway(sandbox, store_url, tmp_path / "koi", catalog=catalog, **options) as koi:
        with koi.client(key) as client:
            ended = wait_for(client, task, 30)
        assert_ledger_matches_bills(koi, {None: sandbox, "second": second})

    assert waiting == "processing"
    assert second.polls > polls
    assert [path for path in asked if "task" in path and polls_of(second)[0] in path] == []
    assert ended["status"] == "completed"
    assert (sandbox.posts, second.posts) == (1, 1)


def polls_of(sandbox: Sandbox) -> list[str]:
    """The ids of tasks that it was asked for."""
    return [r.path.rpartition("/")[2] for r in sandbox.requests if "/tasks/" in r.path]


def failing(admin: httpx.Client) -> set[str]:
    found = admin.get("/v1/koi/health").json()["checks"]
    return {check["name"] for check in found if check["state"] == "fail"}


def test_two_gateways_keep_the_limits_of_each_provider_together(
    sandbox: Sandbox, second: Sandbox, store_url: str, tmp_path: Path
) -> None:
    limits = {"rpm": 120, "burst": 8, "concurrency": 2}
    granted = section(second.url, *(f"{name} = {value}" for name, value in limits.items()))
    catalog = write_catalog(tmp_path / "limited.toml", granted, MODELS)
    second.set(latency_s=20, **limits)
    options = {"catalog": catalog, "cache_policy": "off", "upstream_poll_interval_s": 0.2}
    with (
        gateway(sandbox, store_url, tmp_path / "koi", **options) as one,
        gateway(sandbox, store_url, tmp_path / "koi", **options) as other,
        one.client(timeout=60) as left,
        other.client(timeout=60) as right,
        ThreadPoolExecutor(8) as pool,
    ):
        there = [
            pool.submit((left, right)[n % 2].post, GENERATE, json=order(THERE, f"koi {n}"))
            for n in range(6)
        ]
        eventually(lambda: metric(one, "upstream_queue_jobs", provider="second") > 0)
        second.set(latency_s=0.3)
        second.advance(20)
        here = [left.post(GENERATE, json=order(HERE, f"koi {n}")).status_code for n in range(3)]
        queued = metric(one, "upstream_queue_jobs", provider="main")
        told = [call.result().status_code for call in there]
        ratio = metric(one, "upstream_rate_ratio", provider="second")
        assert_ledger_matches_bills(one, {None: sandbox, "second": second})

    assert here == [200] * 3
    assert told == [200] * 6
    assert (queued, ratio) == (0, 1)
