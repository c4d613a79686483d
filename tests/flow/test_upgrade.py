"""A data directory of the version before this one opens, goes on, and its ledger balances.

It was written by `tests/golden/make_data_directory.py` with that version's own code, and kept with
what that version showed of it and made of it.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.embedded.engine import choose_engine, installed_servers, read_stamp
from app.adapters.embedded.errors import EmbeddedStoreError
from tests.flow.command import Cli, generate
from tests.golden.data_directory import CATALOG, SHOWN, DataDirectory, unpack
from tests.golden.provider import Provider, serving

LATELY_S = 600.0
"""The open jobs' leases are over, everything else is still kept."""
HALF_A_YEAR_S = 183 * 86_400.0
"""Tasks, pictures, day windows and links are over; entries and months are not."""
LATER_LIMITS = ("images_per_minute", "requests_per_day")
TIMES = ("created_at", "dispatched_at", "ended_at")


@dataclass(frozen=True)
class Upgraded:
    """The directory, the gateway's settings on it, and a provider that went on meanwhile."""

    directory: DataDirectory
    cli: Cli
    provider: Provider

    @property
    def before(self) -> Any:
        """What the version before showed."""
        return self.directory.shown["shown"]

    @property
    def after(self) -> Any:
        """What it showed once it had ended the open jobs."""
        return self.directory.shown["after"]

    def key(self, name: str) -> str:
        return str(self.directory.shown["keys"][name])

    def tasks(self) -> list[dict[str, Any]]:
        return [as_then(task) for task in self.cli.json("tasks", "list", "--limit", "100")]

    def holders(self, noun: str) -> list[dict[str, Any]]:
        """Users, teams or keys, without the limits that version did not have."""
        found = self.cli.json(noun, "list")
        for holder in found:
            for limit in LATER_LIMITS:
                assert holder["limits"].pop(limit) is None
        return found

    def usage(self) -> Any:
        question = ("--by", "user,model,size", "--since", "2020-01-01")
        return sums(self.cli.json("usage", *question))

    def end_open_jobs(self) -> None:
        deadline = time.monotonic() + 120
        while any(is_open(task) for task in self.tasks()):
            assert time.monotonic() < deadline, self.tasks()
            time.sleep(0.2)


def as_then(task: dict[str, Any]) -> dict[str, Any]:
    """Without what that version did not show, or showed otherwise: whether each part of a task that
    is over had ended."""
    parts = [dict(part) for part in task["upstream"]]
    if task["state"] in ("settled", "released"):
        parts = [part | {"ended": True} for part in parts]
    later = ("held", "summary", "provider")
    return {name: value for name, value in task.items() if name not in later} | {"upstream": parts}


def sums(usage: Any) -> Any:
    return {name: usage[name] for name in ("by", "rows", "total")}


def is_open(task: dict[str, Any]) -> bool:
    return task["state"] not in ("settled", "released") or task["status"] == "collecting"


def outcome(task: dict[str, Any]) -> dict[str, Any]:
    """Without when it ended, and which pictures it took."""
    timeless = {name: value for name, value in as_then(task).items() if name not in TIMES}
    return timeless | {"pictures": len(task["pictures"])}


def outcomes(tasks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {task["id"]: outcome(task) for task in tasks}


def opened(path: Path, provider: Provider, age_s: float) -> Upgraded:
    data_dir = path / "data"
    directory = unpack(data_dir, age_s=age_s, provider_port=provider.port)
    try:
        choose_engine(installed_servers, read_stamp(data_dir / "store" / "engine.json"))
    except EmbeddedStoreError as error:
        pytest.skip(str(error))
    settings = {
        "KOI_DATA_DIR": str(data_dir),
        "KOI_CATALOG": str(CATALOG),
        "KOI_UPSTREAM_BASE_URL": f"http://127.0.0.1:{provider.port}/v1",
        "KOI_UPSTREAM_API_KEY": "sk-sandbox",
        "KOI_UPSTREAM_POLL_INTERVAL_S": "0.05",
        "KOI_RESOLVE_AFTER_S": "0.3",
        "KOI_CACHE_VARIANTS": "1",
        "KOI_REDIS_TIMEOUT_MS": "5000",
    }
    return Upgraded(directory, Cli(path, settings), provider)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with serving(json.loads(SHOWN.read_text())["provider_tasks"]) as provider:
        yield provider


def test_it_shows_users_keys_tasks_and_sums_as_before(tmp_path: Path, provider: Provider) -> None:
    koi = opened(tmp_path, provider, LATELY_S)

    assert koi.holders("users") == koi.before["users"]
    assert koi.holders("teams") == koi.before["teams"]
    assert koi.holders("keys") == koi.before["keys"]
    assert koi.tasks() == list(map(as_then, koi.before["tasks"]))
    assert koi.usage() == sums(koi.before["usage"])
    assert koi.cli.json("ledger", "check") == koi.before["check"]


def test_its_open_jobs_end_as_before_and_its_journal_tells_the_same(
    tmp_path: Path, provider: Provider
) -> None:
    koi = opened(tmp_path, provider, LATELY_S)
    with koi.cli.forked() as serving:
        koi.end_open_jobs()
        assert serving.stop() == 0

    assert outcomes(koi.tasks()) == outcomes(koi.after["tasks"])
    assert koi.usage() == sums(koi.after["usage"])
    assert koi.cli.json("ledger", "check") == koi.after["check"]
    assert not list((koi.directory.path / "journal" / "owed").glob("*.json"))
    assert provider.posts == 0

    shutil.rmtree(koi.directory.path / "store")
    rebuilt = koi.cli.json("ledger", "rebuild")
    assert (rebuilt["unreadable_lines"], rebuilt["forgotten"], rebuilt["difference"]) == (0, 0, 0)
    assert koi.usage() == sums(koi.after["usage"])
    assert koi.holders("users") == koi.before["users"]
    assert outcomes(koi.tasks()) == outcomes(koi.after["tasks"])


def test_its_answers_are_repeated_its_pictures_served_and_its_stops_kept(
    tmp_path: Path, provider: Provider
) -> None:
    koi = opened(tmp_path, provider, LATELY_S)
    order = koi.directory.shown["order"]
    with koi.cli.forked() as serving:
        bob = koi.key("bob")
        again = httpx.post(
            f"{serving.url}/v1/images/generations",
            headers={"authorization": f"Bearer {bob}", "idempotency-key": "order-1"},
            json={"model": "grok-imagine", "prompt": "order"},
            timeout=30,
        ).json()
        cached = generate(serving.url, bob, "cached")
        stopped = generate(serving.url, koi.key("cid"), "stopped")
        revoked = generate(serving.url, koi.key("lost"), "revoked")
        made = generate(serving.url, bob, "a new one")
        urls = [answer["data"][0]["url"] for answer in (again, cached.json(), made.json())]
        pictures = [httpx.get(url).status_code for url in urls]

    assert name_of(again) == name_of(order)
    assert again["created"] == order["created"]
    assert "hit" in cached.headers["cache-status"]
    assert (stopped.status_code, revoked.status_code) == (403, 401)
    assert pictures == [200, 200, 200]
    assert provider.posts == 1


def name_of(answer: Any) -> str:
    return str(answer["data"][0]["url"]).partition("?")[0].rpartition("/")[2]


def test_half_a_year_later_its_open_jobs_end_and_its_sums_are_as_before(
    tmp_path: Path, provider: Provider
) -> None:
    koi = opened(tmp_path, provider, HALF_A_YEAR_S)
    assert koi.usage() == sums(koi.before["usage"])
    assert koi.cli.json("ledger", "check")["difference"] == 0
    with koi.cli.forked() as serving:
        koi.end_open_jobs()
        assert serving.stop() == 0

    check = koi.cli.json("ledger", "check")
    assert (check["open_jobs"], check["difference"]) == (0, 0)
    assert koi.usage() == sums(koi.after["usage"])
    assert koi.holders("users") == koi.before["users"]
