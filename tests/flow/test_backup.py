"""Backup, restore and migration as an operator does them, with gateways that run and spend."""

import asyncio
import gzip
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.sandbox.server import Sandbox
from app.settings import build_settings
from bench.growth_journal import record_template, write_journal
from tests.adapters.store_rig import Engine, running
from tests.flow.command import Cli, Serving, generate, served_by
from tests.harness import quick_sandbox
from tests.store_node import programs

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
ADMIN_KEY = "admin-0123456789"
SPENDERS = 6
HISTORY = 3000


@pytest.fixture(scope="module")
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def server() -> Iterator[Engine]:
    """A server of the operator's own, that keeps what it is told."""
    found = programs()
    with running(found.get("redis", next(iter(found.values()))), *DURABLE) as engine:
        yield engine


def deployment(path: Path, provider: Sandbox, **settings: str) -> Cli:
    path.mkdir(exist_ok=True)
    return Cli(path, {**served_by(provider.url), "KOI_ADMIN_KEY": ADMIN_KEY, **settings})


@pytest.fixture
def old(provider: Sandbox, tmp_path: Path) -> Cli:
    provider.reset()
    return deployment(tmp_path / "old", provider)


def with_history(cli: Cli) -> None:
    """Some thousand jobs of the last month."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = build_settings(data_dir=Path(scratch), upstream_api_key="sk")
        template = asyncio.run(record_template(settings))
    write_journal(cli.path / ".koi/journal", template, HISTORY, 30)
    cli.run("ledger", "rebuild")


@dataclass
class Crowd:
    """Callers that generate until they are told to stop; their answers."""

    url: str
    key: str

    def __post_init__(self) -> None:
        self.answers: list[httpx.Response] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._spend, args=[n]) for n in range(SPENDERS)]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        deadline = time.monotonic() + 20
        while len(self.answers) < 2 * SPENDERS:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _spend(self, number: int) -> None:
        made = 0
        while not self._stop.is_set():
            made += 1
            self.answers.append(generate(self.url, self.key, f"koi {number}.{made}"))


def ask(serving: Serving, key: str, prompt: str, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{serving.url}/v1/images/generations",
        headers={"authorization": f"Bearer {key}", **headers},
        json={"model": "grok-imagine", "prompt": prompt},
        timeout=30,
    )


def start_task(serving: Serving, key: str, prompt: str) -> str:
    found = generate(serving.url, key, prompt, **{"async": True})
    return str(found.json()["id"])


def task(serving: Serving, key: str, id: str, wait_s: int = 0) -> dict[str, Any]:
    answer = httpx.get(
        f"{serving.url}/v1/tasks/{id}", params={"wait": wait_s} if wait_s else {},
        headers={"authorization": f"Bearer {key}"}, timeout=30,
    )  # fmt: skip
    return dict(answer.json())


def latest_backup(serving: Serving) -> dict[str, Any]:
    answer = httpx.get(
        f"{serving.url}/v1/koi/backups/latest", headers={"authorization": f"Bearer {ADMIN_KEY}"}
    )
    assert answer.status_code == 200
    return dict(answer.json())


def test_the_drill_a_backup_under_traffic_is_restored_and_everything_goes_on(
    old: Cli, provider: Sandbox, server: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "koi.gz"
    with_history(old)
    with old.forked() as serving:
        key = old.key()
        once = ask(serving, key, "the first", **{"idempotency-key": "order-1"})
        assert latest_backup(serving)["taken_at"] is None
        provider.set(latency_s=6)
        slow = start_task(serving, key, "a slow one")
        while task(serving, key, slow)["status"] != "processing":
            time.sleep(0.02)
        provider.set(latency_s=0.1)
        with Crowd(serving.url, key) as crowd:
            made = old.json("backup", str(file), "--pictures")
        assert {answer.status_code for answer in crowd.answers} == {200}
        known = latest_backup(serving)
        assert (known["bytes"], known["entries"]) == (file.stat().st_size, made["entries"])
        serving.process.kill()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = old.json("backup", str(file), "--check")
    assert (found["entries"], found["open_jobs"] >= 1) == (made["entries"], True)
    assert made["entries"] > HISTORY

    into_embedded = deployment(tmp_path / "embedded", provider)
    into_server = deployment(tmp_path / "server", provider, KOI_REDIS_URL=server.url)
    for new in (into_embedded, into_server):
        assert "nothing was changed" in new.run("restore", str(file), "--dry-run").stderr
        restored = new.json("restore", str(file), "--pictures")
        assert (restored["entries"], restored["difference"]) == (made["entries"], 0)
        assert restored["pictures"] == made["pictures"] > 0
        goes_on(new, key, once, slow)
        assert new.json("backup", str(tmp_path / f"{new.path.name}.gz"))["entries"] > HISTORY
        assert "the latest is of" in new.text("doctor")


def goes_on(new: Cli, key: str, once: httpx.Response, slow: str) -> None:
    """Repeats find their answer, pictures are there, the open job ends, and new ones are made."""
    with new.forked() as serving:
        again = ask(serving, key, "the first", **{"idempotency-key": "order-1"})
        path = once.json()["data"][0]["url"].partition("/v1/")[2].partition("?")[0]
        picture = httpx.get(
            f"{serving.url}/v1/{path}", headers={"authorization": f"Bearer {key}"}, timeout=20
        )
        ended = task(serving, key, slow, wait_s=20)
        fresh = generate(serving.url, key, "something new")
    assert again.json()["created"] == once.json()["created"]
    assert picture.status_code == 200
    assert ended["status"] == "completed", ended
    assert fresh.status_code == 200
    assert new.json("ledger", "check", "--full")["difference"] == 0


def test_a_machine_that_was_lost_but_for_its_journal_is_restored_and_then_rebuilt(
    old: Cli, provider: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "koi.gz"
    with old.forked() as serving:
        key = old.key()
        for prompt in ("one", "two"):
            assert generate(serving.url, key, prompt).status_code == 200
        old.run("backup", str(file))
        assert generate(serving.url, key, "three").status_code == 200
        assert serving.stop() == 0
    (old.path / ".koi/store").rename(tmp_path / "broken-disk")

    restored = old.run("restore", str(file))
    refused = old.run("usage", code=1).stderr
    rebuilt = old.text("ledger", "rebuild")

    assert "koi ledger rebuild" in restored.stderr
    assert "koi ledger rebuild" in refused
    assert "Nothing is missing" in rebuilt
    assert old.json("usage")["total"]["images"] == 3
    assert old.json("ledger", "check", "--full")["difference"] == 0


def test_a_backup_to_standard_output_is_the_file_and_nothing_else(old: Cli, tmp_path: Path) -> None:
    old.key()
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "backup", "-"], cwd=old.path, env=old.environment,
        capture_output=True, check=True,
    )  # fmt: skip
    file = tmp_path / "piped.gz"
    file.write_bytes(done.stdout)

    assert b"Backup of" in done.stderr
    assert old.json("backup", "--check", str(file))["users"] == 1


def test_a_backup_holds_no_secret_and_overwrites_nothing(old: Cli, tmp_path: Path) -> None:
    key, file = old.key(), tmp_path / "koi.gz"
    old.run("backup", str(file))
    first = file.read_bytes()

    refused = old.refused("backup", str(file), code=1)
    assert "exists already" in refused
    assert file.read_bytes() == first
    old.run("backup", str(file), "--force")
    assert file.read_bytes() != first
    lines = gzip.decompress(file.read_bytes()).decode()
    assert key not in lines
    assert ADMIN_KEY not in lines
    assert list(tmp_path.glob(".part-*")) == []


def test_what_cannot_be_written_read_or_restored_is_said_in_one_sentence(
    old: Cli, tmp_path: Path
) -> None:
    nowhere, cut = tmp_path / "no" / "koi.gz", tmp_path / "cut.gz"
    assert "holds no ledger" in old.refused("backup", str(cut), code=1)
    old.key()
    assert "cannot be written" in old.refused("backup", str(nowhere), code=1)
    assert "cannot be read" in old.refused("restore", str(nowhere), code=1)
    old.run("backup", str(cut))
    assert "not empty" in old.refused("restore", str(cut), code=1)
    assert "holds no pictures" in old.refused("restore", str(cut), "--pictures", code=2)
    cut.write_bytes(cut.read_bytes()[:-40])
    assert "ends before its end" in old.refused("backup", "--check", str(cut), code=1)
    assert "ends before its end" in old.refused("restore", str(cut), code=1)
    old.settings["KOI_IMAGE_STORE"] = "s3://bucket"
    assert "bucket" in old.refused("backup", str(nowhere), "--pictures", code=2)


def test_the_ledger_moves_to_a_server_while_a_gateway_is_left_running(
    old: Cli, provider: Sandbox, server: Engine
) -> None:
    url = server.url
    with old.forked() as serving:
        key = old.key()
        assert generate(serving.url, key, "before").status_code == 200
        provider.set(latency_s=60)
        under_way = start_task(serving, key, "under way")
        while task(serving, key, under_way)["status"] != "processing":
            time.sleep(0.02)

        moved = old.json("migrate", "--to", url)
        posts = provider.posts
        refused = generate(serving.url, key, "after")
        told = old.run("keys", "list", code=1).stderr
        [event] = serving.wait_for("ledger_moved")

        assert (moved["moved_to"], moved["entries"], moved["open_jobs"]) == (url, 1, 1)
        assert refused.status_code == 503
        assert url not in refused.text
        assert "moved" in refused.json()["error"]["message"]
        assert url in told
        assert event["to"] == url
        assert provider.posts == posts
        ready = httpx.get(f"{serving.url}/readyz", timeout=5)
        assert (ready.status_code, ready.json()["ledger"]) == (503, "moved")
        assert "rebuilding it here would make two" in old.refused("ledger", "rebuild", code=1)
        assert "moved to" in old.run("doctor", code=1).stdout
        serving.stop(within_s=40)

    provider.set(latency_s=0.1)
    provider.advance(60)
    old.settings["KOI_REDIS_URL"] = url
    with old.forked() as serving:
        done = task(serving, key, under_way, wait_s=20)
        assert done["status"] == "completed", done
        assert generate(serving.url, key, "on the new store").status_code == 200
    assert old.json("ledger", "check", "--full")["difference"] == 0
    assert old.json("usage")["total"]["images"] == 3 == provider.billed_images


def test_a_move_can_be_repeated_and_cancelled_until_something_ran_on_the_new_store(
    old: Cli, server: Engine
) -> None:
    url = server.url
    key = old.key()
    first, second = old.json("migrate", "--to", url), old.json("migrate", "--to", url)
    assert first == second
    assert "open again" in old.text("migrate", "--to", url, "--cancel")
    assert old.json("users", "list")[0]["name"] == "ann"
    with redis.Redis.from_url(url) as client:
        suspect = "koi:1:{ledger}:suspect"
        assert b"moved" in (client.get(suspect) or b"")
        old.run("migrate", "--to", url)
        assert client.get(suspect) is None
        assert "open again" in old.text("migrate", "--to", url, "--cancel")
        client.set(suspect, "moved redis://third.test:6379/0")
        assert "closed itself" in old.refused("migrate", "--to", url, code=1)
        assert old.json("users", "list")[0]["name"] == "ann"
        client.flushall()

    old.run("migrate", "--to", url)
    new = Cli(old.path, {**old.settings, "KOI_REDIS_URL": url})
    new.run("users", "create", "bob")
    refused = old.refused("migrate", "--to", url, "--cancel", code=1)

    assert "has run on" in refused
    assert key
    assert {user["name"] for user in new.json("users", "list")} == {"ann", "bob"}


def test_a_move_is_cancelled_although_the_new_store_would_not_keep_the_ledger(
    old: Cli, server: Engine
) -> None:
    """Nothing is going to be there, so how it keeps data does not matter."""
    old.key()
    old.run("migrate", "--to", server.url)
    with server.client() as client:
        client.config_set("appendonly", "no")

    assert "open again" in old.text("migrate", "--to", server.url, "--cancel")
    assert old.json("users", "list")[0]["name"] == "ann"


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("redis:/koi:SUPERSECRET@host", "--to must be a URL of Redis or Valkey"),
        ("redis://koi:SUPER#SECRET@host", "percent-encode the password"),
        ("redis://koi:SUPERSECRET@host:99999", "--to has a port"),
        ("redis://koi:SUPERSECRET@host?foo=1", "--to has an unknown option"),
        ("redis://koi:SUPERSECRET@127.0.0.1:9", "Check --to, the server and its password"),
    ],
)
@pytest.mark.parametrize("cancel", [(), ("--cancel",)])
def test_a_new_store_that_cannot_be_used_is_told_by_its_option_without_its_password(
    old: Cli, to: str, says: str, cancel: tuple[str, ...]
) -> None:
    told = old.refused("migrate", "--to", to, *cancel, code=2)

    assert says in told
    assert "KOI_REDIS_URL" not in told
    assert "SUPER" not in told
    assert "SECRET" not in told


def test_a_ledger_moves_only_into_an_empty_store_that_keeps_what_it_is_told(
    old: Cli, server: Engine
) -> None:
    old.key()
    with running(next(iter(programs().values()))) as forgetful:
        assert "AOF" in old.refused("migrate", "--to", forgetful.url, code=2)
    assert "--to must be a URL" in old.refused("migrate", "--to", "http://x", code=2)
    elsewhere = Cli(old.path / "..", {**old.settings, "KOI_REDIS_URL": server.url})
    elsewhere.run("users", "create", "bob")
    assert "not empty" in old.refused("migrate", "--to", server.url, code=1)
    assert old.json("users", "list")[0]["name"] == "ann"
