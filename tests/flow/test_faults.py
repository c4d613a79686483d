"""The provider's faults, before and after it took a task: what the caller sees, what is charged.

Every row ends with the ledger compared to the provider's own bill (fixture `start`), and with
exactly one POST: whatever the provider does, one call is one call.
"""

from dataclasses import dataclass
from typing import Any

import pytest

from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi


@dataclass(frozen=True)
class Row:
    """One fault: the sandbox's name for it, and what must come of it."""

    fault: str
    status: int
    code: str | None = None
    retry: str = "false"
    modes: tuple[str, ...] = ("sync", "auto")

    def __str__(self) -> str:
        return self.fault


LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"
FREE = {"upstream_rejected", "upstream_auth", "upstream_billing", "upstream_rate_limited"}
"""Codes that come with proof: nothing is held for a moment."""
SYNC = ("sync",)
TASK = ("auto",)

ROWS = [
    Row("reset-after-accept", 502, "upstream_ambiguous"),
    Row("reset-before-body", 502, "upstream_ambiguous"),
    Row("close-after-accept", 502, "upstream_ambiguous"),
    Row("hang", 504, "upstream_timeout"),
    Row("trickle", 504, "upstream_timeout", modes=SYNC),
    Row("headers-then-hang", 504, "upstream_timeout"),
    Row("reset-mid-body", 502, "upstream_incomplete"),
    Row("truncated-close", 502, "upstream_incomplete"),
    Row("truncated-json", 502, "upstream_invalid_response"),
    Row("huge-body", 502, "upstream_invalid_response", modes=SYNC),
    Row("gzip-bomb", 502, "upstream_invalid_response"),
    Row("encoded", 200),
    Row("encoded=deflate", 200),
    Row("encoded=br", 200),
    Row("encoded=zstd", 200),
    Row("html-200", 502, "upstream_invalid_response"),
    Row("wrong-content-type", 200),
    Row("error-200", 502, None),
    Row("prose-200", 502, "upstream_error"),
    Row("empty-200", 502, "empty_result", modes=SYNC),
    Row("data-null", 502, "empty_result", modes=SYNC),
    Row("fewer", 200),
    Row("more", 200),
    Row("no-usable", 502, "empty_result", modes=SYNC),
    Row("url-private", 502, "image_unavailable"),
    Row("json-nan", 200),
    Row("json-dup", 200),
    Row("json-bom", 200),
    Row("json-junk", 200),
    Row("json-deep", 502, "upstream_invalid_response"),
    Row("json-surrogate", 502, "empty_result"),
    Row("400", 400, "upstream_rejected"),
    Row("422", 400, "upstream_rejected"),
    Row("moderation-400", 400, "content_policy_violation"),
    Row("401", 502, "upstream_auth"),
    Row("403", 502, "upstream_auth"),
    Row("violation-fee", 400, "content_policy_violation"),
    Row("400-empty", 400, "upstream_rejected"),
    Row("404-html", 400, "upstream_rejected"),
    Row("413-html", 400, "upstream_rejected"),
    Row("401-text", 502, "upstream_auth"),
    Row("403-html", 502, "upstream_auth"),
    Row("402-html", 503, "upstream_billing"),
    Row("402", 503, "upstream_billing"),
    Row("429-int", 429, "upstream_rate_limited", retry="true"),
    Row("429", 429, "upstream_rate_limited", retry="true"),
    Row("429-garbage", 429, "upstream_rate_limited", retry="true"),
    Row("429-huge", 429, "upstream_rate_limited", retry="true"),
    Row("429-date", 429, "upstream_rate_limited", retry="true"),
    Row("429-html", 429, "upstream_rate_limited", retry="true"),
    Row("429-empty", 429, "upstream_rate_limited", retry="true"),
    Row("429-html=-5", 429, "upstream_rate_limited", retry="true"),
    Row("429-html=99999999999", 429, "upstream_rate_limited", retry="true"),
    Row("429-html=Wed, 21 Oct 2015 07:28:00 GMT", 429, "upstream_rate_limited", retry="true"),
    Row("500", 502, "upstream_error"),
    Row("503", 502, "upstream_error"),
    Row("502-html", 502, "upstream_ambiguous"),
    Row("524-html", 502, "upstream_ambiguous"),
    Row("redirect", 400, "upstream_rejected"),
    Row("308", 400, "upstream_rejected"),
    Row("headers-flood", 502, "upstream_invalid_response"),
    Row("hostile-headers", 200),
    Row("no-id", 502, None, modes=TASK),
    Row("odd-id", 200, modes=TASK),
    Row("hostile-id", 502, "task_expired", modes=TASK),
    Row("hostile-id=number", 502, "task_expired", modes=TASK),
    Row("hostile-id=a task/7?", 502, "task_expired", modes=TASK),
    Row("completed-empty", 200, modes=TASK),
    Row("404-after-submit", 200, modes=TASK),
    Row("stuck-99", 504, "upstream_timeout", modes=TASK),
    Row("unknown-status", 200, modes=TASK),
    Row("progress-backwards", 200, modes=TASK),
    Row("success-then-failed", 200, modes=TASK),
    Row("duplicate-completion", 200, modes=TASK),
    Row("poll-500", 200, modes=TASK),
    Row("poll-429", 200, modes=TASK),
    Row("poll-404-html", 200, modes=TASK),
    Row("task-failed", 502, "upstream_error", modes=TASK),
    Row("moderation-task", 400, "content_policy_violation", modes=TASK),
    Row("id-changes", 200, modes=TASK),
]
CASES = [(row, mode) for row in ROWS for mode in row.modes]


@pytest.mark.parametrize(("row", "mode"), CASES, ids=[f"{r}-{m}" for r, m in CASES])
def test_a_fault_of_the_provider_is_one_post_one_answer_and_a_true_charge(
    start: Start, row: Row, mode: str
) -> None:
    soon: dict[str, Any] = {}
    if row.status == 504:
        soon = {"upstream_timeout_s": 1, "task_deadline_s": 1.5}
    elif row.code == "empty_result" and mode == "auto":
        soon = {"task_deadline_s": 3}
    koi = start(upstream_mode=mode, **soon)
    koi.sandbox.script(row.fault)
    with koi.client() as client:
        answer = client.post(GENERATE, json={**KOI, "n": 2})

    assert answer.status_code == row.status, answer.text
    assert koi.sandbox.posts == 1
    if row.status != 200:
        error = answer.json()["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        assert row.code in (None, error["code"])
        assert answer.headers["x-should-retry"] == row.retry
        assert "sk-" not in answer.text
        if row.code in FREE:
            assert [entry.images for entry in koi.entries()] == [0]
            assert koi.audit().open_jobs == 0
        if "retry-after" in answer.headers:
            assert 1 <= int(answer.headers["retry-after"]) <= 60


def test_an_unreachable_provider_costs_nothing_and_may_be_retried(start: Start) -> None:
    for target in ("http://127.0.0.1:9/v1", "http://koi.invalid/v1"):
        koi = start(upstream_base_url=target, allow_plain_upstream=True)
        with koi.client() as client:
            answer = client.post(GENERATE, json=KOI)

        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "upstream_unreachable"
        assert answer.headers["x-should-retry"] == "true"
        assert sum(entry.images for entry in koi.entries()) == 0


def test_a_failure_the_provider_bills_secretly_shows_as_a_shortfall(
    start: Start,
) -> None:
    koi = start()
    koi.sandbox.script("silent-bill")
    with koi.client() as client:
        answer = client.post(GENERATE, json=KOI)
    koi.settled()

    assert answer.status_code == 502
    assert koi.sandbox.billed_images == 1
    assert sum(entry.images for entry in koi.entries()) == 0
    koi.sandbox.reset()


def test_one_task_id_for_two_submits_never_shows_ones_picture_to_the_other(koi: Koi) -> None:
    koi.sandbox.script("duplicate-id", "duplicate-id")
    with koi.client() as client:
        first = client.post(GENERATE, json={**KOI, "prompt": "one"})
        second = client.post(GENERATE, json={**KOI, "prompt": "two"})

    assert first.status_code == 200
    assert second.status_code == 502
    assert second.json()["error"]["code"] == "upstream_ambiguous"


def test_a_task_nobody_asks_about_is_settled_all_the_same(koi: Koi) -> None:
    with koi.client() as client:
        client.post(GENERATE, json={**KOI, "async": True})

    koi.settled()

    assert [entry.images for entry in koi.entries()] == [1]


def test_however_many_watch_a_task_the_provider_is_asked_once_per_interval(
    start: Start,
) -> None:
    koi = start(upstream_poll_interval_s=0.2, task_deadline_s=120)
    koi.sandbox.set(latency_s=1.0)
    with koi.client() as client:
        task_id = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]
        while client.get(f"/v1/tasks/{task_id}").json()["status"] != "completed":
            pass

    assert koi.sandbox.polls <= 9


def test_a_task_of_any_name_is_found_on_the_bill_by_it(koi: Koi) -> None:
    koi.sandbox.script("odd-id")
    with koi.client() as client:
        assert client.post(GENERATE, json=KOI).status_code == 200
    koi.settled()

    (entry,) = koi.entries()
    assert [name for name in entry.calls if name.endswith("%20%C3%A9%3F%23")]


@pytest.mark.parametrize("charged", [False, True])
def test_a_fee_that_the_provider_names_is_charged_whatever_the_setting(
    start: Start, charged: bool
) -> None:
    koi = start(moderation_charged=charged)
    koi.sandbox.script("violation-fee", "moderation-400")
    with koi.client() as client:
        named = client.post(GENERATE, json={**KOI, "n": 2})
        unnamed = client.post(GENERATE, json={**KOI, "n": 2, "prompt": "another"})
    koi.settled()

    assert {named.json()["error"]["code"], unnamed.json()["error"]["code"]} == {
        "content_policy_violation"
    }
    assert sum(entry.images for entry in koi.entries()) == (4 if charged else 2)
    koi.sandbox.set(moderation_billed=charged)


def test_a_firewall_that_dislikes_one_prompt_stops_nobody_else(koi: Koi) -> None:
    koi.sandbox.script(*["403-html"] * 6)
    with koi.client() as client:
        refused = [
            client.post(GENERATE, json={**KOI, "prompt": f"'; DROP TABLE {n}"}) for n in range(6)
        ]
        served = client.post(GENERATE, json={**KOI, "prompt": "a koi"})

    assert {answer.status_code for answer in refused} == {502}
    assert served.status_code == 200
