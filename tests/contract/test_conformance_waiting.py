"""Conformance: tasks, long waits, hang-ups and streams.

What clients of the OpenAI API rely on, one statement a test; no provider is needed for these.
"""

import base64
import socket

import openai
import pytest

from app.domain.errors import FailureNote
from tests.contract.bad_bodies import MODEL, PROMPT, assert_error, koi
from tests.contract.door import Door, sdk, wait_until
from tests.contract.stand_in import PNG


def test_a_task_has_the_same_keys_in_every_state(door: Door) -> None:
    keys = {"id", "object", "status", "progress", "created", "model", "summary", "data", "error"}
    door.stage.delay_s = 0.2
    queued = door.post(koi(**{"async": True}))
    path = f"/v1/tasks/{queued.json['id']}"
    waited = door.call("GET", f"{path}?wait=5")
    done = door.call("GET", path)

    assert queued.status == 200
    assert queued.json.keys() == waited.json.keys() == done.json.keys() == keys
    assert (queued.json["status"], queued.json["data"]) == ("queued", None)
    assert (waited.json["status"], waited.json["progress"]) == ("completed", 100)
    assert waited.json["data"][0]["url"].startswith(door.url)
    assert queued.headers["retry-after"] == "3"
    assert "retry-after" not in done.headers
    assert done.headers["cache-control"] == "no-store"


def test_a_failed_task_is_an_answer(door: Door) -> None:
    door.stage.end = FailureNote("upstream_error", "The provider failed.", charged=True)
    task = door.post(koi(**{"async": True})).json
    door.call("GET", f"/v1/tasks/{task['id']}?wait=1")

    failed = door.call("GET", f"/v1/tasks/{task['id']}")

    assert failed.status == 200
    assert failed.json["status"] == "failed"
    assert failed.json["error"].keys() == {"message", "type", "param", "code"}


def test_the_sdk_reads_a_task_as_images(client: openai.OpenAI) -> None:
    task = client.images.generate(model=MODEL, prompt=PROMPT, extra_body={"async": True})

    images = client.get(f"/tasks/{task.id}?wait=2", cast_to=openai.types.ImagesResponse)  # type: ignore[attr-defined]

    assert images.data
    assert images.data[0].url


def test_a_task_remembers_the_format_asked_for(door: Door) -> None:
    task = door.post(koi(response_format="b64_json", **{"async": True})).json

    done = door.call("GET", f"/v1/tasks/{task['id']}?wait=1").json

    assert base64.b64decode(done["data"][0]["b64_json"]) == PNG


def test_tasks_are_listed_and_cancelled(door: Door) -> None:
    task = door.post(koi(**{"async": True})).json
    path = f"/v1/tasks/{task['id']}"

    listed = door.call("GET", "/v1/tasks?limit=5").json
    cancelled = door.call("DELETE", path).json
    again = door.call("DELETE", path)

    assert [item["id"] for item in listed["data"]] == [task["id"]]
    assert cancelled["error"]["code"] == "task_cancelled"
    assert_error(again, 400, "task_not_cancellable", None)
    assert door.call("GET", "/v1/tasks", key=door.other_key).json["data"] == []
    assert_error(door.call("GET", f"{path}?wait=x"), 400, "invalid_value", "wait")


def test_an_answer_comes_before_the_clients_own_timeout(door: Door) -> None:
    door.stage.delay_s = 30

    answer = door.post(koi(), {"x-stainless-read-timeout": "0.4"})

    assert_error(answer, 504, "still_processing", None)
    assert answer.error["task_id"] == answer.headers["x-koi-task-id"]
    assert answer.headers["x-should-retry"] == "true"
    assert answer.headers["retry-after"] == "1"
    assert door.stage.abandoned == [answer.error["task_id"]]


def test_a_caller_who_hangs_up_is_remembered(door: Door) -> None:
    door.stage.delay_s = 30
    body = koi()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: koi\r\nAuthorization: Bearer {door.key}"
    with socket.create_connection((door.host, door.port)) as wire:
        wire.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: bool(door.stage.asked))

    wait_until(lambda: bool(door.stage.abandoned))
    assert door.stage.abandoned == list(door.stage.jobs)


def test_heartbeats_keep_an_impatient_client(admin_door: Door) -> None:
    admin_door.stage.delay_s = 1.5

    with sdk(admin_door, timeout=1, max_retries=0) as client:
        raw = client.images.with_raw_response.generate(model=MODEL, prompt=PROMPT)

    assert raw.text.startswith(" ")
    assert raw.parse().data
    assert "content-length" not in raw.headers
    assert raw.headers["x-accel-buffering"] == "no"
    assert raw.headers["content-type"] == "application/json"


def test_an_early_failure_keeps_its_status(admin_door: Door) -> None:
    admin_door.stage.end = FailureNote("content_policy_violation", "Refused.")

    assert_error(admin_door.post(koi()), 400, "content_policy_violation", None)


def test_a_late_failure_cuts_the_connection(admin_door: Door) -> None:
    admin_door.stage.delay_s = 0.6
    admin_door.stage.end = FailureNote("upstream_error", "The provider failed.")

    with (
        sdk(admin_door, max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.images.generate(model=MODEL, prompt=PROMPT)

    wait_until(lambda: bool(admin_door.stage.observed))
    assert admin_door.stage.observed[0][2] == 502


def test_a_pipelining_caller_who_hangs_up_is_remembered_too(door: Door) -> None:
    door.stage.delay_s = 30
    body = koi()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: koi\r\nAuthorization: Bearer {door.key}"
    request = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with socket.create_connection((door.host, door.port)) as wire:
        wire.sendall(request + request)
        wait_until(lambda: door.stage.asked)

    wait_until(lambda: door.stage.abandoned)
    assert len(door.stage.asked) == 1


def test_a_streaming_caller_who_hangs_up_is_remembered_too(door: Door) -> None:
    door.stage.delay_s = 30
    body = koi(stream=True)
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: koi\r\nAuthorization: Bearer {door.key}"
    with socket.create_connection((door.host, door.port)) as wire:
        wire.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        assert b"text/event-stream" in wire.recv(4096)

    wait_until(lambda: door.stage.abandoned)


def test_a_stream_is_comments_then_one_event_per_image(door: Door) -> None:
    door.stage.delay_s = 0.2
    with sdk(door, _strict_response_validation=True) as client:
        events = list(client.images.generate(model=MODEL, prompt=PROMPT, n=2, stream=True))

    assert [event.type for event in events] == ["image_generation.completed"] * 2
    assert [base64.b64decode(event.b64_json) for event in events] == [PNG, PNG]
    assert events[0].usage.total_tokens == 0  # type: ignore[union-attr]
    assert events[0].quality == "medium"


def test_a_failing_stream_raises_with_its_code(client: openai.OpenAI, door: Door) -> None:
    door.stage.delay_s = 0.1
    door.stage.end = FailureNote("upstream_error", "The provider failed.")

    with pytest.raises(openai.APIError) as caught:
        list(client.images.generate(model=MODEL, prompt=PROMPT, stream=True))

    assert caught.value.code == "upstream_error"
