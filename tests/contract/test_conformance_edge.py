"""The conformance checklist (openai-compat study, section 14) as far as no provider is needed.

Statements are quoted by number in the names.
"""

import base64
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import structlog

from app.domain.errors import FailureNote, InsufficientQuota
from app.domain.recall import CacheOutcome
from tests.contract.conftest import ADMIN_KEY
from tests.contract.door import Door
from tests.contract.stand_in import NOW, PNG
from tests.contract.test_bad_input import KOI, assert_error, koi

MODEL = "grok-imagine"
PROMPT = "a koi"


def sdk(door: Door, **options: Any) -> openai.OpenAI:
    given = {"api_key": door.key, "base_url": f"{door.url}/v1", "timeout": 5, **options}
    return openai.OpenAI(**given)


@pytest.fixture
def client(door: Door) -> Iterator[openai.OpenAI]:
    with sdk(door) as client:
        yield client


# A. Paths, auth, transport


@pytest.mark.parametrize(
    "prefix",
    ["/v1", "", "/v1/", "/v1/v1", "//v1", "/openai/v1"],
    ids=["1", "2 no v1", "3 slash", "4 double v1", "5 double slash", "openai/v1"],
)
def test_1_to_5_any_spelling_of_the_base_url_works(door: Door, prefix: str) -> None:
    answer = door.post(koi(), path=f"{prefix}/images/generations")

    assert answer.status == 200
    assert isinstance(answer.json["created"], int)
    assert len(answer.json["data"]) == 1


def test_6_a_trailing_slash_is_no_redirect(door: Door) -> None:
    assert door.post(koi(), path="/v1/images/generations/").status == 200
    assert door.call("GET", "/v1/models/").status == 200


def test_7_the_azure_client_works(door: Door) -> None:
    azure = openai.AzureOpenAI(
        api_key=door.key, azure_endpoint=door.url, api_version="2024-02-01",
        azure_deployment="dall-e-3",
    )  # fmt: skip

    with azure:
        images = azure.images.generate(model="dall-e-3", prompt=PROMPT)

    assert images.data
    assert images.data[0].url
    assert door.stage.asked[0].request.model == MODEL


def test_7_an_azure_path_names_the_model(door: Door) -> None:
    path = "/openai/deployments/painter/images/generations?api-version=1"

    answer = door.post(b'{"prompt":"a koi"}', path=path)

    assert answer.status == 200
    assert door.stage.asked[0].request.model == "painter"


def test_10_a_wrong_key_is_an_authentication_error(door: Door) -> None:
    with sdk(door, api_key="nope") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.images.generate(model=MODEL, prompt=PROMPT)

    assert caught.value.code == "invalid_api_key"


def test_13_organization_headers_are_accepted(door: Door) -> None:
    with sdk(door, organization="o", project="p") as client:
        assert client.images.generate(model=MODEL, prompt=PROMPT).data


def test_15_a_chunked_body_is_read(door: Door) -> None:
    body = koi()
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}

    answer = door.post(chunks + b"0\r\n\r\n", headers)  # type: ignore[arg-type]

    assert answer.status == 200


def test_expect_continue_is_honoured(door: Door) -> None:
    assert door.post(koi(), {"Expect": "100-continue"}).status == 200


# B. Generation semantics


def test_21_null_means_default(client: openai.OpenAI, door: Door) -> None:
    client.images.generate(model=MODEL, prompt=PROMPT, n=None, size=None, quality=None)  # type: ignore[call-overload]

    request = door.stage.asked[0].request
    assert (request.n, request.size, request.quality) == (1, "1024x1024", "standard")


def test_22_three_asked_are_three_given(client: openai.OpenAI) -> None:
    images = client.images.generate(model=MODEL, prompt=PROMPT, n=3)

    assert images.data
    assert len({image.url for image in images.data}) == 3


def test_26_a_missing_model_is_the_default_one(door: Door) -> None:
    answer = door.post(b'{"prompt":"a koi"}')

    assert door.stage.asked[0].request.model == MODEL
    assert "x-koi-adjusted" not in answer.headers


def test_27_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(model="nonsense", prompt=PROMPT)

    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("alias", ["dall-e-2", "dall-e-3", "gpt-image-1"])
def test_28_retired_names_still_work(client: openai.OpenAI, door: Door, alias: str) -> None:
    client.images.generate(model=alias, prompt=PROMPT)

    assert door.stage.asked[0].request.model == MODEL


@pytest.mark.parametrize(("field", "given", "sent"), [
    ("size", "512x512", "1024x1024"), ("size", "auto", "1024x1024"),
    ("size", "1792x1024", "1536x1024"), ("size", "1024x1792", "1024x1536"),
    ("quality", "high", "hd"), ("quality", "max", "hd"), ("quality", "low", "standard"),
    ("quality", "auto", "standard"),
])  # fmt: skip
def test_29_to_33_words_are_coerced_and_reported(
    door: Door, field: str, given: str, sent: str
) -> None:
    answer = door.post(koi(**{field: given}))

    assert getattr(door.stage.asked[0].request, field) == sent
    assert answer.headers["x-koi-adjusted"] == field
    assert answer.json["size"] == door.stage.asked[0].request.size


def test_32_a_refused_size_lists_the_good_ones(strict_door: Door) -> None:
    answer = strict_door.post(koi(size="512x512"))

    assert_error(answer, 400, "invalid_value", "size")
    assert "1024x1024, 1536x1024, 1024x1536" in answer.error["message"]


@pytest.mark.parametrize(("given", "told"), [("standard", "medium"), ("hd", "high")])
def test_34_a_strictly_validating_client_is_content(door: Door, given: Any, told: str) -> None:
    with sdk(door, _strict_response_validation=True) as client:
        images = client.images.generate(model=MODEL, prompt=PROMPT, quality=given)

    assert images.quality == told
    assert images.output_format == "png"


def test_35_unknown_parameters_are_accepted_and_named(door: Door) -> None:
    fields = {"style": "vivid", "background": None, "seed": 7, "user": "u", "x": [{"y": 1}]}

    answer = door.post(koi(**fields, stream=False, **{"odd name\r\n": 1}))

    assert answer.status == 200
    assert answer.headers["x-koi-adjusted"] == "style, seed, user, x, unknown"


def test_35_the_list_of_names_is_bounded(door: Door) -> None:
    answer = door.post(koi(**{f"k{i}": 1 for i in range(60)}))

    named = answer.headers["x-koi-adjusted"].split(", ")
    assert len(named) == 21
    assert named[-1] == "unknown"


def test_36_base64_is_given_when_asked_for(client: openai.OpenAI) -> None:
    images = client.images.generate(model=MODEL, prompt=PROMPT, response_format="b64_json", n=2)

    assert images.data
    assert [base64.b64decode(image.b64_json or "") for image in images.data] == [PNG, PNG]
    assert all(image.url is None for image in images.data)


def test_36_a_large_picture_survives_the_thread(client: openai.OpenAI, door: Door) -> None:
    door.stage.picture = PNG * 4000

    images = client.images.generate(model=MODEL, prompt=PROMPT, response_format="b64_json")

    assert images.data
    assert base64.b64decode(images.data[0].b64_json or "") == PNG * 4000


def test_37_a_link_leads_back_to_where_the_client_is(door: Door) -> None:
    url = door.post(koi(), {"Host": f"localhost:{door.port}"}).json["data"][0]["url"]

    origin, _, path = url.partition("/v1/")
    picture = door.call("GET", f"/v1/{path}", key=None)
    assert origin == f"http://localhost:{door.port}"
    assert (picture.status, picture.body) == (200, PNG)
    assert picture.headers["content-type"] == "image/png"
    assert picture.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in picture.headers["content-security-policy"]


def test_37_a_public_url_is_used_as_given(admin_door: Door) -> None:
    url = admin_door.post(koi()).json["data"][0]["url"]

    assert url.startswith("https://koi.example/gate/v1/images/img_")


def test_37_a_forwarded_scheme_from_a_trusted_proxy_counts(door: Door) -> None:
    url = door.post(koi(), {"X-Forwarded-Proto": "https"}).json["data"][0]["url"]

    assert url.startswith(f"https://{door.host}:{door.port}/")


def test_37_links_are_cached_for_ever_and_revalidated_for_free(door: Door) -> None:
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
def test_38_without_a_format_the_called_name_decides(door: Door, model: str, key: str) -> None:
    item = door.post(koi(model=model)).json["data"][0]

    assert key in item
    assert item["revised_prompt"] == "a koi, revised"


@pytest.mark.parametrize(("outcome", "status"), [
    (CacheOutcome.HIT, "koi; hit; ttl=3593"), (CacheOutcome.MISS, "koi; fwd=uri-miss; stored"),
    (CacheOutcome.JOINED, "koi; fwd=uri-miss; collapsed"),
    (CacheOutcome.BYPASS, "koi; fwd=bypass"),
])  # fmt: skip
def test_41_an_answer_says_where_it_came_from(
    door: Door, outcome: CacheOutcome, status: str
) -> None:
    door.stage.cache = outcome

    answer = door.post(koi())

    assert answer.headers["x-koi-cache"] == outcome
    assert answer.headers["cache-status"] == status
    assert answer.headers.get("age") == ("7" if outcome is CacheOutcome.HIT else None)


def test_41_cache_directives_reach_the_gateway(door: Door) -> None:
    door.post(koi(), {"Cache-Control": 'No-Cache, max-age="60" , x=, ONLY-IF-CACHED'})

    control = door.stage.asked[0].control
    assert (control.no_cache, control.no_store) == (True, False)
    assert (control.max_age_s, control.only_if_cached) == (60, True)


def test_42_a_store_that_is_away_is_told_and_the_picture_kept_for_the_repeat(door: Door) -> None:
    door.stage.store_away = True

    answer = door.post(koi(response_format="b64_json"))

    assert_error(answer, 503, "overloaded", None)
    assert answer.headers["x-should-retry"] == "true"
    assert door.stage.abandoned == [answer.headers["x-koi-task-id"]]


def test_a_repeat_is_recognised_by_body_mark_and_key(door: Door) -> None:
    headers = {"Idempotency-Key": "k1", "x-stainless-retry-count": "1"}
    door.post(koi(), headers)
    door.post(json.dumps(dict(reversed(KOI.items())), indent=2).encode(), headers)
    door.post(koi(n=2), headers, key=door.other_key)

    one, same, other = (ask.repeat for ask in door.stage.asked)
    assert one == same
    assert one.marked
    assert one.body != other.body
    assert one.idempotency_key != other.idempotency_key
    assert "k1" not in (one.idempotency_key or "")


# C. Tasks, as far as the edge goes


def test_44_and_45_a_task_has_the_same_keys_in_every_state(door: Door) -> None:
    keys = {"id", "object", "status", "progress", "created", "model", "data", "error"}
    door.stage.delay_s = 0.2
    queued = door.post(koi(**{"async": True}))
    path = f"/v1/tasks/{queued.json['id']}"
    waited = door.call("GET", f"{path}?wait=5")
    done = door.call("GET", path)

    assert queued.status == 200
    assert queued.json.keys() == waited.json.keys() == done.json.keys() == keys
    assert (queued.json["status"], queued.json["data"]) == ("queued", None)
    assert (waited.json["status"], waited.json["progress"]) == ("completed", 100)
    assert waited.json["data"][0]["url"].startswith(door.url)
    assert queued.headers["retry-after"] == "3"
    assert "retry-after" not in done.headers
    assert done.headers["cache-control"] == "no-store"


def test_45_a_failed_task_is_an_answer(door: Door) -> None:
    door.stage.end = FailureNote("upstream_error", "The provider failed.", charged=True)
    task = door.post(koi(**{"async": True})).json
    door.call("GET", f"/v1/tasks/{task['id']}?wait=1")

    failed = door.call("GET", f"/v1/tasks/{task['id']}")

    assert failed.status == 200
    assert failed.json["status"] == "failed"
    assert failed.json["error"].keys() == {"message", "type", "param", "code"}


def test_44_the_sdk_reads_a_task_as_images(client: openai.OpenAI) -> None:
    task = client.images.generate(model=MODEL, prompt=PROMPT, extra_body={"async": True})

    images = client.get(f"/tasks/{task.id}?wait=2", cast_to=openai.types.ImagesResponse)  # type: ignore[attr-defined]

    assert images.data
    assert images.data[0].url


def test_49_a_task_remembers_the_format_asked_for(door: Door) -> None:
    task = door.post(koi(response_format="b64_json", **{"async": True})).json

    done = door.call("GET", f"/v1/tasks/{task['id']}?wait=1").json

    assert base64.b64decode(done["data"][0]["b64_json"]) == PNG


def test_tasks_are_listed_and_cancelled(door: Door) -> None:
    task = door.post(koi(**{"async": True})).json
    path = f"/v1/tasks/{task['id']}"

    listed = door.call("GET", "/v1/tasks?limit=5").json
    cancelled = door.call("DELETE", path).json
    again = door.call("DELETE", path)

    assert [item["id"] for item in listed["data"]] == [task["id"]]
    assert cancelled["error"]["code"] == "task_cancelled"
    assert_error(again, 400, "task_not_cancellable", None)
    assert door.call("GET", "/v1/tasks", key=door.other_key).json["data"] == []
    assert_error(door.call("GET", f"{path}?wait=x"), 400, "invalid_value", "wait")


# D and E. Errors and limits


def test_62_codes_are_text(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=MODEL, prompt="")

    assert caught.value.code == "invalid_value"
    assert caught.value.request_id


def test_63_a_spent_quota_is_asked_for_once(client: openai.OpenAI, door: Door) -> None:
    door.stage.refuse = InsufficientQuota("Used up.", retry_after_s=3600)

    with pytest.raises(openai.RateLimitError) as caught:
        client.images.generate(model=MODEL, prompt=PROMPT)

    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")
    assert len(door.stage.refusals) == 1
    assert "retry-after" not in caught.value.response.headers


def test_67_limits_are_told_with_every_answer(door: Door) -> None:
    headers = door.post(koi()).headers

    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-images"] == "3600s"
    assert headers["ratelimit-policy"].split(", ") == [
        '"requests-user-minute";q=60;qu="requests";w=60',
        '"images-user-day";q=100;qu="images";w=86400',
    ]
    assert headers["ratelimit"] == '"requests-user-minute";r=59;t=1, "images-user-day";r=95;t=3600'


def test_an_answer_comes_before_the_clients_own_timeout(door: Door) -> None:
    door.stage.delay_s = 30

    answer = door.post(koi(), {"x-stainless-read-timeout": "0.4"})

    assert_error(answer, 504, "still_processing", None)
    assert answer.error["task_id"] == answer.headers["x-koi-task-id"]
    assert answer.headers["x-should-retry"] == "true"
    assert answer.headers["retry-after"] == "1"
    assert door.stage.abandoned == [answer.error["task_id"]]


def test_71_a_caller_who_hangs_up_is_remembered(door: Door) -> None:
    door.stage.delay_s = 30
    body = koi()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: koi\r\nAuthorization: Bearer {door.key}"
    with socket.create_connection((door.host, door.port)) as wire:
        wire.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: bool(door.stage.asked))

    wait_until(lambda: bool(door.stage.abandoned))
    assert door.stage.abandoned == list(door.stage.jobs)


def wait_until(happened: Any, within_s: float = 3.0) -> None:
    deadline = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# F. Heartbeats


def test_75_heartbeats_keep_an_impatient_client(admin_door: Door) -> None:
    admin_door.stage.delay_s = 1.0

    with sdk(admin_door, timeout=0.4, max_retries=0) as client:
        raw = client.images.with_raw_response.generate(model=MODEL, prompt=PROMPT)

    assert raw.text.startswith(" ")
    assert raw.parse().data
    assert "content-length" not in raw.headers
    assert raw.headers["x-accel-buffering"] == "no"
    assert raw.headers["content-type"] == "application/json"


def test_76_an_early_failure_keeps_its_status(admin_door: Door) -> None:
    admin_door.stage.end = FailureNote("content_policy_violation", "Refused.")

    assert_error(admin_door.post(koi()), 400, "content_policy_violation", None)


def test_77_a_late_failure_cuts_the_connection(admin_door: Door) -> None:
    admin_door.stage.delay_s = 0.3
    admin_door.stage.end = FailureNote("upstream_error", "The provider failed.")

    with (
        sdk(admin_door, max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.images.generate(model=MODEL, prompt=PROMPT)

    wait_until(lambda: bool(admin_door.stage.observed))
    assert admin_door.stage.observed[0][2] == 502


# G. Streaming


def test_81_and_83_a_stream_is_comments_then_one_event_per_image(door: Door) -> None:
    door.stage.delay_s = 0.2
    with sdk(door, _strict_response_validation=True) as client:
        events = list(client.images.generate(model=MODEL, prompt=PROMPT, n=2, stream=True))

    assert [event.type for event in events] == ["image_generation.completed"] * 2
    assert [base64.b64decode(event.b64_json) for event in events] == [PNG, PNG]
    assert events[0].usage.total_tokens == 0  # type: ignore[union-attr]
    assert events[0].quality == "medium"


def test_82_a_failing_stream_raises_with_its_code(client: openai.OpenAI, door: Door) -> None:
    door.stage.delay_s = 0.1
    door.stage.end = FailureNote("upstream_error", "The provider failed.")

    with pytest.raises(openai.APIError) as caught:
        list(client.images.generate(model=MODEL, prompt=PROMPT, stream=True))

    assert caught.value.code == "upstream_error"


# H. Multipart, models, browsers


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("route", ["edit", "create_variation"])
def test_86_edits_are_refused_cleanly(client: openai.OpenAI, route: str) -> None:
    picture = ("koi.png", PNG * 1000, "image/png")
    call = getattr(client.images, route)
    fields = {"prompt": PROMPT} if route == "edit" else {}

    with pytest.raises(openai.BadRequestError) as caught:
        call(model=MODEL, image=picture, **fields)

    assert caught.value.code == "unsupported_endpoint"


def test_87_models_are_listed_without_their_aliases(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "painter"]


def test_87_a_narrow_key_sees_its_models_only(door: Door) -> None:
    with sdk(door, api_key=door.narrow_key) as client:
        assert [model.id for model in client.models.list()] == ["painter"]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(MODEL)


@pytest.mark.parametrize("name", [MODEL, "dall-e-3", "studio/painter"])
def test_88_a_model_is_found_by_any_name(client: openai.OpenAI, name: str) -> None:
    assert client.models.retrieve(name).id == name


SDK_HEADERS = "accept,authorization,content-type,x-stainless-arch,x-stainless-retry-count"


def test_89_a_browser_may_ask_and_read(door: Door) -> None:
    page = {"Origin": "https://app.example"}
    asking = {
        **page,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": SDK_HEADERS,
        "Access-Control-Request-Private-Network": "true",
    }

    preflight = door.call("OPTIONS", "/v1/images/generations", asking, key=None)
    refused = door.call("GET", "/v1/models", page, key=None)

    assert preflight.status == 204
    assert preflight.headers["access-control-allow-headers"] == SDK_HEADERS
    assert preflight.headers["access-control-allow-private-network"] == "true"
    assert refused.status == 401
    for headers in (preflight.headers, refused.headers):
        assert headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in headers
        assert {"x-request-id", "retry-after", "x-should-retry"} <= set(
            headers["access-control-expose-headers"].split(", ")
        )


def test_89_a_strange_origin_is_not_let_in(admin_door: Door) -> None:
    friend = admin_door.call("GET", "/v1/models", {"Origin": "https://friend.example"})
    stranger = admin_door.call("GET", "/v1/models", {"Origin": "https://evil.example"})

    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    assert "access-control-allow-origin" not in stranger.headers
    assert stranger.headers["vary"] == "origin"


def test_90_the_request_id_of_the_sdk_is_the_one_in_the_log(
    client: openai.OpenAI, door: Door
) -> None:
    with structlog.testing.capture_logs() as lines:
        images = client.images.generate(
            model=MODEL, prompt="a secret koi", extra_headers={"X-Client-Request-Id": "mine-1"}
        )
        wait_until(lambda: any("task_id" in line for line in lines))

    line = next(line for line in lines if "task_id" in line)
    assert line["request_id"] == images._request_id
    assert (line["route"], line["status"]) == ("/v1/images/generations", 200)
    assert (line["user"], line["key_id"]) == ("ann", "key_ann")
    assert line["client_request_id"] == "mine-1"
    assert "secret" not in repr(lines)
    assert door.key not in repr(lines)


# I. Metering


def test_91_the_sdks_admin_client_reads_usage(admin_door: Door) -> None:
    with sdk(admin_door, admin_api_key=ADMIN_KEY, _strict_response_validation=True) as client:
        page = client.admin.organization.usage.images(
            start_time=NOW, end_time=NOW + 10 * 86_400, group_by=["model", "user_id"],
            user_ids=["ann", "bob"],
        )  # fmt: skip
        rest = client.admin.organization.usage.images(
            start_time=NOW, end_time=NOW + 10 * 86_400, page=page.next_page or ""
        )

    result = page.data[0].results[0]
    assert (len(page.data), page.has_more) == (7, True)
    assert (len(rest.data), rest.has_more) == (3, False)
    assert (result.images, result.num_model_requests) == (2, 1)  # type: ignore[union-attr]
    assert (result.model, result.user_id) == ("some-model", "some-user")  # type: ignore[union-attr]
    assert result.project_id is None  # type: ignore[union-attr]
    assert admin_door.stage.questions[0].users == {"ann", "bob"}


def test_91_the_sdks_admin_client_reads_costs(admin_door: Door) -> None:
    with sdk(admin_door, admin_api_key=ADMIN_KEY, _strict_response_validation=True) as client:
        page = client.admin.organization.usage.costs(start_time=NOW, group_by=["line_item"])

    result = page.data[0].results[0]
    assert (result.amount.value, result.amount.currency) == (0.28, "cny")  # type: ignore[union-attr]
    assert (result.line_item, result.quantity_unit) == ("some-model, images", "images")  # type: ignore[union-attr]


def test_an_unknown_price_is_null_and_never_zero(admin_door: Door) -> None:
    admin_door.stage.micros = None

    path = f"/v1/organization/costs?start_time={NOW}"
    answer = admin_door.call("GET", path, key=ADMIN_KEY).json

    assert answer["data"][0]["results"][0]["amount"] is None


@pytest.mark.parametrize(
    "query",
    ["group_by%5B%5D=model&group_by%5B%5D=size", "group_by=model&group_by=size",
     "group_by=model,size"],
    ids=["brackets", "repeated", "comma"],
)  # fmt: skip
def test_92_an_array_is_understood_in_any_spelling(admin_door: Door, query: str) -> None:
    path = f"/v1/organization/usage/images?start_time={NOW}&end_time={NOW + 60}&{query}"
    answer = admin_door.call("GET", path, key=ADMIN_KEY)

    assert answer.status == 200
    assert admin_door.stage.questions[0].by == ("model", "size")


@pytest.mark.parametrize(("query", "param"), [
    ("", "start_time"), ("start_time=x", "start_time"), ("start_time=5&end_time=5", "end_time"),
    ("start_time=1&bucket_width=2d", "bucket_width"), ("start_time=1&limit=32", "limit"),
    ("start_time=1&group_by=colour", "group_by"), ("start_time=1&page=page_2", "page"),
    ("start_time=1&page=x", "page"),
])  # fmt: skip
def test_a_usage_question_is_understood_or_refused_by_name(
    admin_door: Door, query: str, param: str
) -> None:
    answer = admin_door.call("GET", f"/v1/organization/usage/images?{query}", key=ADMIN_KEY)

    assert answer.status == 400
    assert answer.error["param"] == param


def test_a_caller_sees_its_own_limits(door: Door) -> None:
    usage = door.call("GET", "/v1/usage").json

    requests, images, _, money, concurrency = usage["limits"]
    assert usage["user"] == "ann"
    assert (requests["meter"], requests["remaining"]) == ("requests", 59)
    assert (images["scope"], images["window"]) == ("user", "day")
    assert (images["limit"], images["used"], images["held"], images["remaining"]) == (100, 3, 2, 95)
    assert images["resets_at"].endswith("Z")
    assert (money["limit"], money["used"]) == ("10.00", "0.14")
    assert (concurrency["limit"], concurrency["resets_at"]) == (None, None)
