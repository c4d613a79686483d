"""kill -9 between a task's end and its telling, and in the middle of a telling."""

import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox.server import Sandbox
from tests.flow.command import Cli, Serving, generate, served_by
from tests.receiver import Receiver, receiving


@pytest.fixture
def cli(sandbox: Sandbox, tmp_path: Path) -> Cli:
    settings = {
        "KOI_WEBHOOK_HOSTS": "127.0.0.1",
        "KOI_WEBHOOK_RETRY_S": "0.02",
        "KOI_WEBHOOK_TIMEOUT_S": "0.5",
    }
    return Cli(tmp_path, {**served_by(sandbox.url), **settings})


def ask(serving: Serving, key: str, receiver: Receiver) -> Any:
    fields = {"async": True, "webhook": f"{receiver.url}/"}
    return generate(serving.url, key, **fields).json()


def test_a_task_that_ended_just_before_the_gateway_died_is_told(cli: Cli) -> None:
    key = cli.key()
    with receiving() as receiver:
        with cli.forked() as serving:
            task = ask(serving, key, receiver)
            until_ended(serving, key, task["id"])
            serving.process.kill()
            serving.process.wait()
        with cli.forked():
            got = receiver.wait()

    assert {one.json["data"]["id"] for one in got} == {task["id"]}
    assert len({one.id for one in got}) == 1


def test_a_telling_in_which_the_gateway_died_is_told_again(cli: Cli) -> None:
    key, released = cli.key(), threading.Event()
    with receiving() as receiver:
        receiver.answer = lambda _: (released.wait(20), 204)[1]
        with cli.forked() as serving:
            task = ask(serving, key, receiver)
            receiver.wait()
            serving.process.kill()
            serving.process.wait()
        before = len(receiver.got)
        released.set()
        with cli.forked():
            got = receiver.wait(times=before + 1)

    assert len({one.id for one in got}) == 1
    assert got[-1].json["data"]["id"] == task["id"]


def until_ended(serving: Serving, key: str, task_id: str) -> None:
    """Ask often: the end is to be seen before it is told."""
    deadline, headers = time.monotonic() + 20, {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=serving.url, headers=headers) as client:
        while client.get(f"/v1/tasks/{task_id}").json()["status"] != "completed":
            assert time.monotonic() < deadline
            time.sleep(0.01)
