"""What a request means: nothing that would change the picture is dropped without a word."""

import json
from typing import Any

import openai
import pytest

from app.domain.errors import FailureNote
from tests.contract.bad_bodies import MODEL, PROMPT, assert_error, koi
from tests.contract.door import Answer, Door, sdk

PICTURE = "https://pictures.example/koi.png"
INLINE = "data:image/png;base64,iVBORw0KGgo="
PART = {"type": "image_url", "image_url": {"url": PICTURE}}


def adjusted(answer: Answer) -> list[str]:
    return [name for name in answer.headers.get("x-koi-adjusted", "").split(", ") if name]


# Sizes


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("2048x2048", "1024x1024"), ("768x768", "1024x1024"), ("512x512", "1024x1024"),
        ("1280x720", "1536x1024"), ("1920x1080", "1536x1024"), ("1152x896", "1536x1024"),
        ("720x1280", "1024x1536"), ("1152x2048", "1024x1536"), ("64x16384", "1024x1536"),
        ("1024*1024", "1024x1024"), ("1024X1024", "1024x1024"), ("1024×1024", "1024x1024"),  # noqa: RUF001
        ("1024 x 1024", "1024x1024"), (" 1536x1024\n", "1536x1024"), ("1536*1024", "1536x1024"),
        ("1024 X 1792", "1024x1536"), ("", "1024x1024"), ("  ", "1024x1024"),
        ("auto", "1024x1024"), ("AUTO", "1024x1024"), ("16:9", "1536x1024"), ("2K", "1024x1024"),
    ],
)  # fmt: skip
def test_a_size_goes_to_the_nearest_offered_one_and_is_reported(
    door: Door, given: str, sent: str
) -> None:
    answer = door.post(koi(size=given))

    assert door.stage.asked[0].request.size == sent
    assert answer.json["size"] == sent
    assert adjusted(answer) == ["size"]


@pytest.mark.parametrize("size", ["1024x1024", "1536x1024", "1024x1536"])
def test_an_offered_size_is_no_adjustment(door: Door, size: str) -> None:
    answer = door.post(koi(size=size))

    assert door.stage.asked[0].request.size == size
    assert adjusted(answer) == []


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"aspect_ratio": "16:9"}, "1536x1024"), ({"aspect_ratio": "3:4"}, "1024x1536"),
        ({"aspect_ratio": "1:1"}, "1024x1024"), ({"aspect_ratio": "auto"}, "1024x1024"),
        ({"aspect_ratio": ""}, "1024x1024"), ({"aspect_ratio": " 9 : 16 "}, "1024x1536"),
        ({"aspect_ratio": "2.35:1"}, "1536x1024"), ({"aspect_ratio": "19.5:9"}, "1536x1024"),
        ({"aspect_ratio": "5/2"}, "1536x1024"), ({"aspectRatio": "3:2"}, "1536x1024"),
        ({"resolution": "1k"}, "1024x1024"), ({"resolution": "2k"}, "1024x1024"),
        ({"resolution": "1.5K"}, "1024x1024"), ({"resolution": "720p"}, "1024x1024"),
        ({"resolution": "1024x1536"}, "1024x1536"), ({"resolution": "1920*1080"}, "1536x1024"),
        ({"resolution": "auto"}, "1024x1024"), ({"resolution": "512"}, "1024x1024"),
        ({"aspect_ratio": "9:16", "resolution": "2k"}, "1024x1536"),
        ({"aspect_ratio": "9:16", "resolution": "1024x1024"}, "1024x1536"),
        ({"width": 1280, "height": 720}, "1536x1024"), ({"width": 1280}, "1024x1024"),
        ({"width": "wide", "height": 720}, "1024x1024"),
    ],
)  # fmt: skip
def test_a_shape_by_another_name_leads_to_a_size_and_is_reported(
    door: Door, fields: dict[str, Any], sent: str
) -> None:
    answer = door.post(koi(**fields))

    assert door.stage.asked[0].request.size == sent
    assert adjusted(answer) == list(fields)


@pytest.mark.parametrize(
    ("size", "sent", "named"),
    [
        ("1024x1536", "1024x1536", ["aspect_ratio"]),
        ("1080x1920", "1024x1536", ["size", "aspect_ratio"]),
        ("auto", "1536x1024", ["size", "aspect_ratio"]),
        ("", "1536x1024", ["size", "aspect_ratio"]),
        (None, "1536x1024", ["aspect_ratio"]),
    ],
)
def test_a_size_wins_over_an_aspect_ratio(
    door: Door, size: str | None, sent: str, named: list[str]
) -> None:
    answer = door.post(koi(size=size, aspect_ratio="16:9"))

    assert door.stage.asked[0].request.size == sent
    assert adjusted(answer) == named


# Qualities


@pytest.mark.parametrize(
    ("given", "sent"),
    [("ultra", "standard"), ("", "standard"), ("HD", "hd"), (" High ", "hd"), ("4k", "standard"),
     ("best quality", "standard")],
)  # fmt: skip
def test_a_quality_nobody_knows_is_the_default_and_reported(
    door: Door, given: str, sent: str
) -> None:
    answer = door.post(koi(quality=given))

    assert door.stage.asked[0].request.quality == sent
    assert adjusted(answer) == ["quality"]


def test_a_strict_gateway_takes_auto_and_reports_what_became_of_it(strict_door: Door) -> None:
    answer = strict_door.post(koi(size="auto", quality="auto"))

    request = strict_door.stage.asked[0].request
    assert (request.size, request.quality) == ("1024x1024", "standard")
    assert adjusted(answer) == ["size", "quality"]


# Reference pictures


REFERENCES: dict[str, Any] = {
    "image": PICTURE,
    "images": [PICTURE],
    "image[]": [INLINE],
    "mask": INLINE,
    "input_image": "iVBORw0KGgo=",
    "image_url": {"url": PICTURE},
    "image_urls": [PICTURE, PICTURE],
    "init_image": "koi.png",
    "reference_images": [{"image_url": PICTURE}],
    "referenceImages": [{"uri": PICTURE}],
    "input_images": ["file-123"],
    "Image": PICTURE,
    "mask_image": True,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "a koi"}, PART]}],
    "input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}],
    "contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}]}],
    "extra_body": {"image": PICTURE},
    "anything": [[INLINE]],
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("way", ["plain", "stream", "async"])
def test_a_picture_for_a_model_that_takes_none_is_refused_before_anything_is_asked(
    door: Door, name: str, way: str
) -> None:
    answer = door.post(koi(**{name: REFERENCES[name], way: True}))

    assert_error(answer, 400, "unsupported_parameter", name.removesuffix("[]"))
    assert "Nothing was charged" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert not door.stage.asked
    assert b"pictures.example" not in answer.body


@pytest.mark.parametrize("value", [None, "", " ", [], {}, [None, ""], False, {"url": None}])
@pytest.mark.parametrize("name", ["image", "images", "mask", "image_url", "init_image"])
def test_an_empty_place_for_a_picture_is_no_picture(door: Door, name: str, value: Any) -> None:
    answer = door.post(koi(**{name: value}))

    assert answer.status == 200
    assert adjusted(answer) == []
    assert door.stage.asked[0].request.unsent is None


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"image": PICTURE}}, {"user": "image"}, {"partial_images": 2},
        {"image_size": "square"}, {"num_images": 1}, {"input": "an image of a koi"},
        {"messages": [{"role": "user", "content": "paint a mask"}]}, {"webhook_url": PICTURE},
    ],
)  # fmt: skip
def test_what_only_speaks_of_pictures_is_none(door: Door, fields: dict[str, Any]) -> None:
    assert door.post(koi(**fields)).status == 200


def test_the_official_client_is_told_which_field_to_leave_out(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=MODEL, prompt=PROMPT, extra_body={"image": [INLINE]})

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "image")


# Prompts


def test_vertical_tabs_and_form_feeds_are_line_breaks(door: Door) -> None:
    answer = door.post(koi(prompt="a koi\x0bin a pond\x0cat night"))

    assert door.stage.asked[0].request.prompt == "a koi\nin a pond\nat night"
    assert adjusted(answer) == []


# Fields that cannot be sent


@pytest.mark.parametrize(
    "field",
    [{"seed": 7}, {"negative_prompt": "rain"}, {"style": "vivid"}, {"background": "transparent"},
     {"guidance_scale": 7.5}, {"extra_body": {"seed": 1}}, {"width": 1280, "height": 720}],
)  # fmt: skip
def test_a_dropped_option_makes_another_fingerprint(door: Door, field: dict[str, Any]) -> None:
    door.post(koi())
    door.post(koi(**field))
    door.post(koi(**dict.fromkeys(field, "other")))
    door.post(koi(**dict.fromkeys(field)))

    plain, optioned, other, null = (ask.request.fingerprint("user:ann") for ask in door.stage.asked)
    assert len({plain, optioned, other}) == 3
    assert null == plain


@pytest.mark.parametrize(
    "field",
    [{"user": "u"}, {"safety_identifier": "s"}, {"stream": True}, {"async": True},
     {"response_format": "b64_json"}, {"partial_images": 1}, {"metadata": {"a": "b"}},
     {"output_format": "webp"}, {"output_compression": 50}, {"moderation": "low"},
     {"api_base": "http://evil.example"}, {"seed": None}, {"negative_prompt": ""},
     {"loras": []}, {"size": "auto"}, {"size": "512x512"},
     {"aspect_ratio": "1:1"}, {"quality": "medium"}, {"n": 1}, {"model": "gpt-image-2"}],
)  # fmt: skip
def test_what_leaves_the_picture_alone_leaves_the_fingerprint_alone(
    door: Door, field: dict[str, Any]
) -> None:
    door.post(koi())
    door.post(koi(**field))

    plain, same = (ask.request.fingerprint("user:ann") for ask in door.stage.asked)
    assert same == plain


# Names


NAMES = [
    "gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2.5-sunburst", "gpt-image-2-2026-04-21",
    "gpt-image-1.5", "chatgpt-image-latest", "grok-2-image", "grok-2-image-1212",
    "grok-imagine-image", "grok-imagine-image-0709", "grok-imagine-image-pro", "dall-e-4",
    "xai/grok-imagine-image", "xai/grok-imagine", "openai/gpt-image-2", "azure/dall-e-3",
    "models/grok-imagine", "azure/openai/gpt-image-1",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_today_gets_its_picture_and_is_reported(
    client: openai.OpenAI, door: Door, name: str
) -> None:
    raw = client.images.with_raw_response.generate(model=name, prompt=PROMPT)

    assert door.stage.asked[0].request.model == MODEL
    assert raw.headers["x-koi-adjusted"] == "model"
    assert client.models.retrieve(name).id == name


def test_a_strict_gateway_knows_the_same_names(strict_door: Door) -> None:
    answer = strict_door.post(koi(model="openai/gpt-image-2"))

    assert answer.status == 200
    assert adjusted(answer) == ["model"]


@pytest.mark.parametrize(
    "name",
    ["gpt-4o", "image-2", "gpt-image", "my-gpt-image-2", "grok-3", "other/gpt-image-2", "openai/",
     "gpt-image-2\n", "GPT-IMAGE-\u00e9", "xai/xai/unknown", "studio/grok-imagine"],
)  # fmt: skip
def test_a_pattern_is_anchored_and_a_strange_name_still_unknown(door: Door, name: str) -> None:
    assert_error(door.post(koi(model=name)), 404, "model_not_found", "model")


def test_a_pattern_opens_no_model_to_a_narrow_key(door: Door) -> None:
    answer = door.post(koi(model="gpt-image-2"), key=door.narrow_key)

    assert_error(answer, 404, "model_not_found", "model")


# Response formats


@pytest.mark.parametrize(
    ("model", "image_fields"),
    [
        ("gpt-image-2", {"b64_json"}), ("openai/gpt-image-1", {"b64_json"}),
        ("chatgpt-image-latest", {"b64_json"}), ("dall-e-3", {"url"}), (MODEL, {"url"}),
        ("grok-imagine-image", {"url"}),
    ],
)  # fmt: skip
def test_the_called_name_decides_how_pictures_come(
    door: Door, model: str, image_fields: set[str]
) -> None:
    (item,) = door.post(koi(model=model)).json["data"]

    assert item.keys() - {"revised_prompt"} == image_fields


def test_both_gives_link_and_base64_in_each_item(client: openai.OpenAI) -> None:
    images = client.images.generate(
        model=MODEL, prompt=PROMPT, n=2, extra_body={"response_format": "both"}
    )

    assert images.data
    assert all(image.url and image.b64_json for image in images.data)
    assert all(image.revised_prompt == "a koi, revised" for image in images.data)


def test_both_is_kept_for_the_task(door: Door) -> None:
    task = door.post(koi(response_format="both", **{"async": True})).json
    done = door.call("GET", f"/v1/tasks/{task['id']}?wait=2").json

    (item,) = done["data"]
    assert {"url", "b64_json"} <= item.keys()


def test_a_stream_asked_for_both_is_a_stream(client: openai.OpenAI) -> None:
    events = list(
        client.images.generate(
            model=MODEL, prompt=PROMPT, stream=True, extra_body={"response_format": "both"}
        )
    )

    assert [event.type for event in events] == ["image_generation.completed"]


def test_a_format_nobody_knows_is_refused_with_those_there_are(door: Door) -> None:
    answer = door.post(koi(response_format="png"))

    assert_error(answer, 400, "invalid_value", "response_format")
    assert "url, b64_json, both" in answer.error["message"]


@pytest.mark.parametrize("response_format", ["url", "b64_json", "both"])
def test_usage_is_there_and_zero_for_a_strictly_validating_client(
    door: Door, response_format: Any
) -> None:
    with sdk(door, _strict_response_validation=True) as client:
        images = client.images.generate(
            model=MODEL, prompt=PROMPT, extra_body={"response_format": response_format}
        )

    assert images.usage is not None
    assert images.usage.total_tokens == images.usage.input_tokens == images.usage.output_tokens == 0
    assert images.usage.input_tokens_details.image_tokens == 0


def test_the_long_answer_after_heartbeats_has_its_usage_too(admin_door: Door) -> None:
    admin_door.stage.delay_s = 0.4

    with sdk(admin_door) as client:
        raw = client.images.with_raw_response.generate(model=MODEL, prompt=PROMPT)

    assert json.loads(raw.text)["usage"]["total_tokens"] == 0


# Moderation


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("gpt-image-1", "moderation_blocked"), ("openai/gpt-image-2", "moderation_blocked"),
        ("chatgpt-image-latest", "moderation_blocked"), ("dall-e-3", "content_policy_violation"),
        (MODEL, "content_policy_violation"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_refused_prompt_has_the_code_its_callers_know_and_names_both(
    client: openai.OpenAI, door: Door, model: str, code: str, stream: Any
) -> None:
    door.stage.end = FailureNote("content_policy_violation", "Refused.")

    with pytest.raises(openai.APIError) as caught:
        list(client.images.generate(model=model, prompt=PROMPT, stream=stream))

    assert caught.value.code == code
    assert "content_policy_violation" in str(caught.value)
    assert "moderation_blocked" in str(caught.value)


def test_a_refused_task_names_both_too(door: Door) -> None:
    door.stage.end = FailureNote("content_policy_violation", "Refused.")
    task = door.post(koi(**{"async": True})).json
    done = door.call("GET", f"/v1/tasks/{task['id']}?wait=2").json

    assert done["error"]["code"] == "content_policy_violation"
    assert "moderation_blocked" in done["error"]["message"]
