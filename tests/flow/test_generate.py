"""POST /v1/images/generations, end to end: real sockets, real store, the sandbox and its bill."""

import base64
import io
import json
import time

import httpx
import pytest
from PIL import Image

from tests.flow.conftest import Start
from tests.harness import KOI, Koi

GENERATE = "/v1/images/generations"


def picture_of(body: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def wait_for(client: httpx.Client, task_id: str, seconds: float = 10) -> dict:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        task = client.get(f"/v1/tasks/{task_id}", params={"wait": 5}).json()
        if task["status"] in ("completed", "failed"):
            return task
    raise AssertionError(f"{task_id} did not end")


@pytest.mark.parametrize("mode", ["auto", "sync"])
def test_a_sync_caller_gets_a_picture_it_can_open(start: Start, mode: str) -> None:
    koi = start(upstream_mode=mode)
    with koi.client() as client:
        answer = client.post(GENERATE, json={**KOI, "size": "1536x1024"})
        url = answer.json()["data"][0]["url"]
        picture = picture_of(httpx.get(url).content)

    assert answer.status_code == 200
    assert url.startswith(koi.url)
    assert picture.size == (1536, 1024)
    assert answer.json()["created"] > 1_700_000_000
    assert answer.json()["data"][0]["revised_prompt"]
    assert answer.headers["x-koi-cache"] == "miss"
    assert answer.headers["x-koi-task-id"].startswith("task_")


@pytest.mark.parametrize("mode", ["auto", "sync"])
def test_an_async_caller_gets_a_task_and_then_the_same_shape(start: Start, mode: str) -> None:
    koi = start(upstream_mode=mode)
    with koi.client() as client:
        submitted = client.post(GENERATE, json={**KOI, "async": True})
        task = wait_for(client, submitted.json()["id"])

    assert submitted.status_code == 200
    assert submitted.json()["status"] == "queued"
    assert submitted.json()["progress"] == 0
    assert task["object"] == "task"
    assert (task["status"], task["progress"], task["error"]) == ("completed", 100, None)
    assert picture_of(httpx.get(task["data"][0]["url"]).content).size == (1024, 1024)


@pytest.mark.parametrize("model_mode", ["async", "sync"])
def test_a_model_of_one_mode_serves_callers_of_both(start: Start, model_mode: str) -> None:
    koi = start()
    koi.sandbox.set(force_task_on_sync=model_mode == "async")
    with koi.client() as client:
        now = client.post(GENERATE, json=KOI)
        later = client.post(GENERATE, json={**KOI, "prompt": "another", "async": True})
        task = wait_for(client, later.json()["id"])

    assert now.status_code == 200
    assert task["status"] == "completed"


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
@pytest.mark.parametrize("profile", ["doc", "grok2api", "apimart"])
def test_both_formats_are_possible_whatever_the_provider_sends(
    koi: Koi, response_format: str, profile: str
) -> None:
    koi.sandbox.set_profile(profile)
    with koi.client() as client:
        answer = client.post(GENERATE, json={**KOI, "response_format": response_format})
    (item,) = answer.json()["data"]

    if response_format == "b64_json":
        body = base64.b64decode(item["b64_json"])
    else:
        body = httpx.get(item["url"]).content

    assert picture_of(body).width > 500


PROFILES = [
    "doc", "doc-bare", "lemondata", "evolink", "apimart", "toapis", "newapi", "dashscope",
    "grok2api", "oneapi200",
]  # fmt: skip


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_dialect_ends_in_the_same_answer(koi: Koi, profile: str, asynchronous: bool) -> None:
    koi.sandbox.set_profile(profile)
    with koi.client() as client:
        answer = client.post(GENERATE, json={**KOI, "n": 2, "async": asynchronous})
        body = wait_for(client, answer.json()["id"]) if asynchronous else answer.json()

    assert len(body["data"]) in (1, 2)
    assert all(item["url"].startswith(koi.url) for item in body["data"])


def test_more_images_than_one_upstream_call_carries_are_fanned_out(
    start: Start, tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalog = tmp_path_factory.mktemp("catalog") / "small.toml"
    catalog.write_text(
        'default_model = "grok-imagine"\n[[models]]\nname = "grok-imagine"\n'
        'modes = ["async", "sync"]\nsizes = ["1024x1024"]\nqualities = ["standard"]\nmax_n = 2\n'
    )
    koi = start(catalog=catalog)
    with koi.client() as client:
        answer = client.post(GENERATE, json={**KOI, "n": 5})

    assert len(answer.json()["data"]) == 5
    assert koi.sandbox.posts == 3


def test_fewer_images_than_asked_are_delivered_and_charged(koi: Koi) -> None:
    koi.sandbox.script("fewer")
    with koi.client() as client:
        answer = client.post(GENERATE, json={**KOI, "n": 4})

    delivered = len(answer.json()["data"])
    assert 1 <= delivered < 4
    assert sum(entry.images for entry in koi.entries()) == delivered


def test_only_the_allowed_headers_and_the_upstream_key_go_out(koi: Koi) -> None:
    key = koi.key()
    with koi.client(key) as client:
        client.post(
            GENERATE,
            json={**KOI, "user": "u1", "api_base": "http://evil"},
            headers={"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "openai-organization": "o"},
        )
    posts = [r for r in koi.sandbox.requests if r.method == "POST"]
    names = {name.lower() for name, _ in posts[0].headers}
    sent = json.loads(posts[0].body)

    assert names <= {
        "host", "authorization", "content-type", "content-length", "accept", "accept-encoding",
        "user-agent",
    }  # fmt: skip
    assert dict(posts[0].headers)["authorization"] == "Bearer sk-sandbox"
    assert key not in repr(koi.sandbox.requests)
    assert set(sent) == {"model", "prompt", "size", "quality", "n", "response_format", "async"}


def test_the_providers_ids_and_links_never_come_back(koi: Koi) -> None:
    with koi.client() as client:
        submitted = client.post(GENERATE, json={**KOI, "async": True})
        task = wait_for(client, submitted.json()["id"])
    shown = submitted.text + json.dumps(task) + repr(dict(submitted.headers))
    polled = {r.path.rsplit("/", 1)[1] for r in koi.sandbox.requests if "/tasks/" in r.path}

    assert polled
    assert not any(upstream_id in shown for upstream_id in polled)
    assert koi.sandbox.cdn_url not in shown


def test_a_caller_that_hangs_up_changes_nothing_and_finds_its_picture(koi: Koi) -> None:
    koi.sandbox.set(latency_s=2)
    key = koi.key()
    koi.hang_up(key)
    with koi.client(key) as client:
        again = client.post(GENERATE, json=KOI)

    assert again.status_code == 200
    assert again.headers["x-koi-cache"] == "joined"
    assert koi.sandbox.posts == 1


def test_two_hundred_at_once_all_get_their_own_picture(start: Start) -> None:
    import asyncio

    koi = start(
        upstream_timeout_s=120, task_deadline_s=300, collect_wait_s=120, redis_timeout_ms=30_000
    )
    key = koi.key()

    async def crowd() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(
            base_url=koi.url, headers=headers, timeout=300, limits=limits
        ) as client:
            asks = [{**KOI, "prompt": f"koi {i}", "size": "1024x1024"} for i in range(200)]
            return list(await asyncio.gather(*(client.post(GENERATE, json=a) for a in asks)))

    answers = asyncio.run(crowd())

    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["data"][0]["url"] for a in answers}) == 200
    assert koi.sandbox.posts == 200


def test_a_wait_that_ends_first_leaves_a_task_behind_and_the_repeat_gets_the_picture(
    start: Start,
) -> None:
    koi = start(sync_wait_s=0.3)
    koi.sandbox.set(latency_s=0.8)
    key = koi.key()
    with koi.client(key) as client:
        waited = client.post(GENERATE, json=KOI)
        task_id = waited.json()["error"]["task_id"]
        task = wait_for(client, task_id)
        again = client.post(GENERATE, json=KOI)

    assert waited.status_code == 504
    assert waited.headers["x-koi-task-id"] == task_id
    assert waited.headers["x-should-retry"] == "true"
    assert task["status"] == "completed"
    assert again.status_code == 200
    assert koi.sandbox.posts == 1
