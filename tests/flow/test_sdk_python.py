"""The official Python SDK, unchanged but for its base_url."""

import asyncio
import base64
import io
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types import ImagesResponse
from PIL import Image

from app.domain.limits import Limits
from tests.flow.conftest import Start
from tests.harness import Koi

ADMIN = "an-admin-key-of-good-length"


def sdk(koi: Koi, **options: Any) -> OpenAI:
    settings = {"base_url": koi.v1, "api_key": koi.key(), "timeout": 20, **options}
    return OpenAI(**settings)


@pytest.mark.parametrize("suffix", ["/v1", "/v1/", "", "/", "/v1/v1"])
def test_every_spelling_of_the_base_url_works(koi: Koi, suffix: str) -> None:
    with sdk(koi, base_url=koi.url + suffix) as client:
        answer = client.images.generate(model="grok-imagine", prompt="a koi")

    assert answer.data is not None
    assert httpx.get(answer.data[0].url or "").headers["content-type"] == "image/jpeg"


def test_the_azure_class_works(koi: Koi) -> None:
    with AzureOpenAI(azure_endpoint=koi.url, api_key=koi.key(), api_version="2024-02-01") as client:
        answer = client.images.generate(model="grok-imagine", prompt="a koi")

    assert answer.data is not None


def test_the_strictly_validating_client_accepts_our_answers(koi: Koi) -> None:
    with sdk(koi, _strict_response_validation=True) as client:
        answer = client.images.generate(
            model="grok-imagine", prompt="a koi", quality="hd", size="1536x1024", n=2
        )

    assert answer.created > 1_700_000_000
    assert len(answer.data or []) == 2
    assert answer.quality == "high"
    assert answer.size == "1536x1024"


def test_b64_json_is_a_real_picture(koi: Koi) -> None:
    with sdk(koi) as client:
        answer = client.images.generate(
            model="grok-imagine", prompt="a koi", response_format="b64_json"
        )
    assert answer.data is not None
    picture = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json or "")))

    assert picture.size == (1024, 1024)


def test_explicit_nulls_and_unknown_fields_are_tolerated_and_reported(koi: Koi) -> None:
    with sdk(koi) as client:
        raw = client.images.with_raw_response.generate(
            prompt="a koi",
            n=None,
            size="512x512",
            quality="auto",
            extra_body={"seed": 7, "style": "vivid"},
        )

    adjusted = raw.headers["x-koi-adjusted"]
    assert raw.status_code == 200
    assert {"size", "seed", "style"} <= {word.strip() for word in adjusted.split(",")}


def test_a_retired_model_name_is_served_and_its_default_format_kept(koi: Koi) -> None:
    with sdk(koi) as client:
        old = client.images.generate(model="dall-e-3", prompt="a koi", size="1792x1024")
        new = client.images.generate(model="gpt-image-1", prompt="a koi")

    assert old.data is not None
    assert new.data is not None
    assert old.data[0].url
    assert new.data[0].b64_json


def test_a_task_is_polled_through_the_sdk(koi: Koi) -> None:
    with sdk(koi) as client:
        task = client.images.generate(
            model="grok-imagine", prompt="a koi", extra_body={"async": True}
        )
        extra = task.model_extra or {}
        done = client.get(f"/tasks/{extra['id']}?wait=10", cast_to=object)
        typed = client.get(f"/tasks/{extra['id']}", cast_to=ImagesResponse)

    assert extra["status"] == "queued"
    assert done["status"] == "completed"  # type: ignore[index]
    assert typed.data is not None
    assert typed.data[0].url


def test_a_stream_ends_with_one_completed_event_per_image(koi: Koi) -> None:
    with sdk(koi) as client:
        events = list(
            client.images.generate(model="grok-imagine", prompt="a koi", n=2, stream=True)
        )

    assert [event.type for event in events] == ["image_generation.completed"] * 2
    assert all(base64.b64decode(event.b64_json) for event in events)


def test_a_failure_in_a_stream_is_an_api_error_with_our_code(koi: Koi) -> None:
    koi.sandbox.script("moderation-400")
    with sdk(koi) as client, pytest.raises(openai.APIError) as caught:
        list(client.images.generate(model="grok-imagine", prompt="a koi", stream=True))

    assert caught.value.code == "content_policy_violation"


@pytest.mark.parametrize(
    ("ask", "error", "code"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model_not_found"),
        ({"prompt": " "}, openai.BadRequestError, "missing_required_parameter"),
        ({"n": 11}, openai.BadRequestError, "integer_above_max_value"),
        ({"size": "7x7"}, openai.BadRequestError, "invalid_value"),
        (
            {"stream": True, "extra_body": {"async": True}},
            openai.BadRequestError,
            None,
        ),
    ],
)
def test_mistakes_become_the_sdks_own_exceptions(
    koi: Koi, ask: dict[str, Any], error: type[openai.APIStatusError], code: str | None
) -> None:
    with sdk(koi) as client, pytest.raises(error) as caught:
        client.images.generate(**{"model": "grok-imagine", "prompt": "a koi", **ask})

    assert code in (None, caught.value.code)
    assert caught.value.request_id


def test_a_stranger_is_told_so(koi: Koi) -> None:
    with sdk(koi, api_key="sk-unknown") as client, pytest.raises(openai.AuthenticationError):
        client.images.generate(model="grok-imagine", prompt="a koi")


@pytest.mark.parametrize("fault", ["500", "close-after-accept", "html-200", "error-200"])
def test_one_call_with_default_retries_is_one_post_whatever_the_provider_does(
    koi: Koi, fault: str
) -> None:
    koi.sandbox.script(fault)
    with sdk(koi) as client, pytest.raises(openai.APIStatusError):
        client.images.generate(model="grok-imagine", prompt="a koi")

    assert koi.sandbox.posts == 1


def test_a_client_of_half_a_seconds_patience_gets_its_picture_in_one_call(koi: Koi) -> None:
    koi.sandbox.set(latency_s=2)
    with OpenAI(base_url=koi.v1, api_key=koi.key(), timeout=0.5) as client:
        answer = client.images.generate(model="grok-imagine", prompt="a koi in a hurry")

    assert answer.data[0].url
    assert koi.sandbox.posts == 1


@pytest.mark.parametrize("heartbeat_after_s", [0, 45])
def test_a_timeout_shorter_than_the_generation_is_one_charge_and_the_picture_arrives(
    start: Start, heartbeat_after_s: float
) -> None:
    koi = start(heartbeat_after_s=heartbeat_after_s)
    koi.sandbox.set(latency_s=1.5)
    with sdk(koi, timeout=0.6, max_retries=4) as client:
        answer = client.images.generate(model="grok-imagine", prompt="a koi")

    assert answer.data is not None
    assert koi.sandbox.posts == 1
    assert sum(entry.images for entry in koi.entries()) == 1


def test_an_empty_quota_is_asked_once(koi: Koi) -> None:
    async def none_left(operator: Any) -> None:
        await operator.keys.create_user("ann", limits=Limits(images_per_day=0))

    koi.operate(none_left)
    with sdk(koi) as client, pytest.raises(openai.RateLimitError) as caught:
        client.images.generate(model="grok-imagine", prompt="a koi")

    assert caught.value.type == "insufficient_quota"
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_the_models_list_and_one_model(koi: Koi) -> None:
    with sdk(koi) as client:
        listed = [model.id for model in client.models.list()]
        one = client.models.retrieve("grok-imagine")

    assert listed == ["grok-imagine"]
    assert one.object == "model"


def test_edits_are_refused_cleanly(koi: Koi) -> None:
    with sdk(koi) as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.edit(model="grok-imagine", prompt="a koi", image=b"x" * 100_000)

    assert caught.value.code == "unsupported_endpoint"


def test_the_admin_client_reads_usage_and_costs(start: Start) -> None:
    koi = start(admin_key=ADMIN)
    with sdk(koi) as client:
        client.images.generate(model="grok-imagine", prompt="a koi", n=3)
    with OpenAI(base_url=koi.v1, api_key="unused", admin_api_key=ADMIN) as client:
        usage = client.admin.organization.usage.images(
            start_time=1_700_000_000, group_by=["model", "user_id"], limit=31
        )
        recent = client.admin.organization.usage.images(
            start_time=int(koi.entries()[0].at_ms / 1000) - 3600, group_by=["model", "user_id"]
        )
        costs = client.admin.organization.usage.costs(
            start_time=int(koi.entries()[0].at_ms / 1000) - 3600
        )

    rows = [row for bucket in recent.data for row in bucket.results]
    assert usage.object == "page"
    assert [(r.images, r.num_model_requests, r.model, r.user_id) for r in rows] == [
        (3, 1, "grok-imagine", "ann")
    ]
    amounts = [row.amount.value for bucket in costs.data for row in bucket.results if row.amount]
    assert sum(amounts) == pytest.approx(0.42)


def test_a_callers_key_opens_no_admin_route(start: Start) -> None:
    koi = start(admin_key=ADMIN)
    with (
        OpenAI(base_url=koi.v1, api_key="unused", admin_api_key=koi.key()) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.admin.organization.usage.images(start_time=1_700_000_000)


def test_the_async_client_gets_three_different_pictures_for_three_parallel_calls(koi: Koi) -> None:
    key = koi.key()

    async def three() -> list[Any]:
        async with AsyncOpenAI(base_url=koi.v1, api_key=key) as client:
            calls = (client.images.generate(model="grok-imagine", prompt="koi") for _ in range(3))
            return list(await asyncio.gather(*calls))

    answers = asyncio.run(three())

    assert len({answer.data[0].url for answer in answers}) == 3


def test_parallel_calls_beyond_the_concurrency_are_as_many_pictures(start: Start) -> None:
    """The retry of a refusal is a new call: the refusal left nothing to join."""
    koi = start(cache_policy="off")
    key = koi.key(limits=Limits(concurrency=2))
    koi.sandbox.set(latency_s=0.8)

    async def all_four() -> list[ImagesResponse]:
        async with AsyncOpenAI(base_url=koi.v1, api_key=key, timeout=30, max_retries=8) as client:
            calls = [client.images.generate(model="grok-imagine", prompt="a koi") for _ in range(4)]
            return await asyncio.gather(*calls)

    urls = {(answer.data or [])[0].url for answer in asyncio.run(all_four())}

    assert len({str(url).partition("?")[0] for url in urls}) == 4
    assert koi.sandbox.posts == 4
