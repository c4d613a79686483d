"""Tasks in every dialect of the provider's family: accepted, running, missing, nameless."""

import contextlib
from typing import Any

import pytest

from app.domain.errors import UpstreamError
from app.domain.job import TaskStatus
from app.domain.upstream import PollInconclusive, TaskPending
from tests.adapters.upstream_script import (
    DONE,
    HTML,
    KOI,
    LINK,
    P3,
    TASK,
    poll,
    raw,
    reply,
    scripted,
    submit,
)

QUEUED, PROCESSING = TaskStatus.QUEUED, TaskStatus.PROCESSING

SUBMITTED: dict[str, tuple[Any, TaskPending]] = {
    "dieyuyun": (
        {"id": TASK, "status": "queued", "progress": 0},
        TaskPending(TASK, QUEUED, 0),
    ),
    "dieyuyun-processing": (
        {"id": TASK, "status": "processing", "progress": 40},
        TaskPending(TASK, PROCESSING, 40),
    ),
    "dieyuyun-video": ({"task_id": TASK, "status": "queued"}, TaskPending(TASK, QUEUED)),
    "lemondata-empty-url-trap": (
        {
            "created": 1,
            "id": TASK,
            "task_id": TASK,
            "poll_url": "/v1/tasks/x",
            "status": "pending",
            "data": [{"url": ""}],
        },
        TaskPending(TASK, QUEUED),
    ),
    "empty-url-trap-without-status": (
        {"created": 1, "id": TASK, "data": [{"url": ""}]},
        TaskPending(TASK, PROCESSING),
    ),
    "evolink": (
        {
            "created": 1,
            "id": TASK,
            "object": "image.generation.task",
            "model": "m",
            "progress": 0,
            "status": "pending",
        },
        TaskPending(TASK, QUEUED, 0),
    ),
    "apimart-list": (
        {"code": 200, "data": [{"status": "submitted", "task_id": TASK}]},
        TaskPending(TASK, QUEUED),
    ),
    "apimart-object": (
        {"code": 200, "data": {"status": "submitted", "task_id": TASK}},
        TaskPending(TASK, QUEUED),
    ),
    "toapis": (
        {
            "id": TASK,
            "object": "generation.task",
            "model": "m",
            "status": "in_progress",
            "progress": 5,
            "created_at": 1,
            "metadata": {},
        },
        TaskPending(TASK, PROCESSING, 5),
    ),
    "yuannengai": ({"code": 200, "data": {"task_id": TASK}}, TaskPending(TASK, PROCESSING)),
    "mountsea": ({"taskId": TASK}, TaskPending(TASK, PROCESSING)),
    "mountsea-ready": ({"taskId": TASK, "status": "ready"}, TaskPending(TASK, QUEUED)),
    "jiekou": ({"task_id": TASK}, TaskPending(TASK, PROCESSING)),
    "jiekou-task-envelope": (
        {
            "task": {"task_id": TASK, "status": "TASK_STATUS_QUEUED", "progress_percent": 0},
            "images": [],
        },
        TaskPending(TASK, QUEUED, 0),
    ),
    "dashscope": (
        {"request_id": "req-1", "output": {"task_id": TASK, "task_status": "PENDING"}},
        TaskPending(TASK, QUEUED),
    ),
    "new-api-row-number-is-no-id": (
        {
            "code": "success",
            "message": "",
            "data": {"id": 17, "task_id": TASK, "status": "NOT_START", "progress": "0%"},
        },
        TaskPending(TASK, QUEUED, 0),
    ),
    "new-api-video": (
        {"id": TASK, "task_id": TASK, "object": "video", "status": "queued", "progress": 0},
        TaskPending(TASK, QUEUED, 0),
    ),
    "xai-deferred": ({"request_id": TASK}, TaskPending(TASK, PROCESSING)),
    "gptimage2api": ({"taskId": TASK, "status": 0}, TaskPending(TASK, PROCESSING)),
    "51kik": ({"task_id": TASK, "task_status": "pending"}, TaskPending(TASK, QUEUED)),
    "envelope-says-success-of-the-call": (
        {"status": "success", "data": {"task_id": TASK}},
        TaskPending(TASK, PROCESSING),
    ),
    "task-next-to-a-code-nobody-knows": (
        {"code": 10000, "message": "accepted", "data": {"task_id": TASK}},
        TaskPending(TASK, PROCESSING),
    ),
    "unknown-word": (
        {"id": TASK, "status": "pondering"},
        TaskPending(TASK, PROCESSING, is_known_status=False),
    ),
}


@pytest.mark.parametrize("shape", SUBMITTED)
@pytest.mark.parametrize("status", [200, 202])
async def test_a_post_answered_by_a_task_is_running(shape: str, status: int) -> None:
    body, expected = SUBMITTED[shape]

    answer = await submit(body, status)

    assert answer == expected


RUNNING: dict[str, tuple[Any, TaskPending]] = {
    "percent-text": (
        {"id": TASK, "status": "IN_PROGRESS", "progress": "50%"},
        TaskPending(TASK, PROCESSING, 50),
    ),
    "share": (
        {"id": TASK, "status": "processing", "progress": 0.5},
        TaskPending(TASK, PROCESSING, 50),
    ),
    "object": (
        {"id": TASK, "status": "processing", "progress": {"current": 1, "total": 4}},
        TaskPending(TASK, PROCESSING, 25),
    ),
    "beyond": (
        {"id": TASK, "status": "processing", "progress": "250"},
        TaskPending(TASK, PROCESSING, 99),
    ),
    "null": ({"id": TASK, "status": "processing", "progress": None}, TaskPending(TASK, PROCESSING)),
    "huge": (
        {"id": TASK, "status": "processing", "progress": 10**300},
        TaskPending(TASK, PROCESSING, 99),
    ),
    "boolean": (
        {"id": TASK, "status": "processing", "progress": True},
        TaskPending(TASK, PROCESSING),
    ),
    "another-id": ({"id": "gen_other", "status": "processing"}, TaskPending(TASK, PROCESSING)),
    "hostile-id": ({"id": "../../x", "status": "processing"}, TaskPending(TASK, PROCESSING)),
    "no-id": ({"status": "generating"}, TaskPending(TASK, PROCESSING)),
    "suspended": (
        {"output": {"task_id": TASK, "task_status": "SUSPENDED"}},
        TaskPending(TASK, PROCESSING),
    ),
    "prefixed": ({"task": {"status": "TASK_STATUS_PROCESSING"}}, TaskPending(TASK, PROCESSING)),
    "url-while-running": (
        {"id": TASK, "status": "processing", "data": [{"url": LINK}]},
        TaskPending(TASK, PROCESSING),
    ),
    "unknown-word": ({"status": "painting"}, TaskPending(TASK, PROCESSING, is_known_status=False)),
}


@pytest.mark.parametrize("shape", RUNNING)
async def test_a_poll_of_unfinished_work_is_running_under_our_id(shape: str) -> None:
    body, expected = RUNNING[shape]

    answer = await poll(body)

    assert answer == expected


MISSING: dict[str, tuple[int, Any]] = {
    "openai-404": (404, {"error": {"message": "no such task", "code": "task_not_found"}}),
    "lemondata": (404, {"error": {"message": "gone", "code": "async_task_not_found"}}),
    "evolink-malformed": (400, {"error": {"message": "bad id", "code": "invalid_task_id"}}),
    "new-api": (400, {"code": "task_not_exist", "message": "task_not_exist", "data": None}),
    "oneapi-200": (200, {"error": {"message": "no such task", "code": "task_not_found"}}),
    "dashscope-unknown": (200, {"output": {"task_id": TASK, "task_status": "UNKNOWN"}}),
    "gone": (410, {"error": {"message": "expired"}}),
    "flat-404": (404, {"detail": "Not Found"}),
}


@pytest.mark.parametrize("shape", MISSING)
async def test_a_task_the_provider_does_not_know_is_missing(shape: str) -> None:
    status, body = MISSING[shape]

    with pytest.raises(PollInconclusive) as trouble:
        await poll(body, status)

    assert trouble.value.missing


TROUBLED: dict[str, tuple[int, Any]] = {
    "500": (500, {"error": {"message": "oops", "code": "internal_error"}}),
    "429": (429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
    "401": (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}),
    "402": (402, {"error": {"message": "empty", "code": "insufficient_balance"}}),
    "200-error": (200, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}),
    "200-code": (200, {"code": 1302, "message": "the channel is saturated", "data": None}),
    "200-status-error": (200, {"status": "error", "message": "too many requests"}),
    "empty-object": (200, {}),
    "list": (200, [DONE]),
}


@pytest.mark.parametrize("shape", TROUBLED)
async def test_a_poll_that_says_nothing_of_the_task_leaves_it_alone(shape: str) -> None:
    status, body = TROUBLED[shape]

    with pytest.raises(PollInconclusive) as trouble:
        await poll(body, status)

    assert not trouble.value.missing


async def test_a_poll_is_told_when_to_come_again() -> None:
    busy = reply(429, {"error": {"message": "slow down"}}, "Retry-After: 7")

    async with scripted(busy) as (provider, _):
        with pytest.raises(PollInconclusive) as trouble:
            await provider.poll(TASK)

    assert trouble.value.retry_after_s == 7


@pytest.mark.parametrize("status", [301, 308, 400, 401, 403, 404, 410, 418, 429, 500, 502])
async def test_a_strangers_page_says_nothing_of_the_task(status: int) -> None:
    async with scripted(raw(status, HTML, "Retry-After: 9")) as (provider, _):
        with pytest.raises(PollInconclusive) as trouble:
            await provider.poll(TASK)

    assert not trouble.value.missing
    assert trouble.value.throttled is (status == 429)
    assert trouble.value.retry_after_s == 9


NO_ID: dict[str, Any] = {
    "absent": {"status": "queued", "progress": 0},
    "blank": {"id": "  ", "status": "queued"},
    "parent": {"id": "..", "status": "queued"},
    "long": {"id": "k" * 513, "status": "queued"},
    "long-in-bytes": {"id": "锦" * 200, "status": "queued"},
    "object": {"id": {"id": "task_1"}, "status": "queued"},
    "truth": {"id": True, "status": "queued"},
    "negative": {"id": -1, "status": "queued"},
    "unknown-word-without-id": {"status": "pondering"},
}


@pytest.mark.parametrize("shape", NO_ID)
async def test_a_task_without_a_sane_id_is_held_as_unknown(shape: str) -> None:
    with pytest.raises(UpstreamError) as failed:
        await submit(NO_ID[shape])

    assert failed.value.reason == "upstream_invalid_response"
    assert failed.value.proof is P3


ODD_IDS: dict[str, tuple[Any, str]] = {
    "number": (12345, "12345"),
    "long-number": (98765432109876543210, "98765432109876543210"),
    "path": ("../../v1/models?x=1#", "..%2F..%2Fv1%2Fmodels%3Fx%3D1%23"),
    "line-breaks": ("a\r\nx-evil: 1", "a%0D%0Ax-evil%3A%201"),
    "newline-at-the-end": ("task_1\n", "task_1%0A"),
    "blanks": ("a task", "a%20task"),
    "encoded": ("%2e%2e", "%252e%252e"),
    "digits-of-another-script": ("task_\u0661", "task_%D9%A1"),
    "long": ("k" * 512, "k" * 512),
    "base64": ("Zm9v+/8=", "Zm9v%2B%2F8%3D"),
}


@pytest.mark.parametrize("shape", ODD_IDS)
async def test_any_id_is_kept_and_asked_for_as_one_segment_of_the_path(shape: str) -> None:
    said, segment = ODD_IDS[shape]

    async with scripted(reply(200, {"id": said, "status": "queued"}), reply(200, DONE)) as (
        provider,
        upstream,
    ):
        running = await provider.dispatch(KOI, asynchronous=True)
        assert isinstance(running, TaskPending)
        await provider.poll(running.upstream_id)

    assert running.upstream_id == str(said)
    assert upstream.asked[1].line == f"GET /v1/tasks/{segment} HTTP/1.1"


@pytest.mark.parametrize("upstream_id", ["..", ".", "", " ", "k" * 513])
async def test_what_can_be_no_id_never_reaches_a_url(upstream_id: str) -> None:
    async with scripted(reply(200, DONE)) as (provider, upstream):
        with pytest.raises(UpstreamError):
            await provider.poll(upstream_id)

    assert upstream.asked == []


async def test_a_poll_asks_for_the_task_it_was_given() -> None:
    async with scripted(reply(200, DONE)) as (provider, upstream):
        await provider.poll(TASK)

    assert upstream.asked[0].line == f"GET /v1/tasks/{TASK} HTTP/1.1"


@pytest.mark.parametrize(
    ("script", "event"),
    [
        (reply(200, {"id": TASK, "status": "pondering"}), "unknown_status"),
        (reply(200, {"data": [{"respect_moderation": False}]}), "silent_moderation"),
    ],
)
async def test_oddities_are_observed(script: Any, event: str) -> None:
    events: list[str] = []

    async with scripted(script, observe=events.append) as (provider, _):
        with contextlib.suppress(UpstreamError):
            await provider.dispatch(KOI, asynchronous=True)

    assert events == [event]
