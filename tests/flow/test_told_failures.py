"""A failure that asked for no repeat is told again to clients that repeat it unmarked.

They come 0.4 to 8 seconds after it; who comes later asks anew (decision 21).
"""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import redis

from app.sandbox.server import Sandbox
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi
from tests.store_node import until

REPEAT_S = 12
FAILURES = ["500", "502-html", "reset-after-accept", "400"]


def post(koi: Koi, key: str, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    with koi.client(key) as client:
        return client.post(GENERATE, json=body or KOI, headers=named)


def pass_time(store_url: str, seconds: float) -> None:
    """Make every job that much older."""
    with redis.Redis.from_url(store_url, decode_responses=True) as store:
        for key in store.scan_iter("koi:*job:*"):
            for name in ("ended", "told"):
                if store.hexists(key, name):
                    store.hincrby(key, name, round(-seconds * 1000))


@pytest.mark.parametrize("fault", FAILURES)
@pytest.mark.parametrize("policy", ["off", "private"])
def test_a_client_that_repeats_whatever_it_is_told_hears_the_same_and_pays_once(
    start: Start, store_url: str, fault: str, policy: str
) -> None:
    koi = start(cache_policy=policy, upstream_mode="sync")
    key = koi.key()
    koi.sandbox.script(fault)

    answers = [post(koi, key)]
    for pause_s in (2, 4):  # as the AI SDK does
        pass_time(store_url, pause_s)
        answers.append(post(koi, key))

    codes = {(answer.status_code, answer.json()["error"]["code"]) for answer in answers}
    assert len(codes) == 1
    assert answers[0].status_code >= 400
    assert koi.sandbox.posts == 1


def test_a_picture_that_cannot_be_had_is_one_purchase(start: Start, store_url: str) -> None:
    koi = start(cache_policy="off", upstream_mode="sync")
    key = koi.key()
    koi.sandbox.script("url-script")

    first = post(koi, key)
    pass_time(store_url, 2)
    again = post(koi, key)

    assert (first.status_code, again.status_code) == (502, 502)
    assert koi.sandbox.posts == 1


def test_each_repeat_is_told_again_but_nobody_for_longer_than_a_minute(
    koi: Koi, store_url: str
) -> None:
    key = koi.key()
    koi.sandbox.script("500")
    first = post(koi, key)

    told = []
    for _ in range(7):
        pass_time(store_url, REPEAT_S - 3)
        told.append(post(koi, key).status_code)

    assert first.status_code == 502
    assert told == [502, 502, 502, 502, 502, 502, 200]
    assert koi.sandbox.posts == 2


def later(koi: Koi, key: str, store_url: str) -> httpx.Response:
    pass_time(store_url, REPEAT_S + 1)
    return post(koi, key)


NEW_CALLS: dict[str, Callable[[Koi, str, str], httpx.Response]] = {
    "after a human's pause": later,
    "with no-cache": lambda koi, key, _: post(koi, key, cache_control="no-cache"),
    "with an Idempotency-Key": lambda koi, key, _: post(koi, key, idempotency_key="another"),
    "with another body": lambda koi, key, _: post(koi, key, {**KOI, "prompt": "two koi"}),
    "with another key": lambda koi, _, __: post(koi, koi.key()),
}


@pytest.mark.parametrize("change", NEW_CALLS)
@pytest.mark.parametrize("policy", ["off", "private"])
def test_who_asks_anew_gets_a_new_attempt(
    start: Start, store_url: str, policy: str, change: str
) -> None:
    koi = start(cache_policy=policy)
    key = koi.key()
    koi.sandbox.script("500")

    failed = post(koi, key)
    again = NEW_CALLS[change](koi, key, store_url)

    assert (failed.status_code, again.status_code) == (502, 200)
    assert koi.sandbox.posts == 2


def test_a_failure_with_an_idempotency_key_is_nobody_elses_answer(koi: Koi) -> None:
    key = koi.key()
    koi.sandbox.script("500")

    failed = post(koi, key, idempotency_key="order-1")
    again = post(koi, key)

    assert (failed.status_code, again.status_code) == (502, 200)


def test_a_free_failure_that_asks_for_a_repeat_is_not_told_to_it(koi: Koi) -> None:
    key = koi.key()
    koi.sandbox.script("429-int")

    refused = post(koi, key)
    again = post(koi, key)

    assert (refused.status_code, again.status_code) == (429, 200)


def test_a_failure_after_heartbeats_is_told_as_what_it_is_to_a_repeat_without_a_retry_header(
    start: Start,
) -> None:
    """The connection was cut: the repeat is in time to hear the status."""
    koi = start(cache_policy="off", heartbeat_after_s=0.1)
    key = koi.key()
    koi.sandbox.set(latency_s=1)
    koi.sandbox.script("task-failed")

    with pytest.raises(httpx.RemoteProtocolError):
        post(koi, key)
    again = post(koi, key)

    assert again.status_code == 502
    assert koi.sandbox.posts == 1


def test_what_a_caller_cancelled_may_be_asked_for_again(start: Start, sandbox: Sandbox) -> None:
    koi = start(cache_policy="off", upstream_concurrency=1)
    key = koi.key()
    sandbox.set(latency_s=60)
    with koi.client(key) as client:
        client.post(GENERATE, json={"prompt": "in the way", "async": True})
        until(lambda: sandbox.posts == 1, "it is in the way")
        body = {**KOI, "async": True}
        task = client.post(GENERATE, json=body).json()["id"]
        cancelled = client.delete(f"/v1/tasks/{task}")
        again = client.post(GENERATE, json=body).json()["id"]
    sandbox.set(latency_s=None)
    sandbox.advance(60)

    assert cancelled.json()["status"] == "failed"
    assert again != task
