"""Open jobs as the operator sees them: what waits may be cancelled, what is unknown has an end."""

import time
from pathlib import Path

import httpx

from tests.flow.command import cli_on
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI
from tests.store_node import until

ROOT_KEY = "admin-6a5b4c3d2e1f0a9b"
ADMIN = {"authorization": f"Bearer {ROOT_KEY}", "x-koi-reason": "a%20loop"}


def test_what_waits_is_cancelled_by_the_operator_and_by_the_command(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    koi = start(upstream_concurrency=1, admin_key=ROOT_KEY, task_deadline_s=60)
    koi.sandbox.set(latency_s=50)
    with koi.client() as client:
        bodies = [{**KOI, "prompt": f"number {n}", "async": True} for n in range(3)]
        sent = client.post(GENERATE, json=bodies[0]).json()["id"]
        until(lambda: koi.sandbox.posts == 1, "it is sent")
        one, two = [client.post(GENERATE, json=body).json()["id"] for body in bodies[1:]]
    cli = cli_on(tmp_path, store_url)
    with httpx.Client(base_url=f"{koi.v1}/koi", headers=ADMIN, timeout=20) as desk:
        listed = desk.get("/jobs").json()["data"]
        cancelled = desk.delete(f"/jobs/{one}").json()
        refused = desk.delete(f"/jobs/{sent}").json()
        said = cli.text("tasks", "cancel", two, "--reason", "the same loop")
        again = cli.process("tasks", "cancel", sent, code=1).stderr
        log = httpx.get(f"{koi.v1}/organization/audit_logs", headers=ADMIN).json()["data"]
    koi.sandbox.advance(50)

    assert {job["id"]: job["cancellable"] for job in listed} == {
        sent: False, one: True, two: True
    }  # fmt: skip
    assert [event["event"] for event in cancelled["timeline"]][-1] == "cancelled"
    assert refused["error"]["code"] == "task_not_cancellable"
    assert "nothing was charged" in said
    assert "not sent yet" in again
    told = [(entry["koi"]["kind"], entry["koi"]["target"], entry["koi"]["reason"]) for entry in log]
    assert ("job.cancelled", f"job:{one}", "a loop") in told
    assert ("job.cancelled", f"job:{two}", "the same loop") in told


def test_an_unknown_job_says_when_it_is_charged_as_presumed(start: Start) -> None:
    koi = start(upstream_mode="sync", resolve_after_s=5, admin_key=ROOT_KEY)
    began_s = time.time()
    with koi.client() as client:
        client.post(GENERATE, json={**KOI, "prompt": "[fault:reset-before-body]"})
    with httpx.Client(base_url=f"{koi.v1}/koi", headers=ADMIN, timeout=20) as desk:
        (held,) = desk.get("/jobs", params={"status": "unknown"}).json()["data"]
        read_s = time.time()
        koi.settled(20)
        (ended,) = desk.get("/jobs").json()["data"]

    assert began_s - 1 < held["resolves_at"] - 5 < read_s + 1
    assert held["held_images"] == 1
    assert (ended["presumed"], ended["images"]) == (1, 1)


def test_the_console_answers_when_the_provider_is_down_and_the_budget_spent(start: Start) -> None:
    koi = start(
        upstream_base_url="http://127.0.0.1:9/v1", house_images_per_day=0, admin_key=ROOT_KEY
    )
    with httpx.Client(base_url=f"{koi.v1}/koi", headers=ADMIN, timeout=20) as desk:
        health = desk.get("/health").json()
        others = [desk.get(path) for path in ("/people", "/api_keys", "/usage", "/jobs")]

    (provider,) = [check for check in health["checks"] if check["name"] == "provider"]
    assert provider["state"] != "ok"
    assert provider["mend"]
    assert health["house"]["images_day"]["left"] == 0
    assert [answer.status_code for answer in others] == [200] * 4
