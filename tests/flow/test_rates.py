"""Images per minute and requests per day: exact, and named when they refuse."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import openai
import pytest

from app.domain.limits import Limits
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.flow.test_quota import crowd, user
from tests.harness import KOI, Koi


def seconds_until_midnight() -> float:
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight - now).total_seconds()


def post(client: httpx.Client, prompt: str, **fields: Any) -> httpx.Response:
    return client.post(GENERATE, json={**KOI, "prompt": prompt, **fields})


def test_a_crowd_gets_exactly_its_images_per_minute(koi: Koi) -> None:
    key = user(koi, "ann", images_per_minute=6)

    answers = crowd(koi, key, [{**KOI, "prompt": f"p{i}", "n": 2} for i in range(12)])

    refused = [a for a in answers if a.status_code == 429]
    assert len(answers) - len(refused) == 3
    for answer in refused:
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert "6 images per minute, 2 asked" in answer.json()["error"]["message"]
        assert 1 <= int(answer.headers["retry-after"]) <= 20
        assert answer.headers["x-should-retry"] == "true"


def test_headers_and_usage_say_what_is_left_of_the_minute(koi: Koi) -> None:
    with koi.client(user(koi, "ann", images_per_minute=6)) as client:
        answer = post(client, "one", n=2)
        usage = client.get("/v1/usage").json()

    assert answer.headers["x-ratelimit-limit-images"] == "6"
    assert answer.headers["x-ratelimit-remaining-images"] == "4"
    assert 1 <= int(answer.headers["x-ratelimit-reset-images"].removesuffix("s")) <= 20
    assert '"images-user-minute";q=6;qu="images";w=60' in answer.headers["ratelimit-policy"]
    (shown,) = [
        one for one in usage["limits"] if (one["meter"], one["window"]) == ("images", "minute")
    ]
    assert (shown["limit"], shown["used"], shown["held"]) == (6, 2, 0)


def test_images_that_were_not_charged_are_given_back_to_the_minute(koi: Koi) -> None:
    koi.sandbox.script("400", "500")
    with koi.client(user(koi, "ann", images_per_minute=3)) as client:
        failed = [post(client, f"p{i}", n=3) for i in range(2)]
        made = post(client, "p2", n=3)
        refused = post(client, "p3")

    assert [a.status_code for a in failed] == [400, 502]
    assert made.status_code == 200
    assert made.headers["x-ratelimit-remaining-images"] == "0"
    assert refused.status_code == 429


def test_more_images_than_ever_fit_are_refused_for_good(koi: Koi) -> None:
    with koi.client(user(koi, "ann", images_per_minute=2)) as client:
        refused = post(client, "five", n=5)
        fewer = post(client, "two", n=2)

    assert refused.status_code == 429
    assert "Ask for fewer images at once" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert fewer.status_code == 200


def test_a_cached_answer_counts_for_the_day_and_not_for_images_per_minute(koi: Koi) -> None:
    with koi.client(user(koi, "ann", images_per_minute=1, requests_per_day=10)) as client:
        made = post(client, "same")
        cached = client.post(
            GENERATE, json={**KOI, "prompt": "same"}, headers={"cache-control": "only-if-cached"}
        )

    assert (made.status_code, cached.status_code) == (200, 200)
    assert cached.headers["x-ratelimit-remaining-requests"] == "8"
    assert koi.sandbox.posts == 1


def test_requests_of_a_day_are_refused_until_midnight(koi: Koi) -> None:
    with koi.client(user(koi, "ann", requests_per_day=2)) as client:
        answers = [post(client, f"p{i}") for i in range(3)]
        usage = client.get("/v1/usage").json()

    refused = answers[-1]
    assert [a.status_code for a in answers] == [200, 200, 429]
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert "limit 2 requests per day" in refused.json()["error"]["message"]
    assert "resets at 20" in refused.json()["error"]["message"]
    assert "retry-after" not in refused.headers
    reset_s = int(refused.headers["x-ratelimit-reset-requests"].removesuffix("s"))
    assert abs(reset_s - seconds_until_midnight()) < 60
    assert refused.headers["x-should-retry"] == "false"
    (shown,) = [
        one for one in usage["limits"] if (one["meter"], one["window"]) == ("requests", "day")
    ]
    assert (shown["limit"], shown["used"], shown["remaining"]) == (2, 2, 0)


def test_a_repeat_of_the_last_request_of_the_day_gets_its_answer(koi: Koi) -> None:
    with koi.client(user(koi, "ann", requests_per_day=1)) as client:
        named = {"idempotency-key": "the-last-one"}
        first = client.post(GENERATE, json=KOI, headers=named)
        repeat = client.post(GENERATE, json=KOI, headers=named)
        other = post(client, "another")

    assert (first.status_code, repeat.status_code, other.status_code) == (200, 200, 429)
    assert repeat.json()["data"] == first.json()["data"]
    assert koi.sandbox.posts == 1


@pytest.mark.parametrize("control", [{}, {"cache-control": "no-store"}])
def test_each_request_counts_once_with_and_without_the_cache(koi: Koi, control: dict) -> None:
    key = user(koi, "ann", requests_per_day=20)
    with koi.client(key) as client:
        client.headers.update(control)
        left = [
            int(post(client, f"p{i}").headers["x-ratelimit-remaining-requests"]) for i in range(3)
        ]

    assert left == [19, 18, 17]


def test_a_crowd_makes_exactly_its_requests_of_the_day(koi: Koi) -> None:
    key = user(koi, "ann", requests_per_day=5)

    answers = crowd(koi, key, [{**KOI, "prompt": f"p{i}"} for i in range(20)])

    assert sorted(a.status_code for a in answers) == [200] * 5 + [429] * 15


def test_a_request_that_waits_for_a_slot_counts_once(koi: Koi) -> None:
    koi.sandbox.set(latency_s=0.2)
    key = user(koi, "ann", requests_per_day=4, concurrency=1, images_per_minute=4)
    with koi.client(key) as client:
        post(client, "how long it takes")

    answers = crowd(koi, key, [{**KOI, "prompt": f"p{i}"} for i in range(3)])
    with koi.client(key) as client:
        refused = post(client, "one more")

    assert [a.status_code for a in answers] == [200] * 3
    assert refused.status_code == 429


@pytest.mark.parametrize("limit", ["images_per_minute", "requests_per_day"])
def test_a_limit_of_zero_closes_for_good(koi: Koi, limit: str) -> None:
    with koi.client(user(koi, "ann", **{limit: 0})) as client:
        refused = client.post(GENERATE, json=KOI)

    assert refused.status_code == 429
    assert "limit of" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers


def test_key_team_and_house_are_limited_too(start: Start) -> None:
    koi = start(house_requests_per_day=5)

    async def found(operator: Any) -> None:
        await operator.keys.create_team("blue", Limits(images_per_minute=2))
        await operator.keys.create_user("bob", team="blue")

    koi.operate(found)
    narrow = koi.key("ann", limits=Limits(requests_per_day=1))
    with koi.client(narrow) as ann, koi.client(koi.key("bob")) as bob:
        by_ann = [post(ann, f"a{i}") for i in range(2)]
        by_bob = [post(bob, f"b{i}") for i in range(3)]
        last = [post(bob, "b0", n=1), post(bob, "b1")]

    assert "this API key" in by_ann[1].json()["error"]["message"]
    assert [a.status_code for a in by_bob] == [200, 200, 429]
    assert "team blue" in by_bob[2].json()["error"]["message"]
    assert any("this gateway" in a.text for a in last), [a.text for a in last]


def test_the_official_sdk_sets_both_limits_of_a_project(start: Start) -> None:
    admin_key = "sk-admin-of-the-tests"
    koi = start(admin_key=admin_key)

    async def found(operator: Any) -> None:
        await operator.keys.create_team("blue", Limits())
        await operator.keys.create_user("bob", team="blue")

    koi.operate(found)
    with openai.OpenAI(base_url=koi.v1, admin_api_key=admin_key, api_key="none") as sdk:
        limits = sdk.admin.organization.projects.rate_limits
        limits.update_rate_limit(
            "rl-all", project_id="blue", max_images_per_1_minute=1, max_requests_per_1_day=9
        )
        (shown,) = limits.list_rate_limits("blue").data
    with koi.client(koi.key("bob")) as client:
        answers = [post(client, f"b{i}").status_code for i in range(2)]

    assert (shown.max_images_per_1_minute, shown.max_requests_per_1_day) == (1, 9)
    assert answers == [200, 429]
