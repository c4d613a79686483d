"""A limit that is used up refuses cheaply, and takes nothing away that is free."""

import time
from typing import Any

import httpx
import pytest

from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.flow.test_metering import sample
from tests.flow.test_quota import user
from tests.harness import KOI, Koi
from tests.store_node import until

NAME = "koi_store_command_duration_seconds_count"


def post(client: httpx.Client, prompt: str, headers: Any = None, **fields: Any) -> httpx.Response:
    body = {**KOI, "prompt": prompt, **fields}
    return client.post(GENERATE, json=body, headers=headers)


def admissions(koi: Koi) -> float:
    """How often the ledger's scripts were asked for one."""
    metrics = httpx.get(f"{koi.url}/metrics").text
    scripts = ("check_rate_limit", "admit")
    return sum(sample(metrics, NAME, script=script, outcome="ok") for script in scripts)


def refuse_cheaply(koi: Koi, client: httpx.Client) -> httpx.Response:
    """A refusal that the ledger's script was not asked for: where a second passes in between, it
    is asked for the next one."""
    for number in range(100):
        before = admissions(koi)
        refused = post(client, f"beyond {number}")
        assert refused.status_code == 429
        if admissions(koi) == before:
            return refused
    raise AssertionError("the ledger was asked for every refusal")


@pytest.mark.parametrize("policy", ["off", "private"])
@pytest.mark.parametrize("limits", [{"images_per_day": 1}, {"micros_per_month": 200_000}])
def test_a_used_up_quota_refuses_again_in_the_same_words(
    start: Start, policy: str, limits: dict[str, int]
) -> None:
    koi = start(cache_policy=policy)
    with koi.client(user(koi, "ann", **limits)) as client:
        assert post(client, "bought").status_code == 200
        first = post(client, "beyond")
        again = refuse_cheaply(koi, client)

    assert again.json() == first.json()
    assert again.json()["error"]["code"] == "insufficient_quota"
    assert again.headers["x-should-retry"] == "false"
    told = {name: value for name, value in first.headers.items() if "ratelimit-limit" in name}
    assert told.items() <= dict(again.headers).items()
    assert koi.sandbox.posts == 1


@pytest.mark.parametrize("policy", ["off", "private"])
def test_so_do_the_requests_of_a_day(start: Start, policy: str) -> None:
    koi = start(cache_policy=policy)
    named = {"idempotency-key": "mine"}
    with koi.client(user(koi, "ann", requests_per_day=1)) as client:
        assert post(client, "bought", named).status_code == 200
        first = post(client, "beyond")
        again = refuse_cheaply(koi, client)
        by_name = post(client, "bought", named)

    assert again.json() == first.json()
    assert again.json()["error"]["code"] == "rate_limit_exceeded"
    assert again.headers["x-should-retry"] == "false"
    assert by_name.status_code == 200
    assert koi.sandbox.posts == 1


def test_what_was_bought_is_answered_beyond_the_quota(start: Start) -> None:
    koi = start(cache_policy="off")
    key = user(koi, "ann", images_per_day=2)
    named = {"idempotency-key": "mine"}
    with koi.client(key) as client:
        bought = post(client, "first", named)
        koi.hang_up(key, prompt="second")
        until(lambda: koi.in_flight() == 0, "it is known to have left")
        koi.settled()
        refuse_cheaply(koi, client)
        by_name, by_repeat = post(client, "first", named), post(client, "second")

    assert [bought.status_code, by_name.status_code, by_repeat.status_code] == [200] * 3
    assert by_name.json()["data"] == bought.json()["data"]
    assert koi.sandbox.posts == 2


def test_the_cache_is_there_beyond_the_quota(start: Start) -> None:
    koi = start(cache_variants=1)
    with koi.client(user(koi, "ann", images_per_day=1)) as client:
        bought = post(client, "bought")
        refuse_cheaply(koi, client)
        hit = post(client, "bought")
        absent = post(client, "absent", {"cache-control": "only-if-cached"})

    assert hit.headers["x-koi-cache"] == "hit"
    assert hit.json()["data"] == bought.json()["data"]
    assert absent.status_code == 504
    assert koi.sandbox.posts == 1


def test_a_request_for_less_is_asked_for(koi: Koi) -> None:
    with koi.client(user(koi, "ann", images_per_day=3)) as client:
        assert post(client, "two", n=2).status_code == 200
        assert post(client, "more", n=2).status_code == 429
        assert post(client, "the last one").status_code == 200


def test_what_still_runs_may_be_given_back_at_once(start: Start) -> None:
    koi = start(cache_policy="off")
    koi.sandbox.set(latency_s=60)
    koi.sandbox.script("task-failed")
    with koi.client(user(koi, "ann", images_per_day=1)) as client:
        task = post(client, "fails", **{"async": True}).json()["id"]
        before = admissions(koi)
        assert post(client, "too early").status_code == 429
        assert post(client, "too early, too").status_code == 429
        assert admissions(koi) == before + 2
        until(lambda: koi.sandbox.posts == 1, "it is at the provider")
        koi.sandbox.set(latency_s=0.1)
        koi.sandbox.advance(60)
        deadline = time.monotonic() + 20
        while client.get(f"/v1/tasks/{task}").json()["status"] != "failed":
            assert time.monotonic() < deadline
        assert post(client, "now").status_code == 200


def test_another_key_of_the_user_is_asked_for_on_its_own(koi: Koi) -> None:
    from app.domain.limits import Limits

    narrow = koi.key("ann", limits=Limits(images_per_day=1))
    with koi.client(narrow) as client:
        assert post(client, "bought").status_code == 200
        refuse_cheaply(koi, client)
    with koi.client(koi.key("ann")) as client:
        assert post(client, "by the other key").status_code == 200
