"""The stand-in provider: documented flows, its bill, its faults and its relatives."""

import base64
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from PIL import Image

from app.sandbox.faults import FAULTS
from app.sandbox.faults.row import Bills
from app.sandbox.generation import draw_latency
from app.sandbox.profiles import PROFILES
from app.sandbox.server import Sandbox
from app.sandbox.switches import Switches, UnknownSwitch

ROOT = Path(__file__).parents[2]
ORDER: dict[str, Any] = {"model": "grok-imagine", "prompt": "two koi in the rain"}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    with Sandbox(time_scale=0.002) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    return running


@pytest.fixture(scope="module")
def client(running: Sandbox) -> Iterator[httpx.Client]:
    headers = {"authorization": "Bearer sk-sandbox"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=5) as client:
        yield client


def post(client: httpx.Client, **fields: Any) -> httpx.Response:
    return client.post("/images/generations", json={**ORDER, **fields})


def finish(client: httpx.Client, task_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        body: dict[str, Any] = client.get(f"/tasks/{task_id}").json()
        if body.get("status") in {"completed", "failed"}:
            return body
        time.sleep(0.01)
    raise AssertionError("the task never ended")


def picture_at(url: str) -> Image.Image:
    reply = httpx.get(url)
    assert reply.status_code == 200
    return Image.open(io.BytesIO(reply.content))


# The documented contract


def test_a_plain_post_gives_links_to_jpegs_of_the_exact_size(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    reply = post(client, size="1536x1024", n=2)

    body = reply.json()
    pictures = [picture_at(item["url"]) for item in body["data"]]
    assert set(body) == {"created", "data"}
    assert [p.size for p in pictures] == [(1536, 1024)] * 2
    assert {p.format for p in pictures} == {"JPEG"}
    assert all(item["url"].startswith(sandbox.cdn_url) for item in body["data"])
    assert reply.headers["x-request-id"] == sandbox.bill()[0].request_id


def test_an_async_post_gives_a_task_that_ends_as_a_flat_union(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    sandbox.set(latency_s=6000.0)
    submitted = post(client, **{"async": True}).json()
    task = f"/tasks/{submitted['id']}"

    queued = client.get(task).json()
    sandbox.advance(3000)
    processing = client.get(task).json()
    sandbox.advance(3001)
    done = client.get(task).json()

    assert set(submitted) == {"id", "status", "progress"}
    assert (queued["status"], queued["progress"]) == ("queued", 0)
    assert processing["status"] == "processing"
    assert 49 <= processing["progress"] <= 51
    assert (done["status"], done["progress"]) == ("completed", 100)
    assert picture_at(done["data"][0]["url"]).size == (1024, 1024)


def test_b64_json_is_honoured_in_both_modes(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set(image_format="png")

    at_once = post(client, response_format="b64_json").json()
    task = post(client, response_format="b64_json", **{"async": True}).json()
    later = finish(client, task["id"])

    for body in (at_once, later):
        content = io.BytesIO(base64.b64decode(body["data"][0]["b64_json"]))
        assert Image.open(content).format == "PNG"


def test_pictures_differ_by_index_prompt_and_generation(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    bodies = [post(client, n=2).json(), post(client).json(), post(client, prompt="one").json()]

    links = [item["url"] for body in bodies for item in body["data"]]
    pictures = {picture_at(url).tobytes() for url in links}
    assert len(pictures) == 4


def test_the_same_seed_draws_the_same_picture_and_latency(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    def first_bytes(seed: int) -> bytes:
        with Sandbox(time_scale=0.0, seed=seed) as other:
            headers = {"x-api-key": "sk-sandbox"}
            reply = httpx.post(f"{other.url}/images/generations", json=ORDER, headers=headers)
            return httpx.get(reply.json()["data"][0]["url"]).content

    assert first_bytes(7) == first_bytes(7) != first_bytes(8)
    assert draw_latency("7|koi", 1, Switches()) == draw_latency("7|koi", 1, Switches())


def test_latency_stays_between_ten_and_thirty_seconds() -> None:
    draws = sorted(draw_latency(str(seed), 1, Switches()) for seed in range(400))

    assert draws[0] >= 10
    assert draws[-1] <= 30
    assert 15 <= draws[200] <= 17


def test_the_time_scale_shortens_a_generation(sandbox: Sandbox, client: httpx.Client) -> None:
    began = time.monotonic()

    post(client)

    assert 0.02 <= time.monotonic() - began < 5  # of ten to thirty


@pytest.mark.parametrize("path", ["/v1/images/generations", "/images/generations"])
@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_both_paths_and_both_key_headers_work(sandbox: Sandbox, path: str, header: str) -> None:
    value = "Bearer sk-sandbox" if header == "authorization" else "sk-sandbox"

    reply = httpx.post(sandbox.url.removesuffix("/v1") + path, json=ORDER, headers={header: value})

    assert reply.status_code == 200


def test_models_sync_modes_follow_the_provider_pages(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    forced = post(client, model="wan2.2-t2i-plus", size="720x1280").json()
    never = post(client, model="gpt-image-2-official", **{"async": True}).json()
    sandbox.set(force_task_on_sync=True)
    contradiction = post(client).json()

    assert forced["status"] == "queued"
    assert "data" in never
    assert contradiction["status"] == "queued"


@pytest.mark.parametrize(
    ("switches", "check"),
    [
        ({"done_shape": "bare"}, lambda b: set(b) == {"created", "data"}),
        ({"done_shape": "result"}, lambda b: b["result"]["data"][0]["url"]),
        ({"done_shape": "data"}, lambda b: b["data"]["data"][0]["url"]),
        ({"done_shape": "code"}, lambda b: b["code"] == 0 and b["data"]["data"][0]["url"]),
        ({"done_shape": "results"}, lambda b: b["results"][0].startswith("http")),
        ({"done_shape": "images"}, lambda b: b["images"][0]["url"][0].startswith("http")),
        ({"status_words": "openai"}, lambda b: b["status"] == "succeeded"),
        ({"progress_form": "percent"}, lambda b: b["progress"] == "100%"),
        ({"created_as_text": True}, lambda b: isinstance(b["created"], str)),
        ({"revised_prompt": "absent"}, lambda b: "revised_prompt" not in b["data"][0]),
    ],
)
def test_a_switch_changes_the_shape_of_a_finished_task(
    sandbox: Sandbox,
    client: httpx.Client,
    switches: dict[str, Any],
    check: Callable[[dict[str, Any]], bool],
) -> None:
    sandbox.set(latency_s=0.0, **switches)
    task = post(client, **{"async": True}).json()

    assert check(client.get(f"/tasks/{task['id']}").json())


# Keys, validation, rate limits


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [
        ("nonsense", 401, "invalid_api_key"),
        ("sk-disabled", 403, "app_disabled"),
        ("sk-nocapability", 403, "model_not_allowed"),
        ("sk-noscope", 403, "model_not_allowed"),
        ("sk-broke", 402, "insufficient_balance"),
        ("sk-budget", 429, "insufficient_quota"),
    ],
)
def test_a_bad_key_is_refused_in_its_own_way_and_costs_nothing(
    sandbox: Sandbox, key: str, status: int, code: str
) -> None:
    headers = {"authorization": f"Bearer {key}"}

    reply = httpx.post(f"{sandbox.url}/images/generations", json=ORDER, headers=headers)

    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert sandbox.bill() == []
    assert sandbox.posts == 1


@pytest.mark.parametrize(
    ("fields", "switches", "status", "param"),
    [
        ({"model": None}, {}, 400, "model"),
        ({"model": "no-such-model"}, {}, 404, "model"),
        ({"model": "no-such-model"}, {"unknown_model_status": 503}, 503, None),
        ({"prompt": ""}, {}, 400, "prompt"),
        ({"prompt": 7}, {}, 400, "prompt"),
        ({"prompt": "k" * 4001}, {"prompt_limit": 4000}, 400, "prompt"),
        ({"size": "512x512"}, {}, 400, "size"),
        ({"size": "512x512"}, {"strict_size": False}, 200, None),
        ({"quality": "ultra"}, {}, 400, "quality"),
        ({"quality": "ultra"}, {"strict_quality": False}, 200, None),
        ({"n": 0}, {}, 400, "n"),
        ({"n": 11}, {}, 400, "n"),
        ({"n": "2"}, {}, 400, "n"),
        ({"n": True}, {}, 400, "n"),
        ({"async": "yes"}, {}, 400, "async"),
        ({"response_format": "gif"}, {}, 400, "response_format"),
        ({"colour": "red"}, {}, 200, None),
        ({"colour": "red"}, {"strict_fields": True}, 422, "colour"),
        ({"prompt": "k" * 1_000_001}, {}, 413, None),
        ({"prompt": "[fault:nonsense]"}, {}, 400, None),
    ],
)
def test_a_request_is_validated_as_the_provider_does(
    sandbox: Sandbox,
    client: httpx.Client,
    fields: dict[str, Any],
    switches: dict[str, Any],
    status: int,
    param: str | None,
) -> None:
    sandbox.set(latency_s=0.0, **switches)

    reply = post(client, **fields)

    assert reply.status_code == status
    if status != 200:
        assert reply.json()["error"]["param"] == param
        assert sandbox.billed_images == 0


def test_the_rate_limit_is_off_until_switched_on_and_then_refuses(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    sandbox.set(latency_s=0.0)
    free = [post(client).status_code for _ in range(5)]
    sandbox.set(rpm=3, ratelimit_headers=True)

    replies = [post(client) for _ in range(5)]

    assert free == [200] * 5
    assert [r.status_code for r in replies] == [200, 200, 200, 429, 429]
    assert replies[0].headers["x-ratelimit-remaining-requests"] == "2"
    assert "retry-after" not in replies[3].headers
    assert replies[4].headers["retry-after"] == "60"
    sandbox.advance(60)
    assert post(client).status_code == 200


@pytest.mark.parametrize("limit", ["burst", "concurrency"])
def test_burst_and_concurrency_are_limits_of_their_own(
    sandbox: Sandbox, client: httpx.Client, limit: str
) -> None:
    sandbox.set(latency_s=60.0, **{limit: 2})

    codes = [post(client, **{"async": True}).status_code for _ in range(3)]
    sandbox.advance(61)

    assert codes == [200, 200, 429]
    assert post(client, **{"async": True}).status_code == 200


def test_polls_count_against_the_rate_limit(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set(rpm=2)
    task = post(client, **{"async": True}).json()

    codes = [client.get(f"/tasks/{task['id']}").status_code for _ in range(2)]

    assert codes == [200, 429]


def test_an_unknown_switch_fault_or_profile_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(UnknownSwitch):
        sandbox.set(colour="red")
    with pytest.raises(UnknownSwitch):
        sandbox.set(done_shape="round")
    with pytest.raises(ValueError, match="no fault"):
        sandbox.script("nonsense")
    with pytest.raises(KeyError):
        sandbox.set_profile("nonsense")


# The bill


def test_a_client_that_leaves_is_billed_all_the_same(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    sandbox.set(latency_s=0.2)
    timeout = httpx.Timeout(5, read=0.05)

    with pytest.raises(httpx.ReadTimeout):
        client.post("/images/generations", json={**ORDER, "n": 3}, timeout=timeout)
    time.sleep(0.25)

    line = sandbox.bill()[0]
    assert (line.n, line.billed, line.delivered) == (3, 3, 0)


def test_the_bill_comes_as_a_customer_downloads_it(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.script("ok", "task-failed", "400")
    post(client, quality="hd", n=2)
    post(client)
    post(client)

    heading, *rows = [line.split(",") for line in sandbox.fee_details().splitlines()]

    good, failed = (line.request_id for line in sandbox.bill())
    assert heading == ["Request ID", "Capability", "Model", "Tokens", "Amount", "Time"]
    assert [(row[0], row[2], row[4]) for row in rows] == [
        (good, "grok-imagine", "0.56"),
        (failed, "grok-imagine", "0.14"),
        (failed, "grok-imagine", "-0.14"),
    ]


def test_a_failed_task_is_refunded_when_it_fails(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set(latency_s=60.0)
    sandbox.script("task-failed=resource_exhausted")
    task = post(client, n=2, **{"async": True}).json()

    before = sandbox.billed_images
    sandbox.advance(61)
    body = client.get(f"/tasks/{task['id']}").json()

    assert before == 2
    assert sandbox.billed_images == 0
    assert body["error"]["code"] == "resource_exhausted"


def test_a_refusal_costs_money_when_switched_on(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set(moderation_billed=True)
    sandbox.script("moderation-400")

    reply = post(client, n=2)

    line = sandbox.bill()[0]
    assert reply.status_code == 400
    assert (line.billed, line.moderation_fee, line.delivered) == (2, 2, 0)


@pytest.mark.parametrize(("rule", "billed"), [("always", 1), ("never", 0)])
def test_a_switch_decides_the_money_of_every_fault(
    sandbox: Sandbox, client: httpx.Client, rule: str, billed: int
) -> None:
    sandbox.set(fault_bills=rule)
    sandbox.script("500", "ok")

    post(client)
    by_fault = sandbox.billed_images
    post(client)

    assert by_fault == billed
    assert sandbox.billed_images == billed + 1


def test_faults_come_at_the_rate_that_was_set(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set(latency_s=0.0, fault_rate=0.5, fault_names=["500", "503"])

    codes = {post(client).status_code for _ in range(40)}

    assert codes == {200, 500, 503}


def test_a_prompt_tag_names_a_fault(sandbox: Sandbox, client: httpx.Client) -> None:
    reply = post(client, prompt="a koi [fault:429=17] in a pond")

    assert (reply.status_code, reply.headers["retry-after"]) == (429, "17")


# Links and tasks end


def test_links_expire_by_time_by_command_and_when_forged(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    sandbox.set(latency_s=0.0, link_ttl_s=60.0)
    first, second, third = (post(client).json()["data"][0]["url"] for _ in range(3))

    forged = httpx.get(re.sub(r"expires=(\d)", r"expires=9\1", first)).status_code
    good = httpx.get(first).status_code
    sandbox.expire_links()
    by_command = httpx.get(second)
    sandbox.advance(61)
    by_time = httpx.get(third).status_code

    assert (forged, good, by_command.status_code, by_time) == (403, 200, 403, 403)
    assert b"AccessDenied" in by_command.content


def test_a_task_is_gone_after_its_retention(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set(latency_s=0.0)
    task = post(client, **{"async": True}).json()

    sandbox.advance(86_401)
    reply = client.get(f"/tasks/{task['id']}")

    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "task_not_found")


def test_requests_are_recorded_with_their_headers(sandbox: Sandbox, client: httpx.Client) -> None:
    url = post(client).json()["data"][0]["url"]

    httpx.get(url)

    asked, fetched = sandbox.requests
    assert (asked.server, asked.method, asked.path) == ("api", "POST", "/v1/images/generations")
    assert ("authorization", "Bearer sk-sandbox") in asked.headers
    assert json.loads(asked.body) == ORDER
    assert (fetched.server, fetched.path[:5]) == ("cdn", "/cdn/")


# Profiles


def links_in(body: Any) -> list[str]:
    """Every link of a reply, whatever its shape."""
    if isinstance(body, str):
        return [body] if "/cdn/" in body else []
    values = body.values() if isinstance(body, dict) else body if isinstance(body, list) else []
    return [link for value in values for link in links_in(value)]


POLLED_BY = {"dashscope": lambda b: b["output"]["task_id"], "xai-raw": lambda b: b["request_id"]}
POLLED_BY |= {
    "newapi": lambda b: b["data"]["task_id"],
    "apimart": lambda b: b["data"][0]["task_id"],
}


@pytest.mark.parametrize("name", list(PROFILES))
def test_every_profile_completes_a_generation(
    sandbox: Sandbox, client: httpx.Client, name: str
) -> None:
    sandbox.set_profile(name)
    sandbox.set(latency_s=60.0 if name != "grok2api" else 0.0)

    flag = "deferred" if name == "xai-raw" else "async"
    submitted = post(client, n=2, response_format="url", **{flag: True}).json()
    if name != "grok2api":
        task_id = POLLED_BY.get(name, lambda b: b["id"])(submitted)
        running = client.get(f"/tasks/{task_id}")
        assert links_in(running.json()) == []
        sandbox.advance(61)
        submitted = client.get(f"/tasks/{task_id}").json()

    links = set(links_in(submitted))
    root = sandbox.url.removesuffix("/v1") if name == "grok2api" else ""
    assert len(links) == 2
    assert {picture_at(root + link).format for link in links} == {"JPEG"}
    assert (sandbox.billed_images, sandbox.bill()[0].delivered) == (2, 2)


@pytest.mark.parametrize("name", list(PROFILES))
def test_every_profile_reports_a_failed_and_a_missing_task(
    sandbox: Sandbox, client: httpx.Client, name: str
) -> None:
    sandbox.set_profile(name)
    sandbox.set(latency_s=0.0)
    sandbox.script("task-failed=generation_timeout")

    flag = "deferred" if name == "xai-raw" else "async"
    submitted = post(client, **{flag: True})
    failed = submitted.text
    if name != "grok2api":
        task_id = POLLED_BY.get(name, lambda b: b["id"])(submitted.json())
        failed = client.get(f"/tasks/{task_id}").text
    missing = client.get("/tasks/task_0123456789abcdef01234567").text

    assert "generation_timeout" in failed or "the generation failed" in failed
    assert re.search("not.exist|UNKNOWN|no async task|unknown", missing)
    assert sandbox.billed_images == 0


def test_xai_raw_refuses_size_with_an_error_of_text(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set_profile("xai-raw")

    reply = post(client, size="1024x1024")

    assert reply.status_code == 400
    assert reply.json() == {"code": "invalid-argument", "error": "Argument not supported: size"}


def test_oneapi200_wraps_every_error_in_success(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set_profile("oneapi200")

    reply = post(client, n=99)

    assert (reply.status_code, reply.json()["error"]["param"]) == (200, "n")


# Faults: every row of the registry is shown and held to what it says

Seen = httpx.Response | httpx.HTTPError


class Shown(NamedTuple):
    arg: str
    check: Callable[[Seen], bool]


def status(code: int, *words: str) -> Shown:
    return Shown(
        "",
        lambda s: (
            isinstance(s, httpx.Response)
            and s.status_code == code
            and all(word in s.text for word in words)
        ),
    )


def retry(header: str, pattern: str) -> Shown:
    def check(seen: Seen) -> bool:
        assert isinstance(seen, httpx.Response)
        right = re.fullmatch(pattern, seen.headers.get(header, "none"))
        return seen.status_code == 429 and right is not None

    return Shown("", check)


def breaks(kind: type[httpx.HTTPError], arg: str = "") -> Shown:
    return Shown(arg, lambda s: isinstance(s, kind))


def body(check: Callable[[Any], bool]) -> Shown:
    return Shown(
        "", lambda s: isinstance(s, httpx.Response) and s.status_code == 200 and check(s.json())
    )


def first_link(pattern: str) -> Shown:
    return body(lambda b: re.match(pattern, b["data"][0]["url"]) is not None)


def content(check: Callable[[httpx.Response], bool], arg: str = "") -> Shown:
    return Shown(arg, lambda s: isinstance(s, httpx.Response) and check(s))


REPLIES: dict[str, Shown] = {
    **{str(code): status(code, "error") for code in (400, 401, 402, 403, 404, 413, 422)},
    **{str(code): status(code, "error") for code in (500, 503, 504)},
    "429": retry("retry-after", "none"),
    "429-int": retry("retry-after", "7"),
    "429-float": retry("retry-after", r"6\.5"),
    "429-date": retry("retry-after", r"\w{3}, .* GMT"),
    "429-ms": retry("retry-after-ms", "6001"),
    "429-long": retry("retry-after", "3600"),
    "429-huge": retry("retry-after", "1000000000"),
    "429-garbage": retry("retry-after", "soon"),
    "429-html": retry("retry-after", "7"),
    "429-empty": retry("retry-after", "none"),
    "401-text": status(401, "Unauthorized"),
    "402-html": status(402, "<h1>"),
    "403-html": status(403, "Just a moment"),
    "404-html": status(404, "<h1>"),
    "413-html": status(413, "<h1>"),
    "400-empty": status(400),
    "308": content(lambda r: (r.status_code, r.headers["location"][:5]) == (308, "https")),
    "violation-fee": status(400, "violation_fee"),
    "503-no-channel": status(503, "no available channel"),
    "silent-bill": status(500, "internal_error"),
    "502-html": status(502, "<h1>"),
    "503-html": status(503, "<h1>"),
    "504-html": status(504, "<h1>"),
    "524-html": status(524, "<h1>"),
    "moderation-400": status(400, "usage guidelines"),
    "reset-before-body": breaks(httpx.ReadError),
    "reset-after-accept": breaks(httpx.ReadError),
    "close-after-accept": breaks(httpx.RemoteProtocolError),
    "hang": breaks(httpx.RemoteProtocolError, "0.05"),
    "headers-then-hang": breaks(httpx.RemoteProtocolError, "0.05"),
    "trickle": content(lambda r: len(r.json()["data"]) == 2, "0.0001"),
    "reset-mid-body": breaks(httpx.ReadError),
    "truncated-close": content(lambda r: not r.text.endswith("}")),
    "short-length": breaks(httpx.RemoteProtocolError),
    "huge-body": content(lambda r: len(r.content) > 3_000_000, "3"),
    "gzip-bomb": breaks(httpx.DecodingError, "3"),
    "headers-flood": breaks(httpx.RemoteProtocolError),
    "header-huge": breaks(httpx.RemoteProtocolError),
    "continue-flood": content(lambda r: len(r.json()["data"]) == 2, "500"),
    "hostile-headers": content(lambda r: "set-cookie" in r.headers and "data" in r.json()),
    "redirect": content(lambda r: (r.status_code, r.headers["location"][:4]) == (307, "http")),
    "html-200": status(200, "<!doctype html>"),
    "wrong-content-type": content(lambda r: r.headers["content-type"] == "text/plain"),
    "error-200": status(200, '"error"'),
    "error-200-code": body(lambda b: b["code"] == 1302),
    "prose-200": status(200, "policy"),
    "encoded": content(lambda r: r.headers["content-encoding"] == "gzip" and "data" in r.json()),
    "json-bom": content(lambda r: r.content[:3] == b"\xef\xbb\xbf"),
    "json-junk": content(lambda r: r.text.endswith("-->")),
    "truncated-json": content(lambda r: r.status_code == 200 and "}]}" not in r.text),
    "empty-body": content(lambda r: (r.status_code, r.content) == (200, b"")),
    "not-an-object": body(lambda b: isinstance(b, list)),
    "json-nan": status(200, "NaN"),
    "json-dup": content(lambda r: r.text.count('"data":') == 2),
    "json-deep": status(200, "[" * 100_000),
    "json-surrogate": status(200, "\\ud800"),
}
RESULTS: dict[str, Shown] = {
    "fewer": body(lambda b: len(b["data"]) == 1),
    "more": body(lambda b: len(b["data"]) == 3),
    "empty-200": body(lambda b: b["data"] == []),
    "data-null": body(lambda b: b["data"] is None),
    "no-usable": body(lambda b: not any(i.get("url") for i in b["data"])),
    "moderation-200": body(lambda b: b["data"] == [] and b["block_reason"] != ""),
    "moderation-item": body(lambda b: b["data"][0]["respect_moderation"] is False),
    "b64-prefix": body(lambda b: b["data"][0]["b64_json"].startswith("data:image/jpeg;base64,/9j")),
    "b64-garbage": body(lambda b: "@" in b["data"][0]["b64_json"]),
    "url-http": first_link(r"http://cdn\.test/"),
    "url-private": first_link(r"https://169\.254"),
    "url-data": first_link("data:image/png;base64,"),
    "url-script": first_link("javascript:"),
    "url-long": body(lambda b: len(b["data"][0]["url"]) > 1_000_000),
    "url-relative": first_link("/cdn/"),
    "url-scheme-relative": first_link("//127"),
}
SUBMITS: dict[str, Shown] = {
    "no-id": body(lambda b: set(b) == {"status", "progress"}),
    "duplicate-id": body(lambda b: b["id"].startswith("task_")),
    "odd-id": body(lambda b: b["id"].endswith(" é?#")),
    "hostile-id": body(lambda b: "\r\n" in b["id"]),
}
POLLS: dict[str, tuple[str, ...]] = {
    # What the five looks see: two while it runs, three after its end.
    "404-after-submit": ("404", "404", "completed", "completed", "completed"),
    "404-for-a-while": ("processing", "404", "404", "completed", "completed"),
    "forgotten": ("404", "404", "404", "404", "404"),
    "stuck-99": ("processing 99",) * 5,
    "progress-backwards": ("processing 80", "processing 60", "completed", "completed", "completed"),
    "unknown-status": ("pondering", "pondering", "completed", "completed", "completed"),
    "duplicate-completion": ("processing", "processing", "completed", "completed", "completed"),
    "completed-empty": ("processing", "processing", "completed", "completed", "completed"),
    "poll-404-html": ("404", "404", "completed", "completed", "completed"),
    "success-then-failed": ("processing", "processing", "completed", "failed", "failed"),
    "id-changes": ("gen_", "gen_", "gen_", "gen_", "gen_"),
    "poll-500": ("500", "500", "completed", "completed", "completed"),
    "poll-429": ("429", "429", "completed", "completed", "completed"),
    "poll-502-html": ("502", "502", "completed", "completed", "completed"),
    "poll-reset": ("ReadError", "ReadError", "completed", "completed", "completed"),
    "poll-hang": ("ReadTimeout", "processing", "completed", "completed", "completed"),
    "task-failed": ("processing", "processing", "failed", "failed", "failed"),
    "moderation-task": ("processing", "processing", *("content_policy_violation",) * 3),
}
LINKS: dict[str, Shown] = {
    "cdn-slow": content(lambda r: r.content[:2] == b"\xff\xd8", "0.05"),
    "cdn-trickle": content(lambda r: r.content[:2] == b"\xff\xd8", "0"),
    "cdn-cut": breaks(httpx.ReadError),
    "cdn-hang": breaks(httpx.RemoteProtocolError, "0.05"),
    "cdn-wrong-type": content(lambda r: r.headers["content-type"] == "application/octet-stream"),
    "cdn-redirect": content(lambda r: r.status_code == 302 and "169.254" in r.headers["location"]),
    "cdn-empty": content(lambda r: (r.status_code, r.content) == (200, b"")),
    "cdn-html": content(lambda r: r.headers["content-type"] == "text/html"),
    "cdn-disguised": content(lambda r: r.content[:6] == b"<html>"),
    "cdn-huge": content(lambda r: len(r.content) > 2_000_000, "2"),
    "cdn-404": status(404, "NoSuchKey"),
    "cdn-away": status(404, "NoSuchKey"),
    "cdn-shorter": content(lambda r: r.content[-2:] != b"\xff\xd9"),
    "cdn-zeros": content(lambda r: r.content[:2] == b"\xff\xd8" and r.content[-1] == 0),
    "cdn-gzip": content(lambda r: r.headers["content-encoding"] == "gzip"),
    "cdn-flaky": status(503, "SlowDown"),
    "cdn-one-gone": status(404, "NoSuchKey"),
}


def test_every_registered_fault_has_its_expectation() -> None:
    assert set(FAULTS) == {*REPLIES, *RESULTS, *SUBMITS, *POLLS, *LINKS}


def seen_by(call: Callable[[], httpx.Response]) -> Seen:
    try:
        return call()
    except httpx.HTTPError as error:
        return error


def assert_billed(sandbox: Sandbox, name: str) -> None:
    """Two images were ordered; the row says what they cost."""
    row = FAULTS[name]
    costs = {Bills.ALL: 2 + row.extra_images, Bills.WITHHELD: 1}
    lines = [line for line in sandbox.bill() if line.n == 2]
    assert sum(line.billed for line in lines) == costs.get(row.bills, 0)
    assert len(lines) == (0 if row.bills is Bills.NOTHING else 1)


@pytest.mark.parametrize("name", [*REPLIES, *RESULTS])
def test_a_fault_of_a_reply_shows_and_bills_as_its_row_says(
    sandbox: Sandbox, client: httpx.Client, name: str
) -> None:
    sandbox.set(latency_s=0.0, picture_style="plain")
    expected = {**REPLIES, **RESULTS}[name]
    sandbox.script(f"{name}={expected.arg}" if expected.arg else name)

    seen = seen_by(lambda: post(client, n=2))

    assert expected.check(seen), seen
    assert_billed(sandbox, name)
    assert sandbox.posts == 1


@pytest.mark.parametrize("name", list(SUBMITS))
def test_a_fault_of_a_task_id_shows_and_bills_as_its_row_says(
    sandbox: Sandbox, client: httpx.Client, name: str
) -> None:
    sandbox.set(latency_s=0.0)
    before = post(client, **{"async": True}).json()
    sandbox.script(name)

    seen = seen_by(lambda: post(client, n=2, **{"async": True}))

    assert SUBMITS[name].check(seen), seen
    assert_billed(sandbox, name)
    if name == "duplicate-id":
        assert isinstance(seen, httpx.Response)
        assert seen.json()["id"] == before["id"]


@pytest.mark.parametrize("name", list(POLLS))
def test_a_fault_of_a_poll_shows_and_bills_as_its_row_says(
    sandbox: Sandbox, client: httpx.Client, name: str
) -> None:
    sandbox.set(latency_s=60.0)
    sandbox.script(name)
    task = post(client, n=2, **{"async": True}).json()
    sandbox.advance(30)

    for number, expected in enumerate(POLLS[name], start=1):
        if number == 3:
            sandbox.advance(31)
        timeout = 0.3 if expected == "ReadTimeout" else 5
        look = partial(client.get, f"/tasks/{task['id']}", timeout=timeout)
        seen = seen_by(look)
        assert expected in _summary(seen)

    assert_billed(sandbox, name)


def _summary(seen: Seen) -> str:
    if isinstance(seen, httpx.HTTPError):
        return type(seen).__name__
    if seen.status_code != 200:
        return str(seen.status_code)
    found = seen.json()
    return f"{found['id']} {found['status']} {found['progress']} {found.get('error')}"


def test_a_second_completion_gives_other_links(sandbox: Sandbox, client: httpx.Client) -> None:
    sandbox.set(latency_s=0.0)
    sandbox.script("duplicate-completion")
    task = post(client, **{"async": True}).json()

    links = [client.get(f"/tasks/{task['id']}").json()["data"][0]["url"] for _ in range(2)]

    assert links[0] != links[1]
    assert picture_at(links[0]).tobytes() == picture_at(links[1]).tobytes()


@pytest.mark.parametrize("name", list(LINKS))
def test_a_fault_of_a_download_shows_and_bills_as_its_row_says(
    sandbox: Sandbox, client: httpx.Client, name: str
) -> None:
    sandbox.set(latency_s=0.0, picture_style="plain")
    expected = LINKS[name]
    sandbox.script(f"{name}={expected.arg}" if expected.arg else name)
    url = post(client, n=2).json()["data"][0]["url"]

    seen = seen_by(lambda: httpx.get(url))

    assert expected.check(seen), seen
    assert_billed(sandbox, name)


@pytest.mark.parametrize(
    ("name", "billed"),
    [
        *((name, 1) for name in ("hang=0", "reset-after-accept", "502-html", "truncated-json")),
        *((name, 1) for name in ("silent-bill", "headers-then-hang=0", "reset-mid-body")),
        *((name, 0) for name in ("401", "429", "500", "503-no-channel", "reset-before-body")),
    ],
)
def test_the_ambiguous_faults_bill_and_the_honest_refusals_do_not(
    sandbox: Sandbox, client: httpx.Client, name: str, billed: int
) -> None:
    sandbox.script(name)

    seen_by(lambda: post(client))

    assert sandbox.billed_images == billed


@pytest.mark.parametrize(
    ("name", "status_code"), [("task-failed", 500), ("moderation-task", 400), ("stuck-99", 200)]
)
def test_a_fault_of_a_task_has_a_meaning_for_a_sync_call_too(
    sandbox: Sandbox, client: httpx.Client, name: str, status_code: int
) -> None:
    sandbox.script(name)

    assert post(client).status_code == status_code


def test_a_task_lost_in_the_submit_reply_still_exists_and_costs(
    sandbox: Sandbox, client: httpx.Client
) -> None:
    sandbox.script("reset-after-accept")

    seen = seen_by(lambda: post(client, n=2, **{"async": True}))

    assert isinstance(seen, httpx.ReadError)
    assert sandbox.billed_images == 2


def test_floods_really_reach_the_wire(sandbox: Sandbox) -> None:
    sandbox.set(latency_s=0.0)
    sandbox.script("headers-flood", "continue-flood", "header-huge")
    text = json.dumps(ORDER).encode()
    request = (
        b"POST /v1/images/generations HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: sk-sandbox\r\n"
        b"content-length: %d\r\n\r\n%s" % (len(text), text)
    )
    port = httpx.URL(sandbox.url).port

    answers = []
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port or 0), timeout=5) as wire:
            wire.sendall(request)
            answers.append(b"".join(iter(lambda: wire.recv(65_536), b"")))

    assert answers[0].count(b"x-flood-") == 20_000
    assert answers[1].count(b"100 Continue") == 20_000
    assert max(map(len, answers[2].split(b"\r\n"))) > 1_000_000


# Running


def test_a_taken_port_is_an_error_and_leaves_nothing_open(sandbox: Sandbox) -> None:
    port = httpx.URL(sandbox.url).port or 0

    with pytest.raises(OSError, match="in use"), Sandbox(cdn_port=port):
        pass


def test_a_reset_forgets_everything_but_what_it_started_with(client: httpx.Client) -> None:
    with Sandbox(profile="evolink") as other:
        other.start_with(rpm=1)
        other.set_profile("doc")
        other.script("500")
        other.reset()
        headers = {"x-api-key": "sk-sandbox"}
        url = f"{other.url}/images/generations"

        replies = [httpx.post(url, json=ORDER, headers=headers) for _ in range(2)]

    assert [r.status_code for r in replies] == [200, 429]
    assert replies[0].json()["object"] == "image.generation.task"
    assert other.billed_images == 1


def test_stopping_does_not_wait_for_a_hanging_request() -> None:
    with Sandbox() as sandbox:
        sandbox.script("hang")
        call = threading.Thread(
            target=lambda: seen_by(
                lambda: httpx.post(
                    f"{sandbox.url}/images/generations",
                    json=ORDER,
                    headers={"x-api-key": "sk-sandbox"},
                    timeout=20,
                )
            )
        )
        call.start()
        while not sandbox.bill():
            time.sleep(0.01)
        began = time.monotonic()

    took_s = time.monotonic() - began
    call.join(timeout=10)
    assert took_s < 10
    assert not call.is_alive()
    assert sandbox.billed_images == 1


def test_a_sandbox_process_is_driven_over_http_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "app.sandbox", "--time-scale", "0.001"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"]
        sim = url.removesuffix("/v1") + "/__sim"
        headers = {"authorization": "Bearer sk-sandbox"}

        httpx.post(f"{sim}/faults", json={"faults": ["500"]})
        httpx.post(f"{sim}/switches", json={"latency_s": 0})
        codes = [
            httpx.post(f"{url}/images/generations", json=ORDER, headers=headers).status_code
            for _ in range(2)
        ]
        ledger = httpx.get(f"{sim}/ledger").json()
        fees = httpx.get(f"{sim}/ledger?format=csv")
        refused = httpx.post(f"{sim}/switches", json={"colour": "red"}).status_code
        profile = httpx.post(f"{sim}/profile", json={"name": "apimart"}).json()["profile"]
        state = httpx.get(f"{sim}/state").json()
        child.send_signal(signal.SIGTERM)

        assert codes == [500, 200]
        assert ledger["billed_images"] == 1
        assert ledger["lines"][0]["model"] == "grok-imagine"
        assert fees.headers["content-type"].startswith("text/csv")
        assert fees.text.splitlines()[1].startswith(ledger["lines"][0]["request_id"])
        assert (refused, profile, state["posts"]) == (400, "apimart", 2)
        assert child.wait(timeout=30) == 0
