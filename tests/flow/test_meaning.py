"""What a request means, through the whole gateway: what is bought, what is shared, what comes."""

import base64
import io
import time
from typing import Any

import httpx
import pytest
from openai import BadRequestError, OpenAI
from PIL import Image

from app.domain.images import ResponseFormat
from tests.flow.conftest import Start
from tests.harness import KOI, Koi

GENERATE = "/v1/images/generations"
LONGER_THAN_A_BURST_S = 2.1


def sdk(koi: Koi, key: str | None = None) -> OpenAI:
    return OpenAI(base_url=koi.v1, api_key=key or koi.key(), timeout=20)


def image_fields(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    return set(answer.json()["data"][0]) - {"revised_prompt"}


@pytest.mark.parametrize("field", ["image", "mask", "input_image", "image_urls"])
def test_a_reference_picture_costs_nothing_and_reserves_nothing(koi: Koi, field: str) -> None:
    with sdk(koi) as client, pytest.raises(BadRequestError) as caught:
        client.images.generate(
            model="gpt-image-2",
            prompt="this koi, but red",
            extra_body={field: ["https://pictures.example/koi.png"]},
        )

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", field)
    assert koi.sandbox.posts == 0
    assert koi.entries() == []
    assert koi.audit().open_jobs == 0


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"size": "2048x2048"}, (1024, 1024)),
        ({"size": "1280*720"}, (1536, 1024)),
        ({"aspect_ratio": "9:16", "resolution": "1k"}, (1024, 1536)),
    ],
)
def test_the_picture_that_is_made_has_the_size_that_was_told(
    koi: Koi, fields: dict[str, str], size: tuple[int, int]
) -> None:
    with koi.client() as client:
        answer = client.post(GENERATE, json={**KOI, **fields, "response_format": "b64_json"})
    picture = Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"])))

    assert picture.size == size
    assert answer.json()["size"] == f"{size[0]}x{size[1]}"
    assert answer.headers["x-koi-adjusted"] == ", ".join(fields)


def test_other_options_never_share_a_picture_and_the_same_options_do(koi: Koi) -> None:
    variants: list[dict[str, Any]] = [{}, {"seed": 1}, {"seed": 2}, {"negative_prompt": "rain"}]
    with koi.client() as client:
        made = [client.post(GENERATE, json={**KOI, **options}) for options in variants]
        time.sleep(LONGER_THAN_A_BURST_S)
        again = [
            client.post(GENERATE, json={**KOI, **options, "user": "u"}) for options in variants
        ]

    assert {answer.headers["x-koi-cache"] for answer in made} == {"miss"}
    assert {answer.headers["x-koi-cache"] for answer in again} == {"hit"}
    pictures = [answer.json()["data"][0]["url"].split("?")[0] for answer in made]
    assert len(set(pictures)) == len(variants)
    assert pictures == [answer.json()["data"][0]["url"].split("?")[0] for answer in again]
    assert koi.sandbox.posts == len(variants)


def test_a_picture_cached_before_options_counted_still_answers_the_plain_question(
    koi: Koi,
) -> None:
    """The digest of a plain request, as every release wrote it."""
    from app.domain.images import GenerationRequest, digest

    asked = GenerationRequest("grok-imagine", "a koi", 1, "1024x1024", "standard")

    assert asked.fingerprint("user:ann") == digest(
        "user:ann", "grok-imagine", "a koi", 1, "1024x1024", "standard"
    )


@pytest.mark.parametrize(
    ("request_says", "key_says", "user_says", "model", "expected"),
    [
        ("url", "both", "both", "gpt-image-2", {"url"}),
        (None, "url", "both", "gpt-image-2", {"url"}),
        (None, "both", "url", "grok-imagine", {"url", "b64_json"}),
        (None, None, "both", "gpt-image-2", {"url", "b64_json"}),
        (None, None, "b64_json", "grok-imagine", {"b64_json"}),
        (None, None, None, "openai/gpt-image-2", {"b64_json"}),
        (None, None, None, "dall-e-3", {"url"}),
    ],
)
def test_request_key_user_and_name_decide_in_this_order(
    koi: Koi,
    request_says: str | None,
    key_says: str | None,
    user_says: str | None,
    model: str,
    expected: set[str],
) -> None:
    async def prepare(operator: Any) -> None:
        chosen = None if user_says is None else ResponseFormat(user_says)
        await operator.keys.create_user("ann", response_format=chosen)

    koi.operate(prepare)
    key = koi.key("ann", response_format=None if key_says is None else ResponseFormat(key_says))
    with koi.client(key) as client:
        answer = client.post(
            GENERATE, json={**KOI, "model": model, "response_format": request_says}
        )

    assert image_fields(answer) == expected


def test_the_deployment_decides_last(start: Start) -> None:
    koi = start(response_format="both")
    with koi.client() as client:
        plain = client.post(GENERATE, json=KOI)
        named = client.post(GENERATE, json={**KOI, "model": "gpt-image-2"})

    assert image_fields(plain) == {"url", "b64_json"}
    assert image_fields(named) == {"b64_json"}


@pytest.mark.parametrize("way", ["sync", "hit", "task"])
def test_both_is_one_picture_told_twice_whichever_way_it_comes(koi: Koi, way: str) -> None:
    key = koi.key(response_format=ResponseFormat.BOTH)
    with koi.client(key) as client:
        body: dict[str, Any] = {**KOI, "model": "grok-imagine", "n": 2}
        if way == "hit":
            client.post(GENERATE, json=body)
            time.sleep(LONGER_THAN_A_BURST_S)
        answer = client.post(GENERATE, json={**body, "async": way == "task"}).json()
        if way == "task":
            answer = client.get(f"/v1/tasks/{answer['id']}?wait=10").json()
        items = answer["data"]
        linked = [httpx.get(item["url"]).content for item in items]

    assert linked == [base64.b64decode(item["b64_json"]) for item in items]
    assert len(set(linked)) == 2
    assert koi.sandbox.posts == 1


def test_the_official_client_reads_both_and_a_usage_of_zero(koi: Koi) -> None:
    with sdk(koi, koi.key(response_format=ResponseFormat.BOTH)) as client:
        answer = client.images.generate(model="grok-imagine-image-0709", prompt="a koi")

    assert answer.data
    assert answer.data[0].url
    assert answer.data[0].b64_json
    assert answer.usage
    assert answer.usage.total_tokens == 0
