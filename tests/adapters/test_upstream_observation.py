"""What a probe keeps of a reply: its shape, without the key, links or image bytes."""

import base64
import json
import time
from typing import Any

import pytest

from app.adapters.upstream.observation import ObservedReply, ReplyObserver
from app.adapters.upstream.wire import ProviderReply

KEY = "sk-very-secret"
LINK = "https://cdn.example.com/a/b.jpg?signature=abc&expires=1"
BYTES = base64.b64encode(b"\xff\xd8\xff\xe0" + b"x" * 400).decode()


def reply(body: Any, status: int = 200, **headers: str) -> ProviderReply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ProviderReply(
        status, {"content-type": "application/json", **named}, json.dumps(body).encode()
    )


def observe(body: Any, status: int = 200, **headers: str) -> ObservedReply:
    observer = ReplyObserver("https://api.example.com/v1", (KEY,), "grok-imagine")
    return observer.observe_answer(reply(body, status, **headers))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": f"bad key {KEY}", "code": "invalid_api_key"}}, 401),
        ({"error": {"message": f"see {LINK} for {KEY}", "code": KEY}}, 400),
        ({"code": 7, "message": LINK, KEY: {"deep": [LINK, KEY]}}, 400),
        ({"created": 1, "data": [{"url": LINK}], "poll_url": f"{LINK}&key={KEY}"}, 200),
        (
            {
                "created": 1,
                "data": [{"b64_json": BYTES}],
                "thumb": f"data:image/png;base64,{BYTES}",
            },
            200,
        ),
        ({"id": "task_1", "status": "queued", "preview": {"href": LINK}}, 200),
    ],
)
def test_no_secret_gets_into_what_is_kept(body: Any, status: int) -> None:
    seen = observe(body, status, x_request_id=KEY, server=LINK, set_cookie=KEY)

    kept = json.dumps([seen.body, dict(seen.headers), seen.message, seen.code, seen.word])
    for secret in (KEY, "signature", "cdn.example.com", BYTES, BYTES[:40]):
        assert secret not in kept


def test_what_changes_from_call_to_call_gives_way_to_placeholders() -> None:
    now = int(time.time())
    body = {
        "id": "task_42",
        "status": "processing",
        "progress": "50%",
        "model": "grok-imagine",
        "created_at": now,
        "finish_time": now + 3,
        "expires_at": now + 9_000,
        "when": str(now),
        "row": 17,
        "poll_url": "/v1/tasks/task_42",
        "note": "task_42 is drawn",
        "flag": True,
    }

    assert observe(body).body == {
        "id": "$id",
        "status": "$status",
        "progress": "$progress%",
        "model": "$model",
        "created_at": "$created",
        "finish_time": "$finishes",
        "expires_at": "$expires",
        "when": "$created_text",
        "row": 17,
        "poll_url": "/v1/tasks/$id",
        "note": "$id is drawn",
        "flag": True,
    }


@pytest.mark.parametrize(
    ("item", "template"),
    [
        ({"url": LINK, "revised_prompt": "a koi"}, {"url": "$url", "revised_prompt": "$revised"}),
        ({"b64_json": BYTES}, {"b64_json": "$b64"}),
        ({"url": [LINK], "size": 3}, {"url": ["$url"], "size": 3}),
        (LINK, "$url"),
    ],
)
def test_images_become_one_template_for_each(item: Any, template: Any) -> None:
    assert observe({"created": 1, "data": [item, item]}).body["data"] == {"$each": template}


def test_an_error_is_kept_word_for_word() -> None:
    body = {"error": {"message": "no such size", "type": "x", "param": "size", "code": 404}}

    assert observe(body, 400).body == body


def test_a_reply_that_is_no_json_is_kept_without_its_body() -> None:
    observer = ReplyObserver("https://api.example.com/v1", (KEY,), "grok-imagine")

    seen = observer.observe_answer(ProviderReply(502, {}, b"<html>bad gateway</html>"))

    assert seen.body is None
    assert seen.outcome.kind == "unclear"
