"""Refusals: code, evidence, and when to come again."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from app.domain.errors import BillingEvidence, UpstreamError
from app.domain.upstream import TaskImages
from tests.adapters.upstream_script import (
    DONE,
    HTML,
    KOI,
    OK_BODY,
    P1,
    P2,
    P3,
    POLICY,
    Exchange,
    Script,
    error,
    head,
    raw,
    refused,
    reply,
    scripted,
    submit,
)


async def broken_off(exchange: Exchange) -> None:
    await exchange.send(head(429, "Content-Length: 500", "Retry-After: 7") + b"{", pause_s=0.05)
    exchange.reset()


REFUSED: dict[str, tuple[Script, str, BillingEvidence]] = {
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
    "f25-a-code-says-it-with-400": (error(400, "invalid_api_key"), "upstream_auth", P1),
    "f25-prose-alone-does-not": (
        reply(400, {"code": "invalid-argument", "error": "Incorrect API key provided: sk-***"}),
        "upstream_rejected",
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
    "f25-403-words-of-quota": (error(403, None, "user quota is not enough"), "upstream_auth", P1),
    "f25-403-words-of-budget": (
        error(403, "x", "budget reached"),
        "upstream_auth",
        P1,
    ),
    "f28-429-words-of-balance": (
        error(429, None, "balance low"),
        "upstream_rate_limited",
        P1,
    ),
    "f26-429-openai": (
        error(429, "insufficient_quota", "You exceeded your current quota"),
        "upstream_billing",
        P1,
    ),
    "f25-chinese": (error(403, None, "用户额度不足"), "upstream_auth", P1),
    "300-page": (raw(300, b""), "upstream_rejected", P1),
    "400-empty-object": (reply(400, {}), "upstream_rejected", P1),
    "400-page": (raw(400, HTML), "upstream_rejected", P1),
    "401-text": (raw(401, b"Unauthorized", "Content-Type: text/plain"), "upstream_auth", P1),
    "401-empty": (raw(401, b""), "upstream_auth", P1),
    "402-page": (raw(402, HTML), "upstream_billing", P1),
    "403-challenge": (raw(403, HTML, "Content-Type: text/html"), "upstream_auth", P1),
    "404-page": (raw(404, HTML), "upstream_rejected", P1),
    "405-page": (raw(405, HTML), "upstream_rejected", P1),
    "413-page": (raw(413, HTML), "upstream_rejected", P1),
    "415-empty": (raw(415, b""), "upstream_rejected", P1),
    "418-json": (error(418, "teapot"), "upstream_rejected", P1),
    "422-list": (raw(422, b"[1]"), "upstream_rejected", P1),
    "429-page": (raw(429, HTML, "Retry-After: 9"), "upstream_rate_limited", P1),
    "429-empty": (raw(429, b""), "upstream_rate_limited", P1),
    "429-unknown-coding": (raw(429, b"?", "Content-Encoding: lzma"), "upstream_rate_limited", P1),
    "429-broken-off": (broken_off, "upstream_rate_limited", P1),
    "451-page": (raw(451, HTML), "upstream_rejected", P1),
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


IN_200: dict[str, tuple[Any, str, BillingEvidence]] = {
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
async def test_good_json_of_another_type_is_accepted(content_type: str) -> None:
    events: list[str] = []
    script = raw(200, OK_BODY, f"Content-Type: {content_type}")

    async with scripted(script, observe=events.append) as (provider, _):
        answer = await provider.dispatch(KOI, asynchronous=False)

    assert isinstance(answer, TaskImages)
    assert events == ["wrong_content_type"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int) -> None:
    async with scripted(reply(200, DONE)) as (_, elsewhere):
        location = f"Location: http://127.0.0.1:{elsewhere.port}/v1/images/generations"
        async with scripted(reply(status, DONE, location)) as (provider, upstream):
            failed = await refused(provider)

        assert (failed.reason, failed.proof) == ("upstream_rejected", P1)
        assert "redirects" in failed.message
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
    "absurd": ([f"Retry-After: {'9' * 200}"], None, 60),
    "absurd-date": (["Retry-After: Wed, 21 Oct 999999999999 07:28:00 GMT"], None, 2),
    "absurd-zone": (["Retry-After: Wed, 21 Oct 2015 07:28:00 +99999999"], None, 2),
    "date-of-year-0": (["Retry-After: Wed, 21 Oct 0000 07:28:00 GMT"], None, 1),
    "no-date": (["Retry-After: Wed, 41 Foo 2015 77:88:99 GMT"], None, 2),
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
async def test_every_form_of_retry_after_ends_between_1_and_60(form: str) -> None:
    headers, said, expected = WAITS[form]
    more = {} if said is None else {"retry_after": said}

    async with scripted(error(429, "rate_limited", "no", *headers, **more)) as (provider, _):
        failed = await refused(provider)

    assert failed.retry_after_s == expected


@pytest.mark.parametrize("form", [form for form, (_, said, _) in WAITS.items() if said is None])
async def test_a_page_with_429_is_waited_for_as_long(form: str) -> None:
    headers, _, expected = WAITS[form]

    async with scripted(raw(429, HTML, *headers)) as (provider, _):
        failed = await refused(provider)

    assert (failed.reason, failed.retry_after_s) == ("upstream_rate_limited", expected)
    assert failed.note.retryable


async def test_a_refusal_whose_body_never_ends_is_not_waited_for() -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(head(429, "Content-Length: 500", "Retry-After: 7") + b"{")
        await exchange.gone()

    async with scripted(endless, timeout_s=1) as (provider, _):
        failed = await refused(provider)

    assert (failed.reason, failed.proof, failed.retry_after_s) == ("upstream_rate_limited", P1, 7)


@pytest.mark.parametrize(
    ("script", "about_us"),
    [
        (raw(403, HTML), False),
        (reply(403, {"message": "Forbidden"}), False),
        (error(403, "model_not_allowed"), True),
        (raw(401, b"Unauthorized"), True),
        (raw(402, b""), True),
    ],
)
async def test_a_firewalls_page_is_no_verdict_on_our_key(script: Script, about_us: bool) -> None:
    """Any caller's prompt may annoy a firewall: that must not stop everybody."""
    async with scripted(script) as (provider, _):
        failed = await refused(provider)

    assert failed.concerns_our_account is about_us


FEES: dict[str, tuple[Script, bool | None]] = {
    "code": (error(400, "violation_fee.grok.csam"), True),
    "kind": (error(403, None, "no", type="moderation_fee"), True),
    "flag": (error(400, POLICY, "no", billed=True), True),
    "flag-outside": (
        reply(400, {"error": {"code": POLICY}, "charged": True}),
        True,
    ),
    "free": (error(400, POLICY, "no", charged=False), False),
    "unsaid": (error(400, POLICY), None),
    "prose": (error(400, None, "a violation_fee was charged, billed: true"), None),
    "none": (error(400, "no_fee"), None),
    "other": (error(400, "coffee_order"), None),
    "in-200": (reply(200, {"error": {"code": "violation_fee", "message": "x"}}), True),
    "failed-task": (reply(200, {"status": "failed", "error": {"code": "violation_fee"}}), True),
}


@pytest.mark.parametrize("row", FEES)
async def test_a_code_or_flag_that_names_a_fee_says_that_it_costs(row: str) -> None:
    script, billed = FEES[row]

    async with scripted(script) as (provider, _):
        failed = await refused(provider)

    assert failed.billed is billed


QUOTED = "a poster about content policy, invalid api key, moderation failed, your balance"


@pytest.mark.parametrize(
    ("status", "code", "proof"),
    [
        (400, "upstream_rejected", P1),
        (403, "upstream_auth", P1),
        (422, "upstream_rejected", P1),
        (429, "upstream_rate_limited", P1),
        (500, "upstream_error", P2),
        (200, "upstream_error", P3),
    ],
)
async def test_what_stands_in_the_prompt_changes_nothing(
    status: int, code: str, proof: BillingEvidence
) -> None:
    request = replace(KOI, prompt=QUOTED)
    script = error(status, "odd_code", f"Cannot draw {QUOTED.upper()[:60]!r}…")

    async with scripted(script) as (provider, _):
        with pytest.raises(UpstreamError) as failed:
            await provider.dispatch(request, asynchronous=False)

    assert (failed.value.reason, failed.value.proof) == (code, proof)


async def test_prose_in_a_200_releases_nothing() -> None:
    for message in ("Content policy", "invalid api key", "insufficient balance", "rate limited"):
        with pytest.raises(UpstreamError) as failed:
            await submit({"error": {"message": message, "code": "odd_code"}})

        assert (failed.value.reason, failed.value.proof) == ("upstream_error", P3)


async def test_a_long_text_of_the_provider_costs_no_time() -> None:
    for piece in ("(", " ", "insufficient_", "rejected ", "<", "bearer ", "request id ", "中"):
        text = piece * (200_000 // len(piece))
        async with scripted(error(400, "odd_code", text)) as (provider, _):
            started = time.process_time()
            await refused(provider)

        assert time.process_time() - started < 3


async def test_a_field_we_sent_is_named_and_another_is_not() -> None:
    script = [error(400, None, "too long", param=name) for name in ("prompt", "response_format")]

    async with scripted(*script) as (provider, _):
        named, hidden = await refused(provider), await refused(provider)

    assert (named.param, hidden.param) == ("prompt", None)
