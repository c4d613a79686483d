"""Statements about tasks, long requests and streams."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
from openai.types import ImagesResponse

from tests.clients.catalog import CLIENTS
from tests.clients.process import Driver
from tests.conformance.gate import (
    PATH,
    Broken,
    Gate,
    NotMeasured,
    error_of,
    expect,
    expect_status,
    shows,
)

LONG_S = 340
TASK_FIELDS = {"id", "object", "status", "progress"}
NODE = next(client for client in CLIENTS if client.name == "openai-node-6")


def _ended(gate: Gate, task: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        seen: dict[str, Any] = expect_status(
            gate.get(f"/v1/tasks/{task['id']}", params={"wait": 5}), 200
        ).json()
        if seen["status"] in {"completed", "failed"}:
            return seen
    raise Broken("it does not end")


@shows(43)
def a_task_begins(gate: Gate) -> None:
    began = time.monotonic()
    task = gate.task()
    expect(time.monotonic() - began < 1, "takes more than a second")
    expect((task["status"], task["progress"]) == ("queued", 0), f"is {task['status']}")


@shows(44)
def the_sdk_polls(gate: Gate) -> None:
    task = gate.task()
    _ended(gate, task)
    with gate.sdk() as client:
        plain = client.get(f"/tasks/{task['id']}", cast_to=object)
        typed = client.get(f"/tasks/{task['id']}", cast_to=ImagesResponse)
    expect(isinstance(plain, dict), "is no dictionary")
    expect(typed.data, "has no data")


@shows(45)
def every_state(gate: Gate) -> None:
    gate.sandbox.script("ok", "task-failed")
    first, second = gate.task(), gate.task()
    good, bad = _ended(gate, first), _ended(gate, second)
    for state in (first, good, bad):
        lacks = TASK_FIELDS - state.keys()
        expect(not lacks, f"{state.get('status')} lacks {', '.join(sorted(lacks))}")
    expect(good.get("created") and good.get("data"), "the end has no pictures")
    expect(bad["status"] == "failed" and bad.get("error"), "the failure has no error")


@shows(46)
def anothers_task(gate: Gate) -> None:
    task = gate.task()
    answer = expect_status(gate.get(f"/v1/tasks/{task['id']}", key=gate.other_key()), 404)
    expect(error_of(answer)["code"] == "task_not_found", "another code")


@shows(47)
def an_unknown_task(gate: Gate) -> None:
    error_of(expect_status(gate.get("/v1/tasks/task_nobody"), 404))


@shows(48)
def the_pace(gate: Gate) -> None:
    gate.sandbox.set(latency_s=1.0)
    answer = gate.get(f"/v1/tasks/{gate.task()['id']}")
    hint = answer.headers.get("retry-after") or answer.json().get("poll_after_ms")
    expect(hint, "no Retry-After and no poll_after_ms")


@shows(49)
def the_format_of_the_start(gate: Gate) -> None:
    done = _ended(gate, gate.task(response_format="b64_json"))
    expect(done["data"][0].get("b64_json"), "the poll has a link")


@shows(51)
def async_as_text(gate: Gate) -> None:
    answer = expect_status(gate.ask(gate.body(**{"async": "true"})), 200, 400)
    told = answer.json()
    expect(answer.status_code == 400 or told.get("id") or told.get("data"), "a 200 with nothing")


@shows(53)
def the_task_of_an_answer(gate: Gate) -> None:
    answer = expect_status(gate.ask(gate.body()), 200)
    task = next((v for k, v in answer.headers.items() if k.endswith("task-id")), "")
    expect(task, "no header names a task")
    expect_status(gate.get(f"/v1/tasks/{task}"), 200)


@shows(74, slow=True)
def a_picture_of_minutes(gate: Gate) -> None:
    """The driver's own defaults; the gateway must have patience too (`long_koi`)."""
    if not NODE.is_ready:
        raise NotMeasured("openai-node is not installed")
    gate.sandbox.set(latency_s=LONG_S)
    with Driver(NODE) as driver:
        said = driver.call(LONG_S * 3, base_url=f"{gate.url}/v1", key=gate.key, prompt="a koi")
    expect(said["ok"], f"{said.get('error')} after {gate.sandbox.posts} POSTs")
    expect(gate.sandbox.posts == 1, f"{gate.sandbox.posts} POSTs")


@shows(75)
def half_a_second(gate: Gate) -> None:
    gate.sandbox.set(latency_s=1.5)
    with gate.sdk(gate.beating, timeout=0.5) as client:
        expect(client.images.generate(**gate.body()).data, "no data")
    expect(gate.sandbox.posts == 1, f"{gate.sandbox.posts} POSTs")


@shows(76)
def an_early_failure(gate: Gate) -> None:
    gate.sandbox.script("moderation-400")
    expect_status(gate.ask(gate.body()), 400)


@shows(77)
def a_late_failure(gate: Gate) -> None:
    gate.sandbox.set(latency_s=1.5, fault_rate=1.0, fault_names=["task-failed"])
    with gate.sdk(gate.beating, max_retries=2) as client:
        try:
            client.images.generate(**gate.body())
        except openai.APIStatusError as error:
            expect(error.code, f"a {error.status_code} without a code")
        else:
            raise Broken("no error reaches the caller")
    expect(gate.sandbox.posts == 1, f"{gate.sandbox.posts} POSTs")


@shows(78)
def blanks(gate: Gate) -> None:
    gate.sandbox.set(latency_s=1.2)
    headers = {"authorization": f"Bearer {gate.key}"}
    with httpx.stream(
        "POST", gate.beating + PATH, headers=headers, json=gate.body(), timeout=20
    ) as answer:
        first, *rest = answer.iter_raw()
    expect(not first.strip(), "nothing is sent before the JSON")
    expect("content-length" not in answer.headers, "has a Content-Length")
    expect(answer.headers["content-type"].startswith("application/json"), "is no JSON")
    expect(answer.headers.get("x-accel-buffering") == "no", "does not say x-accel-buffering: no")
    expect(json.loads(b"".join(rest) or first)["data"], "has no data")


@shows(81)
def a_stream(gate: Gate) -> None:
    with gate.sdk() as client:
        stream = client.images.generate(**gate.body(), n=2, stream=True)
        events = list(stream)
    found = [event.type for event in events]
    expect(found == ["image_generation.completed"] * 2, f"{len(found)} events, and no error")
    expect(all(event.b64_json and event.usage for event in events), "an event lacks its picture")


@shows(82)
def a_failing_stream(gate: Gate) -> None:
    gate.sandbox.set(latency_s=0.5, fault_rate=1.0, fault_names=["task-failed"])
    with gate.sdk(max_retries=0) as client:
        try:
            list(client.images.generate(**gate.body(), stream=True))
        except openai.APIError as error:
            expect(error.code, "has no code")
        else:
            raise Broken("no error reaches the caller")


def _lines(gate: Gate) -> Iterator[str]:
    headers = {"authorization": f"Bearer {gate.key}"}
    ask = gate.body(stream=True)
    with httpx.stream("POST", gate.beating + PATH, headers=headers, json=ask, timeout=20) as answer:
        kind = answer.headers["content-type"]
        expect(kind.startswith("text/event-stream"), f"the answer is {kind}")
        yield from answer.iter_lines()


@shows(83)
def no_events_of_its_own(gate: Gate) -> None:
    gate.sandbox.set(latency_s=1.2)
    for line in _lines(gate):
        if line.startswith("data:") and line != "data: [DONE]":
            kind = json.loads(line.removeprefix("data:")).get("type", "")
            expect(kind.startswith("image_generation."), f"an event {kind or 'without a type'}")


@shows(84)
def stream_and_async(gate: Gate) -> None:
    expect_status(gate.ask(gate.body(**{"stream": True, "async": True})), 400)


@shows(85)
def iterated(gate: Gate) -> None:
    with gate.sdk() as client:
        seen = list(client.images.generate(**gate.body(), stream=True))
    expect(len(seen) == 1, f"{len(seen)} events, and no error")
