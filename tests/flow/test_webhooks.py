"""Webhooks of tasks, as their receivers meet them."""

import base64
import hmac
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi
from tests.receiver import Received, Receiver, receiving

QUICK_DELIVERY: dict[str, Any] = {
    "webhook_hosts": "127.0.0.1",
    "webhook_retry_s": 0.02,
    "webhook_timeout_s": 1,
}
DELIVERIES, SECRET = "/v1/koi/webhooks", "/v1/koi/webhooks/secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def koi(start: Start) -> Koi:
    return start(**QUICK_DELIVERY)


def ask(koi: Koi, key: str, webhook: str | None, prompt: str = "a koi", **fields: Any) -> Any:
    with koi.client(key) as client:
        named = {} if webhook is None else {"webhook": webhook}
        answer = client.post(
            GENERATE, json={**KOI, "prompt": prompt, "async": True, **named, **fields}
        )
    assert answer.status_code == 200, answer.text
    return answer.json()


def deliveries(koi: Koi, key: str, **query: Any) -> list[dict[str, Any]]:
    with koi.client(key) as client:
        found: list[dict[str, Any]] = client.get(DELIVERIES, params=query).json()["data"]
    return found


def until(koi: Koi, key: str, status: str, within_s: float = 15) -> dict[str, Any]:
    """The newest delivery, once it has this status."""
    deadline = time.monotonic() + within_s
    while (found := deliveries(koi, key)[:1]) == [] or found[0]["status"] != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found[0]


def signature(request: Received, secret: str) -> str:
    signed = b".".join(
        (request.id.encode(), request.headers["webhook-timestamp"].encode(), request.body)
    )
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def test_a_webhook_brings_the_task_as_its_url_shows_it(koi: Koi, receiver: Receiver) -> None:
    key = koi.key()
    task = ask(koi, key, f"{receiver.url}/?a=1")
    [got] = receiver.wait("/?a=1")
    with koi.client(key) as client:
        shown = client.get(f"/v1/tasks/{task['id']}").json()
        secret = client.get(SECRET).json()["secret"]
        picture = client.get(got.json["data"]["data"][0]["url"])

    assert got.json["type"] == "task.completed"
    assert {**got.json["data"], "data": None} == {**shown, "data": None}
    assert picture.status_code == 200
    assert got.headers["content-type"] == "application/json"
    assert got.headers["webhook-signature"] == signature(got, secret)
    found = until(koi, key, "delivered")
    assert (found["id"], found["task_id"], found["response_status"]) == (got.id, task["id"], 204)
