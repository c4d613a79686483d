"""`koi serve`: refusals, one worker, several, deaths and the ways to end."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app.sandbox.server import Sandbox
from tests.flow.command import Cli, Serving, generate, persist, served_by
from tests.harness import quick_sandbox


@pytest.fixture
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def cli(provider: Sandbox, tmp_path: Path) -> Cli:
    return Cli(tmp_path, served_by(provider.url))


def eventually(true: Callable[[], bool], within_s: float = 15) -> bool:
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z"
    return True


def children_of(pid: int) -> list[int]:
    """Every descendant: workers, and the store's server."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                child = int(stat.parent.name)
                found += [child, *children_of(child)]
    return found


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "koi demo"),
        ({"KOI_UPSTREAM_API_KEY": "changeme"}, "real key"),
        ({"KOI_UPSTREAM_API_KEY": "sk-real", "KOI_ADMIN_KEY": "admin"}, "openssl rand"),
        ({"KOI_UPSTREAM_API_KEY": "sk-real", "KOI_PORT": "http"}, "KOI_PORT"),
    ],
)
def test_it_refuses_to_start_without_what_it_needs(
    tmp_path: Path, settings: dict[str, str], says: str
) -> None:
    assert says in Cli(tmp_path, settings).refused("serve", code=2)


def test_a_taken_port_is_told_with_another_choice(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cli = Cli(tmp_path, {"KOI_UPSTREAM_API_KEY": "sk-real"})

        said = cli.refused("serve", "--port", str(port), code=1)

    assert f"--port {port + 1}" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_broken_catalog_is_one_sentence(tmp_path: Path, workers: str) -> None:
    (tmp_path / "catalog.toml").write_text("models = 3")
    settings = {"KOI_UPSTREAM_API_KEY": "sk-real", "KOI_CATALOG": "catalog.toml"}

    cli = Cli(tmp_path, settings)

    assert "catalog" in cli.refused("serve", "--port", "0", "--workers", workers, code=1)


def test_it_starts_although_the_store_is_away_and_says_that_it_is_not_ready(cli: Cli) -> None:
    cli.settings["KOI_REDIS_URL"] = "redis://127.0.0.1:9"
    with cli.forked(ready=False) as serving:
        live = httpx.get(f"{serving.url}/livez")
        ready = httpx.get(f"{serving.url}/readyz")

        assert (live.status_code, ready.status_code) == (200, 503)
        assert serving.stop() == 0


def test_a_misspelt_setting_is_pointed_at(cli: Cli) -> None:
    cli.settings["KOI_UPSTREAM_RPMS"] = "3"
    with cli.forked() as serving:
        assert "KOI_UPSTREAM_RPMS is not a setting" in serving.log.read_text()


def test_one_worker_serves_and_ends_with_0_at_sigterm(cli: Cli) -> None:
    with cli.serving() as serving:
        key = cli.key()
        answer = generate(serving.url, key)
        children = children_of(serving.process.pid)

        assert answer.status_code == 200
        assert serving.stop() == 0
        assert children
        assert eventually(lambda: all(gone(pid) for pid in children))
        assert cli.json("ledger", "check")["difference"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_drains_what_runs_and_refuses_new_work(
    cli: Cli, provider: Sandbox, number: signal.Signals
) -> None:
    cli.settings |= {"KOI_UPSTREAM_MODE": "sync", "KOI_CACHE_POLICY": "off"}
    provider.set(latency_s=1.5)
    with cli.forked() as serving, ThreadPoolExecutor() as pool:
        key = cli.key()
        paid = pool.submit(generate, serving.url, key, "before")
        assert eventually(lambda: provider.posts == 1)

        serving.process.send_signal(number)
        serving.wait_for("draining")
        with pytest.raises(httpx.ConnectError):
            generate(serving.url, key, "after")

        assert paid.result().status_code == 200
        assert serving.process.wait(10) == 0
    assert provider.posts == 1
    assert cli.json("usage")["total"]["images"] == 1


def test_for_a_while_after_sigterm_it_serves_as_ever_but_calls_itself_unready(
    cli: Cli, provider: Sandbox
) -> None:
    cli.settings["KOI_DRAIN_DELAY_S"] = "3"
    with cli.forked() as serving:
        key = cli.key()
        serving.process.send_signal(signal.SIGTERM)
        serving.wait_for("leaving")
        ready = httpx.get(f"{serving.url}/readyz")
        taken = generate(serving.url, key)

        assert (ready.status_code, ready.json()["gateway"]) == (503, "draining")
        assert taken.status_code == 200
        assert serving.process.wait(20) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_sent_twice_at_once_to_every_process_is_one(
    cli: Cli, provider: Sandbox, workers: str
) -> None:
    cli.settings["KOI_UPSTREAM_MODE"] = "sync"
    provider.set(latency_s=2)
    with cli.forked("--workers", workers) as serving, ThreadPoolExecutor() as pool:
        paid = pool.submit(generate, serving.url, cli.key())
        assert eventually(lambda: provider.posts == 1)
        family = [serving.process.pid, *workers_of(serving)]

        for pid in family * 2:
            os.kill(pid, signal.SIGTERM)

        assert paid.result().status_code == 200
        assert serving.process.wait(20) == 0


def workers_of(serving: Serving) -> list[int]:
    return [event["pid"] for event in serving.events("worker_ready")]


def test_an_async_job_is_handed_to_the_next_process(cli: Cli, provider: Sandbox) -> None:
    provider.set(latency_s=3)
    key = cli.key()
    with cli.forked() as serving, ThreadPoolExecutor() as pool:
        waiting = pool.submit(generate, serving.url, key)
        assert eventually(lambda: provider.polls > 0)
        began = time.monotonic()

        assert serving.stop(within_s=15) == 0

        assert waiting.result().status_code in (200, 503)
        assert time.monotonic() - began < 12
    with cli.forked() as serving:
        headers = {"authorization": f"Bearer {key}", "x-stainless-retry-count": "1"}
        body = {"model": "grok-imagine", "prompt": "a koi"}
        again = httpx.post(
            f"{serving.url}/v1/images/generations", headers=headers, json=body, timeout=30
        )
    assert again.status_code == 200
    assert provider.posts == 1


def test_a_second_signal_ends_it_at_once_and_the_job_is_not_forgotten(
    cli: Cli, provider: Sandbox
) -> None:
    cli.settings |= {"KOI_UPSTREAM_MODE": "sync"}
    provider.set(latency_s=20)
    with cli.forked() as serving:
        key = cli.key()
        lost = threading.Thread(target=_ignoring_failures, args=(serving.url, key))
        lost.start()
        assert eventually(lambda: provider.posts == 1)
        serving.process.send_signal(signal.SIGTERM)
        serving.wait_for("draining")
        time.sleep(1.1)  # what comes sooner is taken for an echo of the first one
        began = time.monotonic()

        code = serving.stop(signal.SIGINT)

        assert code == 1
        assert time.monotonic() - began < 8
        lost.join()
    audit = cli.json("ledger", "check")
    assert (audit["difference"], audit["open_jobs"]) == (0, 1)


def _ignoring_failures(url: str, key: str) -> None:
    with suppress(httpx.HTTPError):
        generate(url, key)


def test_the_drain_ends_at_its_timeout(cli: Cli, provider: Sandbox) -> None:
    cli.settings |= {"KOI_UPSTREAM_MODE": "sync", "KOI_DRAIN_TIMEOUT_S": "0.5"}
    provider.set(latency_s=20)
    with cli.forked() as serving:
        key = cli.key()
        lost = threading.Thread(target=_ignoring_failures, args=(serving.url, key))
        lost.start()
        assert eventually(lambda: provider.posts == 1)

        assert serving.stop(within_s=18) == 1
        lost.join()
    assert cli.json("ledger", "check")["difference"] == 0


@pytest.fixture
def two(cli: Cli) -> Iterator[tuple[Cli, Serving, list[int]]]:
    with cli.forked("--workers", "2") as serving:
        ready = serving.wait_for("worker_ready", times=2)
        yield cli, serving, [event["pid"] for event in ready]


def test_a_killed_worker_is_replaced_while_requests_keep_working(
    two: tuple[Cli, Serving, list[int]],
) -> None:
    cli, serving, pids = two
    key = cli.key()

    os.kill(pids[0], signal.SIGKILL)
    answers = [persist(serving.url, key, f"koi {n}") for n in range(4)]
    ready = serving.wait_for("worker_ready", times=3)

    assert [answer.status_code for answer in answers] == [200] * 4, [a.text for a in answers]
    assert len(serving.events("worker_died")) == 1
    assert ready[2]["pid"] not in pids
    assert httpx.get(f"{serving.url}/metrics").status_code == 200
    assert sorted(p.name for p in (cli.path / ".koi/metrics").glob("slot-*")) == [
        "slot-0.lock",
        "slot-1.lock",
    ]
    assert serving.stop() == 0
    assert cli.json("ledger", "check")["difference"] == 0


def test_sigint_of_a_terminal_drains_all_workers_and_ends_with_0(
    two: tuple[Cli, Serving, list[int]],
) -> None:
    _, serving, pids = two

    assert serving.stop(signal.SIGINT) == 0
    assert all(gone(pid) for pid in pids)


def test_a_killed_supervisor_takes_its_workers_and_the_store_along(cli: Cli) -> None:
    with cli.serving("--workers", "2") as serving:
        ready = serving.wait_for("worker_ready", times=2)
        family = children_of(serving.process.pid)
        assert {event["pid"] for event in ready} < set(family)

        serving.process.kill()

        assert eventually(lambda: all(gone(pid) for pid in family)), family
    assert cli.json("users", "list") == []
