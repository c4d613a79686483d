"""A task followed as server-sent events, under both of its names."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from app.wiring.operator import OperatorContext
from tests.flow.test_generate import GENERATE
from tests.flow.test_metering import sample
from tests.harness import KOI, Koi
from tests.store_node import until

EVENTS = {"accept": "text/event-stream"}


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The events of a stream; each names its type twice."""
    name = ""
    for line in lines:
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            event = json.loads(line.removeprefix("data: "))
            assert event["type"] == name
            yield event


def reads_of_jobs(koi: Koi) -> float:
    metrics = httpx.get(f"{koi.url}/metrics").text
    name = "koi_store_command_duration_seconds_count"
    return sample(metrics, name, script="job", outcome="ok")


def new_task(client: httpx.Client, **fields: Any) -> str:
    return str(client.post(GENERATE, json={**KOI, "async": True, **fields}).json()["id"])


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/images/tasks"])
def test_a_task_is_followed_to_its_end(koi: Koi, path: str) -> None:
    koi.sandbox.set(latency_s=60)
    with koi.client() as client:
        task = new_task(client)
        with client.stream("GET", f"{path}/{task}", headers=EVENTS) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            told = events_of(stream.iter_lines())
            events = [next(told)]
            until(lambda: koi.sandbox.posts == 1, "it is sent")
            koi.sandbox.advance(60)
            events += told
        read = client.get(f"{path}/{task}").json()

    assert [event["type"] for event in events[:-1]] == ["task.updated"] * (len(events) - 1)
    assert events[0]["data"]["status"] in ("queued", "processing")
    assert events[-1]["type"] == "task.completed"
    assert {**events[-1]["data"], "data": None} == {**read, "data": None}
    assert len(events[-1]["data"]["data"]) == 1


def test_a_failure_is_the_last_event(koi: Koi) -> None:
    with koi.client() as client:
        task = new_task(client, prompt="koi [fault:moderation-400]")
        with client.stream("GET", f"/v1/tasks/{task}", headers=EVENTS) as stream:
            *_, last = events_of(stream.iter_lines())

    assert last["type"] == "task.failed"
    assert last["data"]["error"]["code"] == "content_policy_violation"


def test_a_task_that_has_ended_is_one_event(koi: Koi) -> None:
    with koi.client() as client:
        task = new_task(client)
        client.get(f"/v1/tasks/{task}", params={"wait": 20})
        with client.stream("GET", f"/v1/tasks/{task}", headers=EVENTS) as stream:
            (event,) = events_of(stream.iter_lines())

    assert event["type"] == "task.completed"


def test_somebody_elses_task_is_not_followed(koi: Koi) -> None:
    with koi.client(koi.key("ann")) as ann, koi.client(koi.key("bob")) as bob:
        answer = bob.get(f"/v1/tasks/{new_task(ann)}", headers=EVENTS)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "task_not_found")


def test_who_stops_following_changes_nothing(koi: Koi) -> None:
    koi.sandbox.set(latency_s=1)
    with koi.client() as client:
        task = new_task(client)
        with client.stream("GET", f"/v1/tasks/{task}", headers=EVENTS) as stream:
            next(events_of(stream.iter_lines()))
        ended = client.get(f"/v1/tasks/{task}", params={"wait": 20}).json()

    assert ended["status"] == "completed"
    assert koi.sandbox.posts == 1


def test_many_who_follow_one_task_cost_the_store_no_more_than_one(koi: Koi) -> None:
    koi.sandbox.set(latency_s=5)
    with koi.client() as client, ExitStack() as streams:
        task = new_task(client)
        followers = [
            streams.enter_context(client.stream("GET", f"/v1/tasks/{task}", headers=EVENTS))
            for _ in range(20)
        ]
        before = reads_of_jobs(koi)
        for stream in followers:
            *_, last = events_of(stream.iter_lines())
            assert last["type"] == "task.completed"

        reads = reads_of_jobs(koi) - before

    assert reads < 20


def test_a_key_that_is_revoked_meanwhile_is_told_no_more(koi: Koi) -> None:
    koi.sandbox.set(latency_s=60)
    secret = koi.key()
    with koi.client(secret) as client:
        task = new_task(client)
        until(lambda: koi.sandbox.posts == 1, "it is sent")
        with client.stream("GET", f"/v1/tasks/{task}", headers=EVENTS) as stream:
            lines = stream.iter_lines()
            next(events_of(lines))
            koi.operate(revoke_all)
            rest = [event["type"] for event in events_of(lines)]
    koi.sandbox.advance(60)

    assert "task.completed" not in rest
    koi.settled()


async def revoke_all(operator: OperatorContext) -> None:
    for key in await operator.keys.keys():
        await operator.keys.revoke(key.id)
