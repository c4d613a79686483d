"""Conformance: paths, keys, errors, limits, browsers.

What clients of the OpenAI API rely on, one statement a test; no provider is needed for these.
"""

import json

import openai
import pytest
import structlog

from app.domain.errors import InsufficientQuota
from tests.contract.bad_bodies import KOI, MODEL, PROMPT, koi
from tests.contract.door import Door, sdk, wait_until
from tests.contract.stand_in import PNG


@pytest.mark.parametrize(
    "prefix",
    ["/v1", "", "/v1/", "/v1/v1", "//v1", "/openai/v1"],
    ids=["v1", "no v1", "slash", "double v1", "double slash", "openai/v1"],
)
def test_any_spelling_of_the_base_url_works(door: Door, prefix: str) -> None:
    answer = door.post(koi(), path=f"{prefix}/images/generations")

    assert answer.status == 200
    assert isinstance(answer.json["created"], int)
    assert len(answer.json["data"]) == 1


def test_a_trailing_slash_is_no_redirect(door: Door) -> None:
    assert door.post(koi(), path="/v1/images/generations/").status == 200
    assert door.call("GET", "/v1/models/").status == 200


def test_the_azure_client_works(door: Door) -> None:
    azure = openai.AzureOpenAI(
        api_key=door.key, azure_endpoint=door.url, api_version="2024-02-01",
        azure_deployment="dall-e-3",
    )  # fmt: skip

    with azure:
        images = azure.images.generate(model="dall-e-3", prompt=PROMPT)

    assert images.data
    assert images.data[0].url
    assert door.stage.asked[0].request.model == MODEL


def test_an_azure_path_names_the_model(door: Door) -> None:
    path = "/openai/deployments/painter/images/generations?api-version=1"

    answer = door.post(b'{"prompt":"a koi"}', path=path)

    assert answer.status == 200
    assert door.stage.asked[0].request.model == "painter"


def test_a_wrong_key_is_an_authentication_error(door: Door) -> None:
    with sdk(door, api_key="nope") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.images.generate(model=MODEL, prompt=PROMPT)

    assert caught.value.code == "invalid_api_key"


def test_organization_headers_are_accepted(door: Door) -> None:
    with sdk(door, organization="o", project="p") as client:
        assert client.images.generate(model=MODEL, prompt=PROMPT).data


def test_a_chunked_body_is_read(door: Door) -> None:
    body = koi()
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}

    answer = door.post(chunks + b"0\r\n\r\n", headers)  # type: ignore[arg-type]

    assert answer.status == 200


def test_expect_continue_is_honoured(door: Door) -> None:
    assert door.post(koi(), {"Expect": "100-continue"}).status == 200


def test_codes_are_text(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(model=MODEL, prompt="")

    assert caught.value.code == "missing_required_parameter"
    assert caught.value.request_id


def test_a_spent_quota_is_asked_for_once(client: openai.OpenAI, door: Door) -> None:
    door.stage.refuse = InsufficientQuota("Used up.", retry_after_s=3600)

    with pytest.raises(openai.RateLimitError) as caught:
        client.images.generate(model=MODEL, prompt=PROMPT)

    assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")
    assert len(door.stage.refusals) == 1
    assert "retry-after" not in caught.value.response.headers


def test_limits_are_told_with_every_answer(door: Door) -> None:
    headers = door.post(koi()).headers

    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "59"
    assert headers["x-ratelimit-reset-images"] == "3600s"
    assert headers["ratelimit-policy"].split(", ") == [
        '"requests-user-minute";q=60;qu="requests";w=60',
        '"images-user-day";q=100;qu="images";w=86400',
    ]
    assert headers["ratelimit"] == '"requests-user-minute";r=59;t=1, "images-user-day";r=95;t=3600'


def test_a_repeat_is_recognised_by_body_retry_header_and_key(door: Door) -> None:
    headers = {"Idempotency-Key": "k1", "x-stainless-retry-count": "1"}
    door.post(koi(), headers)
    door.post(json.dumps(dict(reversed(KOI.items())), indent=2).encode(), headers)
    door.post(koi(n=2), headers, key=door.other_key)

    one, same, other = (ask.dedup_keys for ask in door.stage.asked)
    assert one == same
    assert one.is_sdk_retry
    assert one.body != other.body
    assert one.idempotency_key != other.idempotency_key
    assert "k1" not in (one.idempotency_key or "")


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("route", ["edit", "create_variation"])
def test_edits_are_refused_cleanly(client: openai.OpenAI, route: str) -> None:
    picture = ("koi.png", PNG * 1000, "image/png")
    call = getattr(client.images, route)
    fields = {"prompt": PROMPT} if route == "edit" else {}

    with pytest.raises(openai.BadRequestError) as caught:
        call(model=MODEL, image=picture, **fields)

    assert caught.value.code == "unsupported_endpoint"


def test_models_are_listed_without_their_aliases(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "painter"]


def test_a_narrow_key_sees_its_models_only(door: Door) -> None:
    with sdk(door, api_key=door.narrow_key) as client:
        assert [model.id for model in client.models.list()] == ["painter"]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(MODEL)


@pytest.mark.parametrize("name", [MODEL, "dall-e-3", "studio/painter"])
def test_a_model_is_found_by_any_name(client: openai.OpenAI, name: str) -> None:
    assert client.models.retrieve(name).id == name


SDK_HEADERS = "accept,authorization,content-type,x-stainless-arch,x-stainless-retry-count"


def test_a_browser_may_ask_and_read(door: Door) -> None:
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


def test_a_strange_origin_is_not_let_in(admin_door: Door) -> None:
    friend = admin_door.call("GET", "/v1/models", {"Origin": "https://friend.example"})
    stranger = admin_door.call("GET", "/v1/models", {"Origin": "https://evil.example"})

    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    assert "access-control-allow-origin" not in stranger.headers
    assert stranger.headers["vary"] == "origin"


def test_the_request_id_of_the_sdk_is_the_one_in_the_log(client: openai.OpenAI, door: Door) -> None:
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
