"""Conformance: what a generation means.

What clients of the OpenAI API rely on, one statement a test; no provider is needed for these.
"""

import base64
import json
import logging
from typing import Any

import httpx
import openai
import pytest

from app.domain.cache import CacheOutcome
from app.domain.media import ImageStoreUnavailable
from tests.contract.bad_bodies import MODEL, PROMPT, assert_error, koi
from tests.contract.door import Door, sdk, wait_until
from tests.contract.stand_in import PNG


def test_null_means_default(client: openai.OpenAI, door: Door) -> None:
    client.images.generate(model=MODEL, prompt=PROMPT, n=None, size=None, quality=None)  # type: ignore[call-overload]

    request = door.stage.asked[0].request
    assert (request.n, request.size, request.quality) == (1, "1024x1024", "standard")


def test_three_asked_are_three_given(client: openai.OpenAI) -> None:
    images = client.images.generate(model=MODEL, prompt=PROMPT, n=3)

    assert images.data
    assert len({image.url for image in images.data}) == 3


def test_a_missing_model_is_the_default_one(door: Door) -> None:
    answer = door.post(b'{"prompt":"a koi"}')

    assert door.stage.asked[0].request.model == MODEL
    assert "x-koi-adjusted" not in answer.headers


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(model="nonsense", prompt=PROMPT)

    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("alias", ["dall-e-2", "dall-e-3", "gpt-image-1"])
def test_retired_names_still_work(client: openai.OpenAI, door: Door, alias: str) -> None:
    client.images.generate(model=alias, prompt=PROMPT)

    assert door.stage.asked[0].request.model == MODEL


@pytest.mark.parametrize(("field", "given", "sent"), [
    ("size", "512x512", "1024x1024"), ("size", "auto", "1024x1024"),
    ("size", "1792x1024", "1536x1024"), ("size", "1024x1792", "1024x1536"),
    ("quality", "high", "hd"), ("quality", "max", "hd"), ("quality", "low", "standard"),
    ("quality", "auto", "standard"),
])  # fmt: skip
def test_words_are_coerced_and_reported(door: Door, field: str, given: str, sent: str) -> None:
    answer = door.post(koi(**{field: given}))

    assert getattr(door.stage.asked[0].request, field) == sent
    assert answer.headers["x-koi-adjusted"] == field
    assert answer.json["size"] == door.stage.asked[0].request.size


def test_a_refused_size_lists_the_good_ones(strict_door: Door) -> None:
    answer = strict_door.post(koi(size="512x512"))

    assert_error(answer, 400, "invalid_value", "size")
    assert "1024x1024, 1536x1024, 1024x1536" in answer.error["message"]


@pytest.mark.parametrize(("given", "told"), [("standard", "medium"), ("hd", "high")])
def test_a_strictly_validating_client_is_content(door: Door, given: Any, told: str) -> None:
    with sdk(door, _strict_response_validation=True) as client:
        images = client.images.generate(model=MODEL, prompt=PROMPT, quality=given)

    assert images.quality == told
    assert images.output_format == "png"


def test_unknown_parameters_are_accepted_and_named(door: Door) -> None:
    fields = {"style": "vivid", "background": None, "seed": 7, "user": "u", "x": [{"y": 1}]}

    answer = door.post(koi(**fields, stream=False, **{"odd name\r\n": 1}))

    assert answer.status == 200
    assert answer.headers["x-koi-adjusted"] == "style, seed, x, unknown"


def test_the_list_of_names_is_bounded(door: Door) -> None:
    answer = door.post(koi(**{f"k{i}": 1 for i in range(60)}))

    named = answer.headers["x-koi-adjusted"].split(", ")
    assert len(named) == 21
    assert named[-1] == "unknown"


def test_base64_is_given_when_asked_for(client: openai.OpenAI) -> None:
    images = client.images.generate(model=MODEL, prompt=PROMPT, response_format="b64_json", n=2)

    assert images.data
    assert [base64.b64decode(image.b64_json or "") for image in images.data] == [PNG, PNG]
    assert all(image.url is None for image in images.data)


def test_a_large_picture_survives_the_thread(client: openai.OpenAI, door: Door) -> None:
    door.stage.picture = PNG * 4000

    images = client.images.generate(model=MODEL, prompt=PROMPT, response_format="b64_json")

    assert images.data
    assert base64.b64decode(images.data[0].b64_json or "") == PNG * 4000


def test_a_link_leads_back_to_where_the_client_is(door: Door) -> None:
    url = door.post(koi(), {"Host": f"localhost:{door.port}"}).json["data"][0]["url"]

    origin, _, path = url.partition("/v1/")
    picture = door.call("GET", f"/v1/{path}", key=None)
    assert origin == f"http://localhost:{door.port}"
    assert (picture.status, picture.body) == (200, PNG)
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in picture.headers["content-security-policy"]


def test_a_public_url_is_used_as_given(admin_door: Door) -> None:
    url = admin_door.post(koi()).json["data"][0]["url"]

    assert url.startswith("https://koi.example/gate/v1/images/img_")


def test_a_forwarded_scheme_from_a_trusted_proxy_counts(door: Door) -> None:
    url = door.post(koi(), {"X-Forwarded-Proto": "https"}).json["data"][0]["url"]

    assert url.startswith(f"https://{door.host}:{door.port}/")


def test_links_are_cached_for_ever_and_revalidated_for_free(door: Door) -> None:
    url = door.post(koi()).json["data"][0]["url"]
    path = url.removeprefix(door.url)

    first = door.call("GET", path, key=None)
    again = door.call("GET", path, {"If-None-Match": f'"x", W/{first.headers["etag"]}'}, key=None)
    head = door.call("HEAD", path, key=None)

    visibility, age, immutable = first.headers["cache-control"].split(", ")
    assert (visibility, immutable) == ("public", "immutable")
    assert 500 < int(age.removeprefix("max-age=")) <= 600
    assert (again.status, again.body) == (304, b"")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(PNG))


def test_a_picture_without_a_link_is_its_owners_alone(door: Door) -> None:
    path, _, query = door.post(koi()).json["data"][0]["url"].removeprefix(door.url).partition("?")

    owner = door.call("GET", path)
    assert owner.status == 200
    assert owner.headers["cache-control"].startswith("private, ")
    assert_error(door.call("GET", path, key=door.other_key), 404, "image_not_found", None)
    assert_error(door.call("GET", path, key=None), 401, "invalid_api_key", None)
    forged = door.call("GET", f"{path}?{query}x", key=None)
    assert_error(forged, 404, "image_not_found", None)
    assert door.call("GET", f"{path}?{query}x").status == 200


@pytest.mark.parametrize(("model", "key"), [("gpt-image-1", "b64_json"), (MODEL, "url")])
def test_without_a_format_the_called_name_decides(door: Door, model: str, key: str) -> None:
    item = door.post(koi(model=model)).json["data"][0]

    assert key in item
    assert item["revised_prompt"] == "a koi, revised"


@pytest.mark.parametrize(("outcome", "status"), [
    (CacheOutcome.HIT, "koi; hit; ttl=3593"), (CacheOutcome.MISS, "koi; fwd=uri-miss; stored"),
    (CacheOutcome.JOINED, "koi; fwd=uri-miss; collapsed"),
    (CacheOutcome.BYPASS, "koi; fwd=bypass"),
])  # fmt: skip
def test_an_answer_says_where_it_came_from(door: Door, outcome: CacheOutcome, status: str) -> None:
    door.stage.cache = outcome

    answer = door.post(koi())

    assert answer.headers["x-koi-cache"] == outcome
    assert answer.headers["cache-status"] == status
    assert answer.headers.get("age") == ("7" if outcome is CacheOutcome.HIT else None)


def test_cache_directives_reach_the_gateway(door: Door) -> None:
    door.post(koi(), {"Cache-Control": 'No-Cache, max-age="60" , x=, ONLY-IF-CACHED'})

    control = door.stage.asked[0].control
    assert (control.no_cache, control.no_store) == (True, False)
    assert (control.max_age_s, control.only_if_cached) == (60, True)


def test_a_store_that_is_away_is_told_and_the_picture_kept_for_the_repeat(door: Door) -> None:
    door.stage.store_away = True

    answer = door.post(koi(response_format="b64_json"))

    assert_error(answer, 503, "overloaded", None)
    assert answer.headers["x-should-retry"] == "true"
    assert door.stage.abandoned == [answer.headers["x-koi-task-id"]]


@pytest.mark.parametrize("manner", [{}, {"async": True}])
def test_a_failure_about_a_job_that_has_ended_keeps_the_picture_too(
    door: Door, manner: dict[str, Any]
) -> None:
    door.stage.store_away = True
    door.stage.cache = CacheOutcome.HIT  # its job has ended when it is found

    answer = door.post(koi(response_format="b64_json", **manner))

    assert_error(answer, 503, "overloaded", None)
    assert door.stage.abandoned == list(door.stage.jobs)
    assert door.stage.received == []


LARGE = PNG + bytes(range(256)) * 6000
MANNERS: list[dict[str, Any]] = [{"response_format": "b64_json", "n": 2}, {"stream": True, "n": 2}]


@pytest.mark.parametrize("manner", MANNERS)
def test_a_large_picture_takes_few_reads_of_the_store(door: Door, manner: dict[str, Any]) -> None:
    door.stage.picture = LARGE

    answer = _posted(door, manner)

    if "stream" in manner:
        lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
        items = [json.loads(line.removeprefix("data: ")) for line in lines]
    else:
        items = answer.json()["data"]
        assert answer.headers["content-length"] == str(len(answer.content))
    assert [base64.b64decode(item["b64_json"]) == LARGE for item in items] == [True, True]
    assert door.stage.reads <= 2 * (len(LARGE) // (192 << 10) + 2)


@pytest.mark.parametrize("failure", [None, ImageStoreUnavailable("gone fishing")])
@pytest.mark.parametrize("manner", [*MANNERS, "link"])
def test_a_picture_that_ends_in_the_middle_cuts_the_connection_and_is_no_bug(
    door: Door,
    manner: Any,
    failure: Exception | None,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    door.stage.picture = LARGE
    made = _posted(door, {"response_format": "url"})
    # The record of this request is written after its answer.
    wait_until(lambda: door.stage.observed)
    door.stage.observed.clear()
    door.stage.ends_at, door.stage.ends_in = 200_000, failure

    with caplog.at_level(logging.ERROR), pytest.raises(httpx.RemoteProtocolError):
        _posted(door, manner) if manner != "link" else httpx.get(made.json()["data"][0]["url"])

    wait_until(lambda: door.stage.observed)
    assert door.stage.observed[0][2] == (502 if failure is None else 503)
    assert caplog.records == []
    assert "unforeseen" not in capfd.readouterr().out
    assert len(door.stage.abandoned) == (manner != "link")


def _posted(door: Door, manner: dict[str, Any]) -> httpx.Response:
    headers = {"authorization": f"Bearer {door.key}"}
    body = {"model": MODEL, "prompt": PROMPT, **manner}
    return httpx.post(f"{door.url}/v1/images/generations", json=body, headers=headers, timeout=20)
