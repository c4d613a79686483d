"""Clients as they are: what they repeat by themselves is bought once. `make clients` leads all of
them through every fault; these are two of them, and the faults that cost most."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.posts import Posts
from tests.clients.catalog import HOUSE, chosen
from tests.clients.process import Driver
from tests.clients.scenarios import BY_NAME
from tests.clients.trial import play
from tests.flow.conftest import Start

FAULTS = {"500": 0, "502-html": 1, "reset-after-accept": 1, "cdn-404": 1}
"""Images billed for one POST."""
DRIVEN = [HOUSE, *chosen("ai-6")]
WITHIN_S = 120


@pytest.fixture(params=DRIVEN, ids=[client.name for client in DRIVEN])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    if not request.param.is_ready:
        pytest.skip("needs node and `python -m tests.clients.catalog ai-6`")
    request.param.prepare()
    with Driver(request.param) as driver:
        yield driver


def asked(koi: Any, driver: Driver, faults: dict[str, int], when: str) -> dict[str, Any]:
    """One call for each fault, all at once, each by a user of its own."""
    return {
        f"[fault:{fault}] {when}": driver.begin(
            base_url=koi.v1, key=koi.key(f"{when}-{fault}"), prompt=f"[fault:{fault}] {when}"
        )
        for fault in faults
    }


def test_a_failed_call_is_bought_once_whatever_its_client_repeats(
    start: Start, driver: Driver
) -> None:
    koi, beating = start(sync_wait_s=4), start(sync_wait_s=4, heartbeat_after_s=0.3)
    koi.sandbox.set(latency_s=1.0)

    calls = asked(koi, driver, FAULTS, "early") | asked(beating, driver, {"cdn-404": 1}, "late")
    said = {prompt: call.result(WITHIN_S) for prompt, call in calls.items()}

    posts = Posts(koi.sandbox)
    posts.look()
    assert posts.by_prompt == Counter(dict.fromkeys(calls, 1))
    assert koi.sandbox.billed_images <= sum(FAULTS.values()) + 1
    assert not [prompt for prompt, answer in said.items() if answer["ok"]]


def test_who_hangs_up_and_repeats_at_once_gets_the_picture_of_the_first_call(
    start: Start, driver: Driver
) -> None:
    scenario = BY_NAME["hang-up"]

    outcome = play(start(**scenario.settings), driver, scenario)

    assert not outcome.problems(scenario)
    assert outcome.pictures == outcome.posts == scenario.posts
