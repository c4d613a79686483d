"""Retries cost nothing, at whichever gateway they arrive."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.chaos.crowd import GENERATE
from tests.chaos.forks import Fork
from tests.chaos.test_stops import eventually, in_flight
from tests.harness import KOI, PRICED, Koi, operator_settings

AGAIN = {"x-stainless-retry-count": "1"}
VERDICT_S = 60
"""How long a failure answers its retry."""


def picture_of(answer: httpx.Response) -> str:
    (item,) = answer.json()["data"]
    return str(item["url"]).partition("?")[0].rpartition("/")[2]


def test_an_idempotency_key_gives_the_same_answer_at_every_gateway_also_later_ones(
    pair: Any, sandbox: Sandbox
) -> None:
    early = pair(public_url="https://koi.example.com")
    late = pair(public_url="https://koi.example.com")
    key = early[0].key()
    headers = {"idempotency-key": "order-1"}

    answers = []
    for koi in (*early, *late):
        with koi.client(key) as client:
            answers.append(client.post(GENERATE, json=KOI, headers=headers))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sandbox.posts == 1


@pytest.mark.parametrize("policy", ["off", "private"])
def test_identical_calls_under_way_at_the_same_time_want_several_pictures(
    pair: Any, sandbox: Sandbox, policy: str
) -> None:
    first, second = pair(cache_policy=policy)
    key = first.key()
    sandbox.set(latency_s=0.5)

    with first.client(key) as one, second.client(key) as other, ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(c.post, GENERATE, json=KOI) for c in (one, other, one, other)]
        pictures = {picture_of(call.result()) for call in calls}

    assert len(pictures) == sandbox.posts == 4


def test_a_result_nobody_got_goes_to_the_next_identical_call_at_the_other_gateway_once(
    pair: Any, sandbox: Sandbox
) -> None:
    first, second = pair(cache_policy="off")
    key = first.key()
    sandbox.set(latency_s=1)

    with second.client(key) as other:
        first.hang_up(key)
        eventually(lambda: in_flight(first.url) == 0, within_s=10)
        handed = other.post(GENERATE, json=KOI)
        posts = sandbox.posts
        fresh = other.post(GENERATE, json=KOI)

    assert (handed.headers["x-koi-cache"], posts) == ("joined", 1)
    assert picture_of(fresh) != picture_of(handed)
    assert sandbox.posts == 2


@pytest.mark.parametrize(
    ("pause_s", "status"),
    [
        pytest.param(0, 502, id="at-once"),
        pytest.param(VERDICT_S + 1, 200, id="later", marks=pytest.mark.chaos),
    ],
)
def test_a_final_failure_answers_its_retry_for_a_minute(
    pair: Any, sandbox: Sandbox, pause_s: float, status: int
) -> None:
    first, second = pair()
    key = first.key()
    sandbox.script("500")

    with first.client(key) as one, second.client(key) as other:
        failed = one.post(GENERATE, json=KOI)
        time.sleep(pause_s)
        again = other.post(GENERATE, json=KOI, headers=AGAIN)

    assert (failed.status_code, again.status_code) == (502, status)
    assert sandbox.posts == (1 if status == 502 else 2)


class BeforeTheSecond(httpx.BaseTransport):
    """Something happens between an SDK's first attempt and its second. On the way a proxy drops
    the header in which the SDK announces its timeout."""

    def __init__(self, event: Callable[[], None]) -> None:
        self.attempts = 0
        self._event = event
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.attempts += 1
        del request.headers["x-stainless-read-timeout"]
        if self.attempts == 2:
            self._event()
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def test_a_timeout_shorter_than_the_generation_and_a_kill_between_are_one_charge(
    tmp_path: Path,
) -> None:
    with Sandbox() as sandbox, EmbeddedStore(tmp_path / "store") as store:
        sandbox.set(latency_s=3.5, picture_style="plain")
        settings: dict[str, Any] = {
            "upstream_base_url": sandbox.url,
            "upstream_api_key": sandbox.key,
            "upstream_poll_interval_s": 0.1,
            "heartbeat_after_s": 0,
            "redis_url": store.url,
            "redis_timeout_ms": 10_000,
            "data_dir": tmp_path / "koi",
            "catalog": PRICED,
            "log_level": "error",
        }
        gateways = [Fork(settings, tmp_path / "log")]
        koi = Koi(gateways[0].url, sandbox, operator_settings(**settings))

        def restart() -> None:
            gateways[-1].kill()
            gateways.append(Fork(settings, tmp_path / "log", place=gateways[0].place))

        transport = BeforeTheSecond(restart)
        try:
            with OpenAI(
                base_url=koi.v1,
                api_key=koi.key(),
                timeout=3,  # times three: a dead poller's lease is five seconds
                max_retries=2,
                http_client=httpx.Client(transport=transport),
            ) as client:
                answer = client.images.generate(model="grok-imagine", prompt="a koi")
            picture = httpx.get((answer.data or [])[0].url or "")
            koi.assert_ledger_matches_bill()
        finally:
            gateways[-1].kill()
            gateways[0].place.close()
        (entry,) = koi.entries()

    assert picture.status_code == 200
    assert len(gateways) == 2
    assert (sandbox.posts, entry.images, entry.presumed) == (1, 1, 0)
