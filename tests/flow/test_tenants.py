"""Two tenants: nothing of the one is visible to the other."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.flow.test_generate import GENERATE, wait_for
from tests.harness import KOI, Koi
from tests.store_node import until

UNKNOWN = "task_" + "0" * 32


def test_a_foreign_task_answers_exactly_like_an_unknown_one(koi: Koi) -> None:
    with koi.client(koi.key("ann")) as ann:
        task_id = ann.post(GENERATE, json={**KOI, "async": True}).json()["id"]
        wait_for(ann, task_id)
    with koi.client(koi.key("bob")) as bob:
        foreign = bob.get(f"/v1/tasks/{task_id}")
        unknown = bob.get(f"/v1/tasks/{UNKNOWN}")
        cancelled = bob.delete(f"/v1/tasks/{task_id}")
        listed = bob.get("/v1/tasks").json()

    assert foreign.status_code == unknown.status_code == cancelled.status_code == 404
    assert foreign.json() == unknown.json()
    assert listed["data"] == []


def test_who_is_given_the_name_of_a_deleted_user_sees_nothing_of_that_one(koi: Koi) -> None:
    with koi.client(koi.key("eve")) as former:
        theirs = [
            former.post(GENERATE, json={**KOI, "async": True, "prompt": text}).json()["id"]
            for text in ("one", "two", "three")
        ]
        for task_id in theirs:
            wait_for(former, task_id)
    koi.operate(lambda operator: operator.keys.delete_user("eve"))
    with koi.client(koi.key("eve")) as eve:
        assert eve.get("/v1/tasks").json()["data"] == []
        own = [
            eve.post(GENERATE, json={**KOI, "async": True, "prompt": text}).json()["id"]
            for text in ("four", "five")
        ]
        for task_id in own:
            wait_for(eve, task_id)
        listed = {
            order: [task["id"] for page in pages_of(eve, order) for task in page]
            for order in ("asc", "desc")
        }
        pictures = eve.get("/v1/koi/pictures").json()["data"]
        former_task = eve.get(f"/v1/tasks/{theirs[0]}")

    assert listed == {"asc": own, "desc": own[::-1]}
    assert {picture["task_id"] for picture in pictures} == {*own}
    assert former_task.json()["error"]["code"] == "task_not_found"


def pages_of(client: httpx.Client, order: str) -> Iterator[list[dict[str, Any]]]:
    """A list of tasks, one task at a time."""
    query = {"order": order, "limit": "1"}
    more = True
    while more:
        page = client.get("/v1/tasks", params=query).json()
        yield page["data"]
        more, query = page["has_more"], {**query, "after": page["last_id"]}


@pytest.mark.parametrize("task_id", ["..", "a%00b", "a%0d%0aX:1", "x%3Fy=1", "t" * 3000, "TASK_1"])
def test_hostile_task_ids_are_unknown_and_never_reach_the_provider(koi: Koi, task_id: str) -> None:
    with koi.client() as client:
        answer = client.get(f"/v1/tasks/{task_id}")

    assert answer.status_code == 404
    assert koi.sandbox.polls == 0


def test_a_picture_opens_by_its_link_or_for_its_owner_only(koi: Koi) -> None:
    ann, bob = koi.key("ann"), koi.key("bob")
    with koi.client(ann) as client:
        url = client.post(GENERATE, json=KOI).json()["data"][0]["url"]
    bare = url.split("?")[0]

    by_link = httpx.get(url)
    by_owner = httpx.get(bare, headers={"authorization": f"Bearer {ann}"})
    by_other = httpx.get(bare, headers={"authorization": f"Bearer {bob}"})
    by_nobody = httpx.get(bare)
    tampered = httpx.get(url[:-4] + "AAAA")

    assert by_link.status_code == by_owner.status_code == 200
    assert by_link.content == by_owner.content
    assert {r.status_code for r in (by_other, by_nobody, tampered)} <= {401, 404}


def test_an_idempotency_key_is_its_users_own(koi: Koi) -> None:
    headers = {"idempotency-key": "same-for-both"}
    answers = []
    for name in ("ann", "bob"):
        with koi.client(koi.key(name)) as client:
            answers.append(client.post(GENERATE, json=KOI, headers=headers).json())

    assert answers[0]["data"][0]["url"] != answers[1]["data"][0]["url"]
    assert koi.sandbox.posts == 2


def test_an_idempotency_key_with_another_body_is_refused_for_good(koi: Koi) -> None:
    headers = {"idempotency-key": "order-1"}
    with koi.client() as client:
        client.post(GENERATE, json=KOI, headers=headers)
        other = client.post(GENERATE, json={**KOI, "n": 2}, headers=headers)

    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_key_reuse"
    assert other.headers["x-should-retry"] == "false"
    assert koi.sandbox.posts == 1


def test_twenty_first_calls_with_one_idempotency_key_are_one_job(koi: Koi) -> None:
    import asyncio

    key = koi.key()

    async def crowd() -> list[httpx.Response]:
        headers = {"authorization": f"Bearer {key}", "idempotency-key": "once"}
        async with httpx.AsyncClient(base_url=koi.url, headers=headers, timeout=20) as client:
            return list(await asyncio.gather(*(client.post(GENERATE, json=KOI) for _ in range(20))))

    answers = asyncio.run(crowd())

    assert {a.status_code for a in answers} == {200}
    assert len({a.text for a in answers}) == 1
    assert koi.sandbox.posts == 1


def test_a_waiting_task_can_be_cancelled_for_nothing(koi: Koi) -> None:
    with koi.client() as client:
        task_id = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]
        answer = client.delete(f"/v1/tasks/{task_id}")

    # Dispatch is immediate without an upstream limiter, so a cancel that comes too late says so.
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert answer.json()["error"]["code"] == "task_not_cancellable"


def test_a_queued_task_is_cancelled_and_costs_nothing(start) -> None:  # type: ignore[no-untyped-def]
    koi = start(upstream_concurrency=1)
    koi.sandbox.set(latency_s=60)
    with koi.client() as client:
        first = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]
        until(lambda: koi.sandbox.posts == 1, "it is in the way")
        second = client.post(GENERATE, json={**KOI, "prompt": "2", "async": True}).json()["id"]
        cancelled = client.delete(f"/v1/tasks/{second}")
        koi.sandbox.advance(60)
        done = wait_for(client, first)

    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "failed"
    assert cancelled.json()["error"]["code"] == "task_cancelled"
    assert done["status"] == "completed"
    assert koi.sandbox.posts == 1
