"""Two tenants at every object route: foreign, unknown and expired are one answer (S19-S21, S28)."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from app.api.routes import ROUTES
from app.domain.principal import CachePolicy
from app.wiring.operator import OperatorContext
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE, wait_for
from tests.harness import KOI, Koi
from tests.security.samples import gap, interleaved
from tests.security.trap import eventually

NO_TENANTS = ("/v1/models", "/docs", "/console", "/v1/organization", "/v1/koi")
"""What all may see, and what only administrators may (`test_roles.py`)."""
OBJECTS = [
    (route.path, method)
    for route in ROUTES
    if "{" in route.path and not route.path.startswith(NO_TENANTS)
    for method in sorted(route.methods or ())
]
OWN_WORDS = {"x-request-id", "date"}
"""Headers that differ between any two answers."""
UNKNOWN = {"{task_id}": f"task_{'0' * 32}", "{name}": f"img_{'0' * 32}.jpg"}


def seen(answer: httpx.Response) -> tuple[Any, ...]:
    """Everything of an answer that could tell two ids apart."""
    headers = {name: value for name, value in answer.headers.items() if name not in OWN_WORDS}
    return answer.status_code, headers, answer.content


def place(path: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        path = path.replace(name, value)
    return path


def made(client: httpx.Client, **fields: Any) -> dict[str, str]:
    """The ids of a finished generation."""
    task_id = client.post(GENERATE, json={**KOI, "async": True, **fields}).json()["id"]
    link = wait_for(client, task_id)["data"][0]["url"]
    return {"{task_id}": task_id, "{name}": link.rpartition("/")[2].partition("?")[0]}


@pytest.fixture
def pair(koi: Koi) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    with koi.client(koi.key("ann")) as ann, koi.client(koi.key("bob")) as bob:
        yield ann, bob


def test_the_router_has_the_objects_we_know() -> None:
    """A new kind of object needs its unknown id here, and an owner check there."""
    assert {path for path, _ in OBJECTS} == {
        "/v1/images/{name}", "/v1/images/tasks/{task_id}", "/v1/tasks/{task_id}",
    }  # fmt: skip


def test_a_foreign_object_is_an_unknown_one(pair: tuple[httpx.Client, httpx.Client]) -> None:
    ann, bob = pair
    ids = made(ann)
    for path, method in OBJECTS:
        own = ann.request(method, place(path, ids))
        foreign = bob.request(method, place(path, ids))
        unknown = bob.request(method, place(path, UNKNOWN))

        assert own.status_code != 404, (method, path)
        assert seen(foreign) == seen(unknown), (method, path)
        assert foreign.status_code == 404


def test_an_expired_object_is_an_unknown_one_to_its_owner_and_to_others(
    pair: tuple[httpx.Client, httpx.Client], start: Start, store_url: str
) -> None:
    ids = made(pair[0])
    # The gateway that made it remembers it for a minute, however early its record is gone.
    other = start()
    ann, bob = (httpx.Client(base_url=other.url, headers=client.headers) for client in pair)
    with redis.Redis.from_url(store_url, decode_responses=True) as store:
        records = [key for key in store.scan_iter() if key.endswith(tuple(ids.values()))]
        for key in records:
            store.pexpire(key, 1)
    assert len(records) == len(ids)
    with ann, bob:
        for path, method in OBJECTS:
            eventually(lambda p=path: ann.get(place(p, ids)).status_code == 404)  # type: ignore[misc]
            for client in (ann, bob):
                expired = client.request(method, place(path, ids))
                unknown = client.request(method, place(path, UNKNOWN))
                assert seen(expired) == seen(unknown), (method, path)


def test_a_stranger_cannot_time_whether_an_object_exists(
    pair: tuple[httpx.Client, httpx.Client],
) -> None:
    ann, bob = pair
    ids = made(ann)
    for path in {path for path, _ in OBJECTS}:
        foreign, unknown = place(path, ids), place(path, UNKNOWN)
        bob.get(foreign)
        calls = [lambda p=p: bob.get(p) for p in (foreign, unknown)]  # type: ignore[misc]
        a, b = interleaved(calls, rounds=150)
        assert gap(a, b) < 1.0, path


def test_lists_and_usage_hold_ones_own_only(pair: tuple[httpx.Client, httpx.Client]) -> None:
    ann, bob = pair
    ids = made(ann)

    assert [task["id"] for task in ann.get("/v1/tasks").json()["data"]] == list(ids.values())[:1]
    assert bob.get("/v1/tasks").json()["data"] == []
    assert '"used":1' in ann.get("/v1/usage").text
    limits = bob.get("/v1/usage").json()["limits"]
    assert {a["used"] for a in limits if a["scope"] == "user" and a["meter"] == "images"} == {0}


def test_nothing_in_an_answer_tells_that_another_tenant_asked_the_same(
    pair: tuple[httpx.Client, httpx.Client],
) -> None:
    """S25, S26: the cache of one user is no news to another."""
    ann, bob = pair
    first, again = (ann.post(GENERATE, json=KOI) for _ in range(2))
    other = bob.post(GENERATE, json=KOI)

    assert first.headers["x-koi-cache"] == "miss"
    assert again.headers["x-koi-task-id"] != other.headers["x-koi-task-id"]
    assert other.headers["x-koi-cache"] == "miss"
    assert "age" not in other.headers
    assert "hit" not in other.headers["cache-status"]


async def _team(operator: OperatorContext) -> None:
    for team in ("blue", "red"):
        await operator.keys.create_team(team, operator.settings.default_limits)
    for name, team, cache in (
        ("ann", "blue", CachePolicy.SHARED),
        ("mate", "blue", CachePolicy.SHARED),
        ("shy", "blue", CachePolicy.PRIVATE),
        ("bob", "red", CachePolicy.SHARED),
    ):
        await operator.keys.create_user(name, team=team, cache=cache)


def test_a_pool_reads_each_others_jobs_by_id_and_nobody_else_does(koi: Koi) -> None:
    """Decision 11: shared policy and the same team, both."""
    koi.operate(_team)
    clients = {name: koi.client(koi.key(name)) for name in ("ann", "mate", "shy", "bob")}
    ids = made(clients["ann"])
    for path in {path for path, _ in OBJECTS}:
        got = {name: c.get(place(path, ids)).status_code for name, c in clients.items()}
        assert got == {"ann": 200, "mate": 200, "shy": 404, "bob": 404}, path
    assert clients["mate"].get("/v1/tasks").json()["data"] == []
    for client in clients.values():
        client.close()


def test_a_team_mate_reads_a_job_but_cannot_cancel_it(start: Start) -> None:
    koi = start(upstream_concurrency=1)
    koi.operate(_team)
    koi.sandbox.set(latency_s=60)
    with koi.client(koi.key("ann")) as ann, koi.client(koi.key("mate")) as mate:
        running = ann.post(GENERATE, json={**KOI, "async": True}).json()["id"]
        eventually(lambda: koi.sandbox.posts == 1)
        queued = ann.post(GENERATE, json={**KOI, "prompt": "2", "async": True}).json()["id"]
        refused = mate.delete(f"/v1/tasks/{queued}")
        seen_by_mate = mate.get(f"/v1/tasks/{queued}").json()["status"]
        cancelled = ann.delete(f"/v1/tasks/{queued}")
        koi.sandbox.advance(60)
        wait_for(ann, running)

    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "task_not_cancellable"
    assert seen_by_mate == "queued"
    assert cancelled.status_code == 200


def test_hangups_in_mid_read_never_give_one_caller_anothers_answer(koi: Koi) -> None:
    """S29: the client library once handed a cancelled caller's reply to the next one."""
    koi.sandbox.set(latency_s=2)
    names = [f"user{n}" for n in range(4)]
    keys = {name: koi.key(name) for name in names}
    with koi.client(keys["user0"]) as client:
        task_id = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]

    async def hang_up(client: httpx.AsyncClient, after_s: float) -> None:
        headers = {"authorization": f"Bearer {keys['user0']}"}
        wait = client.get(f"/v1/tasks/{task_id}?wait=25", headers=headers)
        try:
            await asyncio.wait_for(wait, after_s)
        except TimeoutError:
            return

    async def look(client: httpx.AsyncClient, name: str) -> str:
        headers = {"authorization": f"Bearer {keys[name]}"}
        answer = await client.get("/v1/usage", headers=headers)
        return f"{name} {answer.json()['user']}"

    async def crowd() -> list[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=koi.url, timeout=20, limits=limits) as client:
            leaving = [hang_up(client, 0.0005 * (n % 40)) for n in range(160)]
            looks = [look(client, names[n % 4]) for n in range(160)]
            mixed = [call for two in zip(leaving, looks, strict=True) for call in two]
            told = await asyncio.gather(*mixed)
            return [words for words in told if words is not None]

    told = asyncio.run(crowd())

    assert len(told) == 160
    assert set(told) == {f"{name} {name}" for name in names}
