"""The same question, the same picture, never a duplicate in a burst."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.connection import connect
from app.domain.cache import CacheControl
from app.domain.images import GenerationRequest
from tests.flow.conftest import Start
from tests.harness import KOI, Koi
from tests.store_node import until

GENERATE = "/v1/images/generations"


def together(koi: Koi, key: str, count: int, **body: Any) -> list[httpx.Response]:
    async def crowd() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            base_url=koi.url, headers=headers, timeout=60, limits=limits
        ) as client:
            calls = (client.post(GENERATE, json={**KOI, **body}) for _ in range(count))
            return list(await asyncio.gather(*calls))

    return asyncio.run(crowd())


def urls(answers: list[httpx.Response]) -> set[str]:
    return {a.json()["data"][0]["url"].split("?")[0] for a in answers}


def test_a_reload_gets_the_old_picture_and_costs_nothing(koi: Koi) -> None:
    with koi.client() as client:
        first = client.post(GENERATE, json=KOI)
        time.sleep(2.1)
        second = client.post(GENERATE, json=KOI)

    assert first.json()["data"] == second.json()["data"]
    assert second.headers["x-koi-cache"] == "hit"
    assert int(second.headers["age"]) >= 2
    assert second.headers["cache-status"].lower().startswith("koi; hit")
    assert koi.sandbox.posts == 1


def test_three_identical_calls_at_once_are_three_pictures_and_a_reload_gets_all_three(
    koi: Koi,
) -> None:
    key = koi.key()
    first = together(koi, key, 3)
    time.sleep(2.1)
    second = together(koi, key, 3)

    assert len(urls(first)) == 3
    assert urls(second) == urls(first)
    assert koi.sandbox.posts == 3


def test_with_one_variant_a_crowd_is_one_generation(start: Start) -> None:
    koi = start(cache_variants=1)
    koi.sandbox.set(latency_s=0.5)

    answers = together(koi, koi.key(), 100)

    assert {a.status_code for a in answers} == {200}
    assert len(urls(answers)) == 1
    assert koi.sandbox.posts == 1
    assert sum(entry.images for entry in koi.entries()) == 1


def test_with_the_cache_off_live_identical_calls_are_never_merged(start: Start) -> None:
    koi = start(cache_policy="off")

    answers = together(koi, koi.key(), 5)

    assert len(urls(answers)) == 5
    assert {a.headers["x-koi-cache"] for a in answers} == {"bypass"}


def test_a_hit_says_when_its_picture_was_made(start: Start) -> None:
    koi = start(cache_variants=1)
    with koi.client() as client:
        made, hit = [client.post(GENERATE, json=KOI) for _ in range(2)]
        task = client.post(GENERATE, json={**KOI, "async": True})

    assert hit.headers["x-koi-cache"] == task.headers["x-koi-cache"] == "hit"
    for said in (hit, task):
        assert 0 <= said.json()["created"] - made.json()["created"] <= 20


def test_a_hit_can_be_had_in_the_other_format(koi: Koi) -> None:
    with koi.client() as client:
        client.post(GENERATE, json=KOI)
        time.sleep(2.1)
        hit = client.post(GENERATE, json={**KOI, "response_format": "b64_json"})

    assert hit.headers["x-koi-cache"] == "hit"
    assert len(hit.json()["data"][0]["b64_json"]) > 1000


def test_a_hit_for_an_async_caller_is_a_finished_task(koi: Koi) -> None:
    with koi.client() as client:
        client.post(GENERATE, json=KOI)
        time.sleep(2.1)
        hit = client.post(GENERATE, json={**KOI, "async": True}).json()
        read = client.get(f"/v1/tasks/{hit['id']}").json()

    assert hit["status"] == read["status"] == "completed"
    assert koi.sandbox.posts == 1


@pytest.mark.parametrize(
    ("directive", "outcome", "posts"),
    [
        ("no-cache", "miss", 2),
        ("no-store", "bypass", 2),
        ("max-age=1", "miss", 2),
        ("max-age=3600", "hit", 1),
        ("only-if-cached", "hit", 1),
        ("nonsense, max-stale=5", "hit", 1),
    ],
)
def test_request_directives_are_obeyed(koi: Koi, directive: str, outcome: str, posts: int) -> None:
    with koi.client() as client:
        client.post(GENERATE, json=KOI)
        time.sleep(2.1)
        answer = client.post(GENERATE, json=KOI, headers={"cache-control": directive})

    assert answer.headers["x-koi-cache"] == outcome
    assert koi.sandbox.posts == posts


def test_only_if_cached_never_makes_anything(koi: Koi) -> None:
    with koi.client() as client:
        answer = client.post(GENERATE, json=KOI, headers={"cache-control": "only-if-cached"})

    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "not_cached"
    assert koi.sandbox.posts == 0


def test_pictures_never_cross_users_unless_their_team_shares(koi: Koi) -> None:
    async def found(operator: Any) -> None:
        from app.domain.limits import Limits
        from app.domain.principal import CachePolicy

        await operator.keys.create_team("blue", Limits())
        for name in ("cy", "di"):
            await operator.keys.create_user(name, team="blue", cache=CachePolicy.SHARED)

    koi.operate(found)
    for name in ("ann", "bob", "cy", "di"):
        with koi.client(koi.key(name)) as client:
            client.post(GENERATE, json=KOI)
        time.sleep(2.1)

    assert koi.sandbox.posts == 3


def test_a_failure_is_never_kept(koi: Koi) -> None:
    koi.sandbox.script("400")
    with koi.client() as client:
        refused = client.post(GENERATE, json=KOI)
        again = client.post(GENERATE, json=KOI, headers={"idempotency-key": "another-call"})

    assert refused.status_code == 400
    assert again.status_code == 200


def test_a_caller_out_of_quota_still_gets_what_it_has(koi: Koi) -> None:
    from app.domain.limits import Limits

    async def poor(operator: Any) -> None:
        await operator.keys.create_user("ann", limits=Limits(images_per_day=1))

    koi.operate(poor)
    with koi.client(koi.key("ann")) as client:
        client.post(GENERATE, json=KOI)
        time.sleep(2.1)
        hit = client.post(GENERATE, json=KOI)
        other = client.post(GENERATE, json={**KOI, "prompt": "something new"})

    assert hit.headers["x-koi-cache"] == "hit"
    assert other.status_code == 429
    assert other.json()["error"]["code"] == "insufficient_quota"
    assert other.headers["x-should-retry"] == "false"


def mark(store_url: str) -> None:
    """What a process leaves behind that is killed between the cache and the ledger."""
    asked = GenerationRequest("grok-imagine", KOI["prompt"], 1, "1024x1024", "standard")

    async def vanish() -> None:
        store = BatchingStore(connect(store_url, timeout_s=3))
        cache = RedisResultCache(store, ttl_s=60, variants=10, lease_s=60)
        await cache.look_up(asked.fingerprint("user:ann"), "task_gone", CacheControl())
        await store.aclose()

    asyncio.run(vanish())


def test_only_if_cached_makes_nothing_even_when_the_maker_vanished(
    koi: Koi, store_url: str
) -> None:
    mark(store_url)
    with koi.client() as client:
        answer = client.post(GENERATE, json=KOI, headers={"cache-control": "only-if-cached"})

    assert answer.json()["error"]["code"] == "not_cached"
    assert koi.sandbox.posts == 0


def test_a_crowd_behind_a_maker_that_died_is_one_generation(start: Start, store_url: str) -> None:
    koi = start(cache_variants=1)
    koi.sandbox.set(latency_s=0.5)
    key = koi.key()
    mark(store_url)

    answers = together(koi, key, 30)
    time.sleep(2.1)
    again = together(koi, key, 6)

    assert {a.status_code for a in (*answers, *again)} == {200}
    assert len(urls(answers)) == 1
    assert urls(again) == urls(answers)
    assert koi.sandbox.posts == 1


def test_behind_makers_that_are_refused_everybody_hears_why_and_nobody_pays(
    start: Start, store_url: str
) -> None:
    from app.domain.limits import Limits

    async def poor(operator: Any) -> None:
        await operator.keys.create_user("ann", limits=Limits(images_per_day=0))

    koi = start(cache_variants=1)
    koi.operate(poor)
    key = koi.key()
    mark(store_url)

    answers = together(koi, key, 20)

    assert {a.json()["error"]["code"] for a in answers} == {"insufficient_quota"}
    assert koi.sandbox.posts == 0


def test_a_joined_caller_whose_makers_cancel_one_after_the_other_waits_as_long_as_any_caller(
    start: Start,
) -> None:
    koi = start(upstream_concurrency=1, cache_variants=1, sync_wait_s=8, task_deadline_s=120)
    koi.sandbox.set(latency_s=60)
    with koi.client() as client, ThreadPoolExecutor() as pool:
        client.post(GENERATE, json={**KOI, "prompt": "in the way", "async": True})
        until(lambda: koi.sandbox.posts == 1, "it is in the way")
        first = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]
        time.sleep(2.1)  # no longer a sibling of the call that makes it
        began = time.monotonic()
        joined = [pool.submit(client.post, GENERATE, json=KOI) for _ in range(2)]
        until(lambda: koi.in_flight() == 2, "both have asked")
        time.sleep(2)
        client.delete(f"/v1/tasks/{first}")
        until(lambda: queued(client), "one of them makes it")
        time.sleep(2)
        [second] = queued(client)
        client.delete(f"/v1/tasks/{second}")
        answers = [joined.result() for joined in joined]
        took_s = time.monotonic() - began
        koi.sandbox.set(latency_s=None)
        koi.sandbox.advance(60)

    codes = {answer.json()["error"]["code"] for answer in answers}
    assert codes == {"task_cancelled", "still_processing"}  # who made the second, and who joined it
    assert took_s < 11, "both pauses come on top of no wait"


def queued(client: httpx.Client) -> list[str]:
    tasks = client.get("/v1/tasks").json()["data"]
    return [task["id"] for task in tasks if task["status"] == "queued"]


def test_a_joined_caller_whose_maker_cancels_makes_the_picture_itself(start: Start) -> None:
    koi = start(upstream_concurrency=1, task_deadline_s=120)
    koi.sandbox.set(latency_s=60)
    with koi.client() as client, ThreadPoolExecutor() as pool:
        client.post(GENERATE, json={**KOI, "prompt": "in the way", "async": True})
        until(lambda: koi.sandbox.posts == 1, "it is in the way")
        owned = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]
        time.sleep(2.1)  # no longer a sibling of the call that makes it
        joined = pool.submit(client.post, GENERATE, json=KOI)
        until(lambda: koi.in_flight() == 1, "it has asked")
        time.sleep(0.3)
        cancelled = client.delete(f"/v1/tasks/{owned}").json()
        koi.sandbox.set(latency_s=None)
        koi.sandbox.advance(60)
        answer = joined.result()

    assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "task_cancelled")
    assert answer.status_code == 200
    assert answer.headers["x-koi-task-id"] != owned
    assert koi.sandbox.posts == 2
