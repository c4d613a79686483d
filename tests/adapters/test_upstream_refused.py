"""Refusals (reliability study, F16-F17 and F24-F32): code, proof, and when to come again."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from app.domain.errors import Proof, UpstreamError
from app.domain.upstream import Finished
from tests.adapters.upstream_script import (
    DONE,
    KOI,
    OK_BODY,
    P1,
    P2,
    P3,
    POLICY,
    Script,
    error,
    raw,
    refused,
    reply,
    scripted,
    submit,
)

REFUSED: dict[str, tuple[Script, str, Proof]] = {
    "f24-400": (error(400, "invalid_value"), "upstream_rejected", P1),
    "f24-422": (error(422, None), "upstream_rejected", P1),
    "f24-xai": (
        reply(400, {"code": "invalid-argument", "error": "bad size"}),
        "upstream_rejected",
        P1,
    ),
    "f24-flat": (
        reply(400, {"code": 1007, "message": "bad", "data": None}),
        "upstream_rejected",
        P1,
    ),
    "f24-fastapi": (
        reply(422, {"detail": [{"loc": ["body", "n"], "msg": "too big"}]}),
        "upstream_rejected",
        P1,
    ),
    "f24-detail": (reply(400, {"detail": "bad"}), "upstream_rejected", P1),
    "f24-moderation": (error(400, POLICY), POLICY, P1),
    "f24-openai-moderation": (
        error(400, "moderation_blocked", type="image_generation_user_error"),
        POLICY,
        P1,
    ),
    "f24-xai-guidelines": (
        reply(400, {"code": "400", "error": "Content violates usage guidelines."}),
        POLICY,
        P1,
    ),
    "f24-403-safety": (error(403, None, "Failed check: SAFETY_CHECK_TYPE_CSAM"), POLICY, P1),
    "f24-chinese": (error(400, None, "提示词包含敏感内容"), POLICY, P1),
    "f24-a-parameter-named-moderation": (
        error(400, "unknown_parameter", "Unknown parameter: moderation"),
        "upstream_rejected",
        P1,
    ),
    "f25-401": (error(401, "invalid_api_key"), "upstream_auth", P1),
    "f25-403": (error(403, "model_not_allowed"), "upstream_auth", P1),
    "f25-xai-wrong-key-is-400": (
        reply(400, {"code": "invalid-argument", "error": "Incorrect API key provided: sk-***"}),
        "upstream_auth",
        P1,
    ),
    "f25-a-prompt-cannot-fake-it": (
        error(400, "invalid_value", "prompt 'incorrect api key' too long"),
        "upstream_rejected",
        P1,
    ),
    "f26-402": (error(402, "insufficient_balance"), "upstream_billing", P1),
    "f26-402-flat": (reply(402, {"code": "x", "message": "y"}), "upstream_billing", P1),
    "f26-403-quota": (error(403, "insufficient_user_quota"), "upstream_billing", P1),
    "f26-403-words": (error(403, None, "user quota is not enough"), "upstream_billing", P1),
    "f26-403-budget": (error(403, "key_limit", "daily budget reached"), "upstream_billing", P1),
    "f26-429-balance": (error(429, None, "account balance too low"), "upstream_billing", P1),
    "f26-429-openai": (
        error(429, "insufficient_quota", "You exceeded your current quota"),
        "upstream_billing",
        P1,
    ),
    "f26-chinese": (error(403, None, "用户额度不足"), "upstream_billing", P1),
    "f27-404-model": (error(404, "model_not_found"), "upstream_rejected", P1),
    "405": (error(405, None), "upstream_rejected", P1),
    "413": (error(413, "request_too_large"), "upstream_rejected", P1),
    "415": (error(415, None), "upstream_rejected", P1),
    "f28-429": (error(429, "rate_limit_exceeded"), "upstream_rate_limited", P1),
    "f28-429-quota-per-minute": (
        error(429, None, "Quota exceeded for requests per minute"),
        "upstream_rate_limited",
        P1,
    ),
    "f28-429-naming-moderation": (
        error(429, None, "content moderation rejected: too busy"),
        "upstream_rate_limited",
        P1,
    ),
    "f30-500": (error(500, "internal_error"), "upstream_error", P2),
    "f30-503-no-channel": (
        error(503, "model_not_found", "no available channel"),
        "upstream_error",
        P2,
    ),
    "f30-500-flat": (reply(500, {"code": "x", "message": "y"}), "upstream_error", P2),
    "f30-500-string": (reply(502, {"error": "failed"}), "upstream_error", P2),
    "f30-moderation-code": (error(500, POLICY), POLICY, P1),
}


@pytest.mark.parametrize("row", REFUSED)
async def test_an_honest_refusal_is_proof_and_is_not_repeated(row: str) -> None:
    script, code, proof = REFUSED[row]

    async with scripted(script) as (provider, upstream):
        failed = await refused(provider)

    assert (failed.reason, failed.proof) == (code, proof)
    assert not failed.note.charged
    assert failed.note.retryable is (code == "upstream_rate_limited")
    assert upstream.posts == 1


IN_200: dict[str, tuple[Any, str, Proof]] = {
    "openai-envelope": (
        {"error": {"message": "x", "code": "invalid_value"}},
        "upstream_rejected",
        P1,
    ),
    "by-kind": (
        {"error": {"message": "x", "type": "invalid_request_error"}},
        "upstream_rejected",
        P1,
    ),
    "service": ({"error": {"message": "x", "code": "service_error"}}, "upstream_error", P2),
    "numeric-401": ({"code": 401, "message": "no", "data": None}, "upstream_auth", P1),
    "numeric-429": ({"code": 429, "message": "slow"}, "upstream_rate_limited", P1),
    "nested": (
        {"error": {"error": {"message": "x", "code": "insufficient_user_quota"}}},
        "upstream_billing",
        P1,
    ),
    "unknown-number": ({"code": 1302, "message": "saturated", "data": None}, "upstream_error", P3),
    "unknown-word": (
        {"error": {"message": "API not found", "code": "api_not_found"}},
        "upstream_error",
        P3,
    ),
    "text-only": ({"error": "something"}, "upstream_error", P3),
    "timeout": (
        {"error": {"message": "x", "code": "generation_timeout"}},
        "upstream_ambiguous",
        P3,
    ),
    "flagged": ({"success": False, "message": "no"}, "upstream_error", P3),
}


@pytest.mark.parametrize("shape", IN_200)
async def test_an_error_in_a_200_means_what_its_code_means(shape: str) -> None:
    body, code, proof = IN_200[shape]

    with pytest.raises(UpstreamError) as failed:
        await submit(body)

    assert (failed.value.reason, failed.value.proof) == (code, proof)


@pytest.mark.parametrize("content_type", ["text/plain", "text/html", "application/octet-stream"])
async def test_f16_good_json_of_another_type_is_accepted(content_type: str) -> None:
    events: list[str] = []
    script = raw(200, OK_BODY, f"Content-Type: {content_type}")

    async with scripted(script, observe=events.append) as (provider, _):
        answer = await provider.dispatch(KOI, asynchronous=False)

    assert isinstance(answer, Finished)
    assert events == ["wrong_content_type"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_f32_a_redirect_is_never_followed(status: int) -> None:
    async with scripted(reply(200, DONE)) as (_, elsewhere):
        location = f"Location: http://127.0.0.1:{elsewhere.port}/v1/images/generations"
        async with scripted(reply(status, DONE, location)) as (provider, upstream):
            failed = await refused(provider)

        assert (failed.reason, failed.proof) == ("upstream_invalid_response", P3)
        assert upstream.posts == 1
        assert elsewhere.connections == 0


SOON = datetime.now(UTC) + timedelta(seconds=3600)


LONG_AGO = datetime(2015, 10, 21, tzinfo=UTC)


WAITS: dict[str, tuple[list[str], Any, int]] = {
    "integer": (["Retry-After: 7"], None, 7),
    "float": (["Retry-After: 2.2"], None, 3),
    "unit": (["Retry-After: 4s"], None, 4),
    "date": ([f"Retry-After: {format_datetime(SOON, usegmt=True)}"], None, 60),
    "date-past": ([f"Retry-After: {format_datetime(LONG_AGO, usegmt=True)}"], None, 1),
    "milliseconds": (["retry-after-ms: 4200"], None, 5),
    "milliseconds-first": (["Retry-After: 30", "retry-after-ms: 4200"], None, 5),
    "absent": ([], None, 2),
    "garbage": (["Retry-After: soon"], None, 2),
    "negative": (["Retry-After: -5"], None, 2),
    "nan": (["Retry-After: nan"], None, 2),
    "huge": (["Retry-After: 1000000000"], None, 60),
    "zero": (["Retry-After: 0"], None, 1),
    "reset-ms": (["x-ratelimit-reset-requests: 42ms"], None, 1),
    "reset-s": (["x-ratelimit-reset-requests: 4.2s"], None, 5),
    "reset-minutes": (["x-ratelimit-reset-requests: 0m12s"], None, 12),
    "reset-unix": ([f"x-ratelimit-reset: {int(time.time()) + 3600}"], None, 60),
    "reset-unix-ms": ([f"x-ratelimit-reset: {int(time.time() * 1000) + 3600_000}"], None, 60),
    "garbage-then-reset": (["Retry-After: ?", "x-ratelimit-reset: 9"], None, 9),
    "body": ([], 3.4, 4),
    "body-text": ([], "8", 8),
    "body-garbage": ([], {"a": 1}, 2),
}


@pytest.mark.parametrize("form", WAITS)
async def test_f29_every_form_of_retry_after_ends_between_1_and_60(form: str) -> None:
    headers, said, expected = WAITS[form]
    more = {} if said is None else {"retry_after": said}

    async with scripted(error(429, "rate_limited", "no", *headers, **more)) as (provider, _):
        failed = await refused(provider)

    assert failed.retry_after_s == expected


async def test_a_field_we_sent_is_named_and_another_is_not() -> None:
    script = [error(400, None, "too long", param=name) for name in ("prompt", "response_format")]

    async with scripted(*script) as (provider, _):
        named, hidden = await refused(provider), await refused(provider)

    assert (named.param, hidden.param) == ("prompt", None)
