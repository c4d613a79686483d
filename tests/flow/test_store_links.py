"""Stores that are slow, crowded, left or not needed, seen through the front door."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx
import pytest

from tests.faultproxy import FaultProxy
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI
from tests.linkfaults import PASS, Fault, delay, freeze, lose_replies, refuse
from tests.store_node import until


@pytest.fixture
def link(engine: str) -> Iterator[FaultProxy]:
    with FaultProxy(engine) as proxy:
        yield proxy


@pytest.fixture
def store_url(store_url: str, link: FaultProxy, request: pytest.FixtureRequest) -> str:
    """The store by way of the link, unless only the cache goes that way."""
    return store_url if "cache_of_its_own" in request.function.__name__ else link.url


def post(client: httpx.Client, prompt: str) -> httpx.Response:
    return client.post(GENERATE, json={**KOI, "prompt": prompt})


def test_a_slow_store_makes_slow_answers_and_nothing_else(start: Start, link: FaultProxy) -> None:
    """200 ms more for each round trip, and not more of them than `app/README.md` says."""
    koi = start(upstream_mode="sync", cache_policy="off")
    with koi.client() as client:
        assert post(client, "fast").status_code == 200
        link.set(delay(0.1))
        began = time.monotonic()
        answer = post(client, "slow")
        took_s = time.monotonic() - began
        link.heal()

    assert answer.status_code == 200
    assert took_s > 3 * 0.2
    assert koi.sandbox.posts == 2


@pytest.mark.parametrize("fault", [refuse, freeze])
def test_a_cache_of_its_own_that_is_down_is_passed_by(
    start: Start, link: FaultProxy, fault: object
) -> None:
    koi = start(cache_redis_url=link.url, cache_variants=1)
    with koi.client() as client:
        assert cached(client, "one") or cached(client, "once more"), "it is asked"
        link.set(fault())  # type: ignore[operator]
        passed = [post(client, "one") for _ in range(3)]
        ready = httpx.get(f"{koi.url}/readyz")
        link.heal()

        assert [answer.status_code for answer in passed] == [200] * 3
        assert {answer.headers["x-koi-cache"] for answer in passed} == {"bypass"}
        assert ready.status_code == 200
        until(lambda: post(client, "one").headers["x-koi-cache"] == "hit", "it is asked again")


def cached(client: httpx.Client, prompt: str) -> bool:
    """Whether it was new to the cache, and known after: a busy machine may be late for it."""
    return [post(client, prompt).headers["x-koi-cache"] for _ in range(2)] == ["miss", "hit"]


def test_a_burst_waits_for_the_connections_of_a_small_pool(start: Start, link: FaultProxy) -> None:
    """Answers must not become errors after they were paid for: 704 of 2,000 once did."""
    koi = start(redis_connections=2, cache_policy="off")
    link.set(delay(0.01))
    with (
        koi.client(limits=httpx.Limits(max_connections=None)) as client,
        ThreadPoolExecutor(30) as crowd,
    ):
        answers = list(crowd.map(lambda n: post(client, f"burst {n}"), range(30)))

    assert [answer.status_code for answer in answers] == [200] * 30
    assert koi.sandbox.posts == 30


def test_a_caller_that_hangs_up_leaves_its_reply_to_nobody(start: Start, link: FaultProxy) -> None:
    """S29, CVE-2023-28858: others once got what a cancelled caller had asked for."""
    koi = start()
    clients: dict[str, httpx.Client] = {}
    with ExitStack() as stack:
        for name in ("ann", "bob", "cid", "dan"):
            client = stack.enter_context(koi.client(koi.key(name)))
            clients[post(client, name).headers["x-koi-task-id"]] = client
        link.set(delay(0.01, jitter_s=0.02))
        crowd = stack.enter_context(ThreadPoolExecutor(16))
        rounds = [(task_id, n) for n in range(40) for task_id in clients]
        seen = list(crowd.map(lambda each: look(clients[each[0]], *each), rounds))
        link.heal()

    assert all(found in (None, task_id) for found, (task_id, _) in zip(seen, rounds, strict=True))
    assert seen.count(None) < len(seen)


def look(client: httpx.Client, task_id: str, n: int) -> str | None:
    """The id of the task that was shown; every other caller hangs up before it can be."""
    with suppress(httpx.TimeoutException):
        answer = client.get(f"/v1/tasks/{task_id}", timeout=0.01 if n % 2 else 20)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])
    return None


@pytest.mark.chaos
def test_readiness_forgives_a_blip_and_turns_work_away_in_an_outage(
    start: Start, link: FaultProxy
) -> None:
    """Three bad answers, two seconds apart; two good ones to come back. Liveness never asks."""
    koi = start(redis_timeout_ms=500)

    def status() -> int:
        assert httpx.get(f"{koi.url}/livez").status_code == 200
        return httpx.get(f"{koi.url}/readyz", timeout=20).status_code

    def word() -> str:
        return str(httpx.get(f"{koi.url}/readyz", timeout=20).json()["ledger"])

    until(lambda: status() == 200, "it is ready")
    link.set(refuse())
    until(lambda: word() == "unavailable", "it is noticed")
    assert status() == 200
    until(lambda: status() == 503, "it lasts")
    link.heal()
    until(lambda: word() == "ok", "it is noticed")
    assert status() == 503
    until(lambda: status() == 200, "it lasts")


@pytest.mark.parametrize("cache_policy", ["off", "private"])
def test_a_repeat_does_not_wait_for_an_admission_that_nobody_heard_of(
    start: Start, link: FaultProxy, cache_policy: str
) -> None:
    """The store opened the job, its reply was lost: the repeat is a new attempt, soon."""
    koi = start(cache_policy=cache_policy)
    headers = {"idempotency-key": "order-1"}
    with koi.client() as client:
        assert post(client, "another").status_code == 200
        lost = [lose_replies()]

        def admissions(request: bytes) -> Fault:
            return lost.pop() if lost and b'"fields":' in request else PASS

        link.choose(admissions)
        refused = client.post(GENERATE, json=KOI, headers=headers)
        began = time.monotonic()
        while (answer := client.post(GENERATE, json=KOI, headers=headers)).status_code != 200:
            assert answer.headers["x-should-retry"] == "true"
            assert time.monotonic() - began < 8
            time.sleep(0.2)
        link.heal()

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert lost == []
    assert koi.sandbox.posts == 2
