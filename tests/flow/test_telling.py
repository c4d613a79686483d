"""What happened to a call: the log tells it by its ids, step by step, and tells nobody else."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from app.service.keys import new_secret
from tests.flow.command import Cli, Serving, generate, served_by
from tests.harness import quick_sandbox

PROMPT = "a heron nobody may read about"
STEPS = {"dispatching", "upstream", "upstream_answered", "settled"}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Cli, Sandbox]]:
    with quick_sandbox() as sandbox:
        settings = {
            **served_by(sandbox.url),
            "KOI_LOG_LEVEL": "debug",
        }
        yield Cli(tmp_path, settings), sandbox


def lines_of(serving: Serving) -> list[dict[str, Any]]:
    return [json.loads(line) for line in serving.log.read_text().splitlines() if line[:1] == "{"]


def eventually(what: Callable[[], Any], within_s: float = 20) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
    return found


def task(serving: Serving, key: str, task_id: str) -> dict[str, Any]:
    url = f"{serving.url}/v1/tasks/{task_id}"
    headers = {"authorization": f"Bearer {key}"}
    return dict(httpx.get(url, headers=headers, timeout=20).json())


def test_every_line_about_a_job_names_its_task_and_the_request_that_asked_for_it(
    served: tuple[Cli, Sandbox],
) -> None:
    koi, sandbox = served
    key = koi.key()
    sandbox.set(cdn_status=503)
    with koi.forked() as serving:
        answer = generate(serving.url, key, PROMPT, **{"async": True})
        ids = answer.json()["id"], answer.headers["x-request-id"]
        eventually(lambda: task(serving, key, ids[0])["status"] == "collecting")
        failed = serving.wait_for("download_failed", 2)
        sandbox.set(cdn_status=None)
        eventually(lambda: task(serving, key, ids[0])["status"] == "completed")
        serving.wait_for("collected")
        told = lines_of(serving)
        log = serving.log.read_text()

    about = [line for line in told if line["event"] in {*STEPS, "collected", "download_failed"}]
    assert {(line["task_id"], line["request_id"]) for line in about} == {ids}
    assert {line["event"] for line in about} >= STEPS | {"collected"}
    assert {line["operation"] for line in about if line["event"] == "upstream"} >= {
        *("submit", "poll", "fetch")
    }
    assert (failed[0]["host"], failed[0]["status"]) == ("127.0.0.1", 503)
    for secret in (PROMPT, key, "sk-sandbox", "/cdn/", "sig="):
        assert secret not in log, secret


def test_a_process_that_goes_on_with_a_job_tells_the_request_of_the_one_that_died(
    served: tuple[Cli, Sandbox],
) -> None:
    koi, sandbox = served
    key = koi.key()
    sandbox.set(latency_s=2.5)
    with koi.forked() as serving:
        answer = generate(serving.url, key, PROMPT, **{"async": True})
        serving.wait_for("upstream_answered", 2)  # its id and a first poll: it is written down
        serving.stop(signal.SIGKILL)
    with koi.forked() as serving:
        eventually(lambda: task(serving, key, answer.json()["id"])["status"] == "completed", 40)
        [settled] = serving.wait_for("settled")
        # Killed with its store, it would leave a dying one to the command below.
        assert serving.stop() == 0

    assert settled["task_id"] == answer.json()["id"]
    assert settled["request_id"] == answer.headers["x-request-id"]
    shown = koi.json("tasks", "show", answer.json()["id"])
    assert shown["request_id"] == answer.headers["x-request-id"]


def test_the_info_level_tells_calls_and_no_steps(served: tuple[Cli, Sandbox]) -> None:
    koi, _ = served
    koi.settings["KOI_LOG_LEVEL"] = "info"
    key = koi.key()
    with koi.forked() as serving:
        assert generate(serving.url, key, PROMPT).status_code == 200
        [call] = serving.wait_for("request")
        events = {line["event"] for line in lines_of(serving)}

    assert call["task_id"].startswith("task_")
    assert not events & STEPS


def refused_keys(koi: Cli) -> dict[str, tuple[str, str | None]]:
    """A secret for every way to be refused, and the id of its key."""

    def made(*also: str, user: str) -> tuple[str, str]:
        issued = koi.json("keys", "create", "--user", user, "--new", *also)
        return issued["key"], issued["key_id"]

    kinds: dict[str, tuple[str, str | None]] = {
        "unknown": (new_secret(), None),
        "malformed": ("k" * 300, None),
        "revoked": made(user="ann"),
        "expired": made("--expires", "1s", user="ann"),
        "user_disabled": made(user="bob"),
        "team_disabled": made(user="cat"),
    }
    ends = time.monotonic() + timedelta(seconds=1.1).total_seconds()
    koi.run("keys", "revoke", str(kinds["revoked"][1]))
    koi.run("users", "disable", "bob")
    koi.run("teams", "create", "blue")
    koi.run("users", "set", "cat", "--team", "blue")
    koi.run("teams", "disable", "blue")
    time.sleep(max(ends - time.monotonic(), 0))
    return kinds


def test_a_refused_key_learns_nothing_and_the_log_tells_why_and_which_key(
    served: tuple[Cli, Sandbox],
) -> None:
    koi, _ = served
    kinds = refused_keys(koi)
    answers = {}
    with koi.forked() as serving:
        for why, (secret, _) in kinds.items():
            for _ in range(2):
                headers = {"authorization": f"Bearer {secret}"}
                answers[why] = httpx.get(f"{serving.url}/v1/models", headers=headers, timeout=20)
        told = serving.wait_for("request", 2 * len(kinds))
        log = serving.log.read_text()

    assert {answer.status_code for answer in answers.values()} == {401}
    assert len({answer.content for answer in answers.values()}) == 1
    apart = {"x-request-id", "date"}
    assert (
        len({tuple(h for h in a.headers.items() if h[0] not in apart) for a in answers.values()})
        == 1
    )
    assert {(line["reason"], line["key_id"]) for line in told} == {
        (why, key_id) for why, (_, key_id) in kinds.items()
    }
    assert not any(secret in log for secret, _ in kinds.values())


def test_usage_and_tasks_are_found_by_whose_and_when_also_past_the_record(
    served: tuple[Cli, Sandbox],
) -> None:
    koi, sandbox = served
    koi.run("teams", "create", "blue")
    koi.run("users", "create", "cat", "--team", "blue")
    ann = koi.json("keys", "create", "--user", "ann", "--new")
    cat = koi.json("keys", "create", "--user", "cat")
    with koi.forked() as serving:
        made = [generate(serving.url, ann["key"], f"koi {n}") for n in range(2)]
        cats = generate(serving.url, cat["key"], "koi", n=2)
        sandbox.script("400")
        refused = generate(serving.url, ann["key"], "refused")
        ids = [answer.headers["x-koi-task-id"] for answer in (*made, cats, refused)]

        assert koi.json("usage", "--user", "ann", "--since", "today")["total"]["images"] == 2
        assert koi.json("usage", "--team", "blue", "--since", "yesterday")["total"]["images"] == 2
        keys = f"{ann['key_id']},{cat['key_id']}"
        assert koi.json("usage", "--key", keys, "--since", "7d")["total"]["images"] == 4
        assert koi.json("usage", "--until", "yesterday", "--since", "9d")["total"]["images"] == 0
        for words in (("usage",), ("tasks", "list")):
            assert "no user 'anne'" in koi.refused(*words, "--user", "anne", code=1)

        for _ in range(2):
            found = koi.json("tasks", "list", "--since", "yesterday")
            assert [one["id"] for one in found] == ids[::-1]
            assert [one["status"] for one in found] == ["failed", *["completed"] * 3]
            assert [one["billed"] for one in found] == [0, 2, 1, 1]
            failed = koi.json("tasks", "list", "--status", "failed", "--user", "ann")
            assert [(one["id"], one["error"]["code"]) for one in failed] == [
                (ids[3], "upstream_rejected")
            ]
            assert [one["id"] for one in koi.json("tasks", "list", "--team", "blue")] == [ids[2]]
            assert [one["id"] for one in koi.json("tasks", "list", "--limit", "2")] == ids[:1:-1]
            assert koi.json("tasks", "list", "--status", "queued") == []
            assert ids[0] in koi.text("tasks", "list")
            forget_records(koi, ids)


def forget_records(koi: Cli, ids: list[str]) -> None:
    """As if their time were over."""
    with EmbeddedStore(koi.path / ".koi") as store, redis.Redis.from_url(store.url) as client:
        for key in client.scan_iter(count=1000):
            if any(key.endswith(f"job:{id}".encode()) for id in ids):
                client.delete(key)


def test_a_call_without_a_task_id_was_sent_all_the_same(served: tuple[Cli, Sandbox]) -> None:
    koi, sandbox = served
    koi.settings["KOI_UPSTREAM_TIMEOUT_S"] = "2"
    sandbox.script("hang")
    key = koi.key()
    with koi.forked() as serving:
        lost = generate(serving.url, key, "one")
        shown = koi.text("tasks", "show", lost.headers["x-koi-task-id"])

    assert lost.status_code == 504, lost.text
    assert "sent, no task id came back" in shown
    assert "not sent" not in shown


def test_a_task_can_be_read_for_as_long_as_its_pictures_are_kept(
    served: tuple[Cli, Sandbox],
) -> None:
    koi, sandbox = served
    koi.settings |= {"KOI_TASK_TTL_S": "3600", "KOI_IMAGE_TTL_DAYS": "10"}
    key = koi.key()
    with koi.forked() as serving:
        made = generate(serving.url, key, "one").headers["x-koi-task-id"]
        sandbox.script("400")
        failed = generate(serving.url, key, "two").headers["x-koi-task-id"]
        with EmbeddedStore(koi.path / ".koi") as store, redis.Redis.from_url(store.url) as client:
            left_s = {
                name: client.ttl(next(iter(client.scan_iter(f"*job:{id}"))))
                for name, id in (("made", made), ("failed", failed))
            }
            lists = client.ttl(next(iter(client.scan_iter("*jobs:ann"))))

    ten_days = 10 * 86_400
    assert ten_days - 60 < left_s["made"] <= ten_days
    assert 3600 - 60 < left_s["failed"] <= 3600
    # Extended ahead of time, so that not every job has to do it.
    assert ten_days - 60 < lists <= ten_days + 60


def test_a_caller_sees_its_own_limits_and_the_one_that_binds_and_not_those_of_the_house(
    served: tuple[Cli, Sandbox],
) -> None:
    koi, _ = served
    koi.settings["KOI_HOUSE_IMAGES_PER_DAY"] = "3"
    koi.run("users", "create", "ann", "--images-per-day", "100", "--requests-per-minute", "50")
    keys = {name: koi.key(name) for name in ("ann", "bob")}
    with koi.forked() as serving:
        assert generate(serving.url, keys["bob"], "koi", n=2).status_code == 200
        seen = {}
        for name, key in keys.items():
            headers = {"authorization": f"Bearer {key}"}
            seen[name] = httpx.get(f"{serving.url}/v1/usage", headers=headers, timeout=20).json()

    rows = {(row["scope"], row["meter"], row["window"]): row for row in seen["ann"]["limits"]}
    assert rows.keys() == {
        ("user", "requests", "minute"),
        ("user", "images", "day"),
        ("user", "images", "month"),
    }
    assert (rows["user", "images", "day"]["remaining"]) == 100
    assert seen["ann"]["binding"]["scope"] == "house"
    assert "used" not in seen["ann"]["binding"]
    images = [r for r in seen["bob"]["limits"] if r["meter"] == "images"]
    assert {r["used"] for r in images} == {2}
