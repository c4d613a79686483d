"""The provider's rate, slots and refusals, as callers meet them."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import redis

from app.adapters.redis import keyspace
from app.sandbox.server import Sandbox
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE, wait_for
from tests.flow.test_metering import sample
from tests.harness import KOI, PRICED, Koi, gateway


def metric(koi: Koi, name: str, **labels: str) -> float:
    return sample(httpx.get(f"{koi.url}/metrics").text, f"koi_{name}", **labels)


def eventually(check: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def generate(client: httpx.Client, prompt: str, **headers: str) -> httpx.Response:
    return client.post(GENERATE, json={**KOI, "prompt": prompt}, headers=headers)


def held(client: httpx.Client) -> int:
    rows: list[dict[str, Any]] = client.get("/v1/usage").json()["limits"]
    return max(row["held"] for row in rows if row["meter"] == "images")


def test_a_provider_with_exactly_our_limits_never_answers_429(start: Start) -> None:
    limits = {"rpm": 150, "burst": 10, "concurrency": 4}
    options = {f"upstream_{name}": value for name, value in limits.items()}
    houses = [start(upstream_poll_interval_s=0.2, **options) for _ in range(2)]
    houses[0].sandbox.set(latency_s=0.4, **limits)

    with (
        houses[0].client(timeout=60) as one,
        houses[1].client(timeout=60) as other,
        ThreadPoolExecutor(14) as pool,
    ):
        answers = list(pool.map(lambda n: generate((one, other)[n % 2], f"koi {n}"), range(14)))

    assert [answer.status_code for answer in answers] == [200] * 14
    for koi in houses:
        count = "upstream_duration_seconds_count"
        assert metric(koi, count, outcome="upstream_rate_limited") == 0
        assert metric(koi, count, operation="poll", outcome="troubled") == 0
        assert metric(koi, "upstream_rate_ratio") == 1


def test_a_job_in_parts_is_brought_home_by_fewer_polls_than_it_has_parts(
    start: Start, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(PRICED.read_text().replace("max_n = 10", "max_n = 1", 1))
    koi = start(catalog=catalog, upstream_rpm=10, upstream_poll_interval_s=0.5)
    koi.sandbox.set(latency_s=0.3, rpm=10)
    with koi.client() as client:
        task = client.post(GENERATE, json={**KOI, "n": 4, "async": True}).json()
        # Two polls in ten seconds are all there is room for.
        done = wait_for(client, task["id"], 60)

    assert len(done["data"]) == koi.sandbox.posts == 4
    assert koi.sandbox.polls == 4
    assert metric(koi, "upstream_rate_ratio") == 1


def test_who_would_wait_in_vain_is_refused_at_once_and_a_repeat_is_not(start: Start) -> None:
    koi = start(upstream_concurrency=1, upstream_queue_s=5, cache_policy="off")
    koi.sandbox.set(latency_s=60)
    with koi.client() as client, ThreadPoolExecutor() as pool:
        first = pool.submit(generate, client, "first", **{"idempotency-key": "one"})
        eventually(lambda: koi.sandbox.posts == 1)
        eventually(lambda: metric(koi, "upstream_busy_places") == 1)

        refused = generate(client, "second")
        reserved = held(client)
        repeat = pool.submit(generate, client, "first", **{"idempotency-key": "one"})
        eventually(lambda: koi.in_flight() == 2)
        koi.sandbox.advance(60)
        again = repeat.result()

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "10"
    assert refused.headers["x-should-retry"] == "true"
    assert reserved == 1
    assert first.result().status_code == again.status_code == 200
    assert koi.sandbox.posts == 1


def test_after_a_429_the_next_caller_waits_instead_of_being_told(start: Start) -> None:
    koi = start(upstream_poll_interval_s=0.5)
    koi.sandbox.script("429=2")
    with koi.client() as client:
        began = time.monotonic()
        told = generate(client, "one")
        waited = generate(client, "two")

        assert (told.status_code, told.json()["error"]["code"]) == (429, "upstream_rate_limited")
        assert waited.status_code == 200
        assert time.monotonic() - began > 1.9
        eventually(lambda: 0 < metric(koi, "upstream_rate_ratio") < 1)


def test_a_poll_answered_with_429_slows_everybody_down_and_loses_nothing(start: Start) -> None:
    koi = start()
    koi.sandbox.script("poll-429=1")
    with koi.client() as client:
        task = client.post(GENERATE, json={**KOI, "async": True}).json()

        eventually(lambda: 0 < metric(koi, "upstream_rate_ratio") < 1)
        assert wait_for(client, task["id"], 30)["status"] == "completed"


def test_an_account_that_is_refused_thrice_is_not_asked_again(start: Start) -> None:
    koi = start(cache_policy="off")
    with koi.client() as client:
        kept = generate(client, "kept", **{"idempotency-key": "kept"})
        koi.sandbox.script("402", "402", "402")
        told = [generate(client, f"koi {n}") for n in range(3)]
        refused = generate(client, "one more")
        again = generate(client, "kept", **{"idempotency-key": "kept"})
        eventually(lambda: metric(koi, "upstream_breaker_open", code="upstream_billing") == 1)
        nothing = held(client)

    for answer in (*told, refused):
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_billing")
        assert answer.headers["x-should-retry"] == "false"
    assert "x-koi-task-id" not in refused.headers
    assert nothing == 0
    assert koi.sandbox.posts == 4
    assert again.json()["data"][0]["url"].partition("?")[0] in kept.text


def test_callers_whose_tasks_run_at_the_provider_count_as_carried(start: Start) -> None:
    koi = start(max_in_flight=4, task_deadline_s=120)
    koi.sandbox.set(latency_s=60)
    with koi.client(limits=httpx.Limits(max_connections=20)) as client, ThreadPoolExecutor() as p:
        calls = [p.submit(generate, client, f"koi {n}") for n in range(4)]
        eventually(lambda: koi.sandbox.posts == 4 and koi.sandbox.polls > 4)

        refused = generate(client, "one more")
        alive = client.get("/livez")
        task = client.get("/v1/tasks?limit=1")
        koi.sandbox.set(latency_s=None)
        koi.sandbox.advance(60)

        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"]
        assert refused.headers["x-should-retry"] == "true"
        assert alive.status_code == task.status_code == 200
        assert [call.result().status_code for call in calls] == [200] * 4
        assert generate(client, "afterwards").status_code == 200


def key_of(noun: str) -> str:
    return next(key.name for key in keyspace.KEYS if key.noun == noun)


def test_a_slot_whose_job_is_over_comes_free_within_seconds(start: Start, store_url: str) -> None:
    koi = start(upstream_concurrency=1, task_deadline_s=900, cache_policy="off")
    with koi.client(timeout=60) as client, redis.Redis.from_url(store_url) as store:
        first = generate(client, "one").headers["x-koi-task-id"]
        # Its gateway was killed between settlement and release; another one in the queue.
        lapses = time.time() * 1000 + 890_000
        store.zadd(key_of("busy"), {f"{first}:0": lapses})
        store.zadd(key_of("queue"), {f"1 {first}": 0})
        store.zadd(key_of("waiting"), {f"1 {first}": lapses})
        began = time.monotonic()

        answer = generate(client, "two")

    assert answer.status_code == 200
    assert time.monotonic() - began < 30


def test_the_slot_of_a_job_that_runs_stays_taken_however_long(start: Start, store_url: str) -> None:
    koi = start(upstream_concurrency=1, cache_policy="off", upstream_queue_s=1, task_deadline_s=120)
    koi.sandbox.set(latency_s=60)
    with koi.client(timeout=60) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(generate, client, "first")
        eventually(lambda: koi.sandbox.posts == 1)
        time.sleep(5)  # longer than the reconciliation leaves a slot alone
        refused = generate(client, "second")
        koi.sandbox.advance(60)

        assert refused.status_code == 503
        assert first.result().status_code == 200
    assert koi.sandbox.posts == 1


def test_a_refusal_says_how_long_slots_are_really_held(start: Start, store_url: str) -> None:
    limits = {"upstream_concurrency": 1, "upstream_queue_s": 1, "task_deadline_s": 120}
    koi = start(cache_policy="off", **limits)
    koi.sandbox.set(latency_s=60)
    with koi.client(timeout=60) as client, ThreadPoolExecutor() as pool:
        with redis.Redis.from_url(store_url) as store:
            store.hset(key_of("health"), "held", 100)  # as after many quick pictures
        first = pool.submit(generate, client, "first")
        eventually(lambda: koi.sandbox.posts == 1)
        time.sleep(3.5)

        refused = generate(client, "second")
        koi.sandbox.advance(60)

        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 2
        assert first.result().status_code == 200


def test_a_cancelled_job_leaves_the_queue_at_once(start: Start) -> None:
    limits = {"upstream_concurrency": 1, "upstream_queue_s": 30, "task_deadline_s": 120}
    koi, other = (start(cache_policy="off", **limits) for _ in range(2))
    koi.sandbox.set(latency_s=60)
    with (
        koi.client(timeout=60) as client,
        other.client(timeout=60) as elsewhere,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(generate, client, "first")
        eventually(lambda: koi.sandbox.posts == 1)
        for n in range(10):
            # Each waits in one process and is cancelled at the other.
            body = {**KOI, "prompt": f"cancelled {n}", "async": True}
            task = client.post(GENERATE, json=body).json()
            assert elsewhere.delete(f"/v1/tasks/{task['id']}").status_code == 200
        eventually(lambda: metric(koi, "upstream_queue_jobs") == 0, 5)
        koi.sandbox.set(latency_s=None)
        koi.sandbox.advance(60)
        second = generate(client, "second")

    assert first.result().status_code == second.status_code == 200
    assert koi.sandbox.posts == 2


def test_a_cancelled_job_gives_its_coming_start_back_and_waits_for_it_no_more(
    sandbox: Sandbox, store_url: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"upstream_rpm": 4, "upstream_mode": "sync", "cache_policy": "off"}
    with gateway(sandbox, store_url, tmp_path, upstream_queue_s=70, **options) as koi:
        with koi.client(timeout=90) as client:
            for n in range(3):
                assert generate(client, f"koi {n}").status_code == 200
            # The minute is full: each of these would start in a minute and make the next too late.
            for n in range(8):
                task = client.post(GENERATE, json={**KOI, "prompt": f"x {n}", "async": True}).json()
                assert task["object"] != "error", task
                assert client.delete(f"/v1/tasks/{task['id']}").status_code == 200
        koi.assert_ledger_matches_bill()
        began = time.monotonic()

    assert time.monotonic() - began < 20
    assert koi.sandbox.posts == 3
