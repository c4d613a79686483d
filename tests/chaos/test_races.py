"""Races that random storms found, each as a test of its own: two gateways, one store."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from app.service.background import BackgroundTasks
from tests.chaos.crowd import GENERATE
from tests.faultproxy import FaultProxy
from tests.harness import KOI, PRICED, gateway
from tests.linkfaults import PASS, Fault, Way, delay, lose_replies

AGAIN = {"x-stainless-retry-count": "1"}


def names(answer: httpx.Response) -> list[str]:
    return [item["url"].partition("?")[0] for item in answer.json()["data"]]


def test_identical_calls_at_two_gateways_at_once_are_bought_once(
    pair: Any, sandbox: Sandbox
) -> None:
    first, second = pair(cache_variants=1)
    key = first.key()
    sandbox.set(latency_s=0.5)
    rounds = 30

    with first.client(key) as one, second.client(key) as other, ThreadPoolExecutor(4) as pool:
        for number in range(rounds):
            body = {**KOI, "prompt": f"koi {number}", "async": True}
            calls = [pool.submit(c.post, GENERATE, json=body) for c in (one, other, one, other)]
            assert {call.result().status_code for call in calls} == {200}
        first.settled()

    assert sandbox.posts == rounds


@pytest.mark.parametrize("headers", [{"idempotency-key": "order-1"}, AGAIN], ids=["keyed", "sdk"])
def test_a_lost_answer_out_of_the_cache_is_repeated_not_bought(
    pair: Any, sandbox: Sandbox, headers: dict[str, str]
) -> None:
    first, second = pair()
    with first.client() as maker:
        maker.post(GENERATE, json=KOI)
    time.sleep(2.1)  # no longer a sibling of the call that made it
    key = first.key()
    attempt = {name: text for name, text in headers.items() if name not in AGAIN}

    with first.client(key) as one, second.client(key) as other:
        lost = one.post(GENERATE, json=KOI, headers=attempt)
        again = other.post(GENERATE, json=KOI, headers=headers)

    assert lost.headers["x-koi-cache"] == "hit"
    assert names(again)[0].rpartition("/")[2] == names(lost)[0].rpartition("/")[2]
    assert sandbox.posts == 1


@pytest.mark.parametrize("headers", [{"idempotency-key": "order-1"}, {}], ids=["keyed", "sdk"])
def test_a_failure_that_asks_for_a_repeat_does_not_answer_the_repeat(
    pair: Any, sandbox: Sandbox, headers: dict[str, str]
) -> None:
    first, second = pair()
    key = first.key()
    sandbox.script("429-int")

    with first.client(key) as one, second.client(key) as other:
        refused = one.post(GENERATE, json=KOI, headers=headers)
        again = other.post(GENERATE, json=KOI, headers={**headers, **AGAIN})

    assert (refused.status_code, refused.headers["x-should-retry"]) == (429, "true")
    assert again.status_code == 200
    assert sandbox.posts == 2


def test_a_request_that_its_own_retry_overtook_joins_it(pair: Any, sandbox: Sandbox) -> None:
    first, second = pair(cache_policy="off")
    key = first.key()

    with first.client(key) as one, second.client(key) as other:
        retry = one.post(GENERATE, json=KOI, headers=AGAIN)
        late = other.post(GENERATE, json=KOI)
        fresh = other.post(GENERATE, json=KOI)

    assert names(late)[0].rpartition("/")[2] == names(retry)[0].rpartition("/")[2]
    assert fresh.status_code == 200
    assert sandbox.posts == 2


def test_a_request_that_two_of_its_retries_overtook_joins_them(pair: Any, sandbox: Sandbox) -> None:
    first, second = pair(cache_policy="off")
    key = first.key()

    with first.client(key) as one, second.client(key) as other:
        retry = one.post(GENERATE, json=KOI, headers=AGAIN)
        other.post(GENERATE, json=KOI, headers={"x-stainless-retry-count": "2"})
        late = other.post(GENERATE, json=KOI)

    assert names(late)[0].rpartition("/")[2] == names(retry)[0].rpartition("/")[2]
    assert sandbox.posts == 1


def test_two_idempotency_keys_are_two_calls_even_when_one_was_repeated(
    pair: Any, sandbox: Sandbox
) -> None:
    first, second = pair(cache_policy="off")
    key = first.key()

    with first.client(key) as one, second.client(key) as other:
        one.post(GENERATE, json=KOI, headers={"idempotency-key": "order-1", **AGAIN})
        other.post(GENERATE, json=KOI, headers={"idempotency-key": "order-2"})

    assert sandbox.posts == 2


@pytest.mark.parametrize("fault", ["empty-200", "data-null"])
def test_a_task_that_ends_in_nothing_is_presumed_when_its_time_is_over(
    pair: Any, sandbox: Sandbox, fault: str
) -> None:
    first, _ = pair()
    sandbox.script(fault)

    with first.client() as client:
        answer = client.post(GENERATE, json=KOI)
    first.settled(within_s=15)

    assert answer.headers["x-should-retry"] == "false"
    assert [(entry.images, entry.presumed) for entry in first.entries()] == [(1, 1)]


def test_a_call_on_its_way_is_waited_for_when_the_task_of_its_sibling_has_ended(
    pair: Any, sandbox: Sandbox, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(PRICED.read_text().replace("max_n = 10", "max_n = 2", 1))
    first, _ = pair(catalog=catalog, task_deadline_s=60)
    sandbox.script("ok", "trickle=0.02")  # the second task id arrives in two to three seconds

    with first.client() as client:
        answer = client.post(GENERATE, json={**KOI, "n": 3})

    assert len(answer.json()["data"]) == 3
    assert [(entry.delivered, entry.presumed) for entry in first.entries()] == [(3, 0)]


@pytest.mark.parametrize(
    "faults", [[PASS, lose_replies()], [delay(1.5, way=Way.BACK)]], ids=["unread", "overtaken"]
)
def test_a_waiter_hears_of_an_end_although_its_read_was_lost_or_overtaken_by_the_signal(
    sandbox: Sandbox, tmp_path: Path, faults: list[Fault]
) -> None:
    read, left = b"HGETALL", [*faults]

    def troubled(request: bytes) -> Fault:
        return left.pop(0) if left and read in request else PASS

    with (
        EmbeddedStore(tmp_path / "store") as store,
        FaultProxy(store.url) as link,
        gateway(sandbox, store.url, tmp_path / "koi", upstream_mode="sync") as maker,
        gateway(sandbox, link.url, tmp_path / "koi") as teller,
    ):
        # Of two reads both come before the end, of one the answer after it.
        sandbox.set(latency_s=0.7 if len(faults) == 1 else 3)
        key = maker.key()
        with maker.client(key) as one, teller.client(key) as other:
            other.get(f"/v1/tasks/task_{0:032x}")  # from here on it is connected
            link.choose(troubled)
            task = one.post(GENERATE, json={**KOI, "async": True}).json()
            began = time.monotonic()
            told = other.get(f"/v1/tasks/{task['id']}?wait=18")

        assert told.json()["status"] == "completed"
        assert time.monotonic() - began < 12
        assert left == []


async def test_a_drain_waits_for_work_that_running_work_launches() -> None:
    broken: list[object] = []
    background = BackgroundTasks(lambda *failure: broken.append(failure))

    async def settle() -> None:
        await asyncio.sleep(0.05)

    async def generate() -> None:
        await asyncio.sleep(0.05)
        background.launch(settle(), "settle")

    background.launch(generate(), "job")
    background.start_draining()

    assert await background.wait_until_idle(5)
    assert broken == []
