"""A task is over when several polls over minutes say so, and late proof still counts."""

from pathlib import Path

import pytest

from app.domain.ledger import EntryKind
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE, wait_for
from tests.harness import KOI, PRICED, Koi


@pytest.mark.parametrize("fault", ["404-for-a-while=3", "404-after-submit=3", "completed-empty=3"])
def test_a_few_polls_that_speak_against_a_task_end_nothing(koi: Koi, fault: str) -> None:
    koi.sandbox.script(fault)
    with koi.client() as client:
        answer = client.post(GENERATE, json=KOI)

    assert answer.status_code == 200
    assert [(entry.images, entry.presumed) for entry in koi.entries()] == [(1, 0)]


@pytest.mark.parametrize(
    ("fault", "code"), [("forgotten", "task_expired"), ("completed-empty=999", "empty_result")]
)
def test_when_they_go_on_for_long_it_is_over_and_held(start: Start, fault: str, code: str) -> None:
    koi = start(task_deadline_s=60, upstream_poll_interval_s=0.02)
    koi.sandbox.script(fault)
    with koi.client() as client:
        answer = client.post(GENERATE, json=KOI)
    polls = koi.sandbox.polls
    koi.settled(within_s=30)

    assert (answer.status_code, answer.json()["error"]["code"]) == (502, code)
    assert polls >= 5
    assert [(entry.images, entry.presumed) for entry in koi.entries()] == [(1, 1)]


def test_the_deadline_says_what_the_task_said_last(start: Start) -> None:
    koi = start(task_deadline_s=2, upstream_poll_interval_s=0.5)
    koi.sandbox.script("completed-empty=999")
    with koi.client() as client:
        answer = client.post(GENERATE, json=KOI)

    assert answer.json()["error"]["code"] == "empty_result"


def test_a_held_task_is_polled_until_its_picture_comes(start: Start) -> None:
    koi = start(task_deadline_s=60, upstream_poll_interval_s=0.02, resolve_after_s=600)
    # Even a first poll that comes late must find the task running: the next ones do not find it.
    koi.sandbox.set(latency_s=3)
    koi.sandbox.script("404-for-a-while=18")
    with koi.client() as client:
        refused = client.post(GENERATE, json=KOI)
        koi.settled(within_s=120)
        task = client.get(f"/v1/tasks/{refused.headers['x-koi-task-id']}").json()
        if task["status"] == "collecting":
            task = wait_for(client, task["id"])

    assert refused.json()["error"]["code"] == "task_expired"
    assert (task["status"], task["error"], len(task["data"])) == ("completed", None, 1)
    assert [(e.images, e.presumed, e.delivered) for e in koi.entries()] == [(1, 0, 1)]


def test_a_held_task_that_turns_out_to_have_failed_is_given_back(start: Start) -> None:
    koi = start(task_deadline_s=0.3, resolve_after_s=30, upstream_poll_interval_s=0.1)
    koi.sandbox.set(latency_s=1.5)
    koi.sandbox.script("task-failed")
    with koi.client() as client:
        late = client.post(GENERATE, json=KOI)
    koi.settled(within_s=20)

    assert late.json()["error"]["code"] == "upstream_timeout"
    assert [(entry.kind, entry.images) for entry in koi.entries()] == [(EntryKind.RELEASE, 0)]


def test_what_one_of_two_tasks_made_late_is_delivered_and_only_the_other_is_presumed(
    start: Start, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(PRICED.read_text().replace("max_n = 10", "max_n = 2", 1))
    koi = start(catalog=catalog, task_deadline_s=0.3, resolve_after_s=4)
    koi.sandbox.set(latency_s=1)
    koi.sandbox.script("stuck-99", "ok")
    with koi.client() as client:
        late = client.post(GENERATE, json={**KOI, "n": 4})
        koi.settled(within_s=20)
        task = wait_for(client, late.headers["x-koi-task-id"])

    assert late.json()["error"]["code"] == "upstream_timeout"
    assert (task["status"], task["error"], len(task["data"])) == ("completed", None, 2)
    assert [(e.images, e.presumed, e.delivered) for e in koi.entries()] == [(4, 2, 2)]
