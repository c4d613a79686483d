"""The public error contract: complete, in one dialect, and clear about repeating."""

import json
from collections.abc import Iterator

import pytest

from app.api.errors import ERROR_TABLE, NON_REFUSAL_CODES, build_error_headers, build_error_object
from app.domain import errors
from app.domain.errors import (
    BillingEvidence,
    FailureNote,
    GatewayError,
    InvalidRequest,
    UpstreamError,
)
from app.domain.failure import INVALID_CODES, UPSTREAM_CODES
from tests.contract.bad_bodies import assert_error, koi
from tests.contract.door import Door

TASK = "task_" + "0" * 32


def kinds(kind: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from kinds(narrower)


CODES = {kind.code for kind in kinds()} | INVALID_CODES | UPSTREAM_CODES.keys()


def test_every_code_has_a_row_and_every_row_a_code() -> None:
    assert ERROR_TABLE.keys() == CODES
    assert NON_REFUSAL_CODES <= CODES


def test_every_row_is_an_error_status() -> None:
    odd = {code: row for code, row in ERROR_TABLE.items() if not 400 <= row[0] < 600 or not row[1]}

    assert odd == {}
    assert not any(status in (402, 409, 423, 425) for status, _ in ERROR_TABLE.values())


@pytest.mark.parametrize("code", sorted(CODES))
def test_no_code_asks_for_a_wait_outside_one_to_sixty_seconds(code: str) -> None:
    for seconds in (None, 0, 1, 60, 86_400):
        headers = build_error_headers(FailureNote(code, "x", retryable=True, retry_after_s=seconds))
        assert 1 <= int(headers.get("retry-after", "1")) <= 60

    hopeless = build_error_headers(FailureNote(code, "x", retry_after_s=5))
    assert hopeless["x-should-retry"] == ("true" if code == "request_timeout" else "false")
    assert code == "request_timeout" or "retry-after" not in hopeless


def upstream(
    code: str, proof: BillingEvidence = BillingEvidence.REFUSED, wait_s: int | None = None
) -> UpstreamError:
    return UpstreamError(code, "The provider failed.", proof=proof, retry_after_s=wait_s)


RAISED = [
    (errors.InsufficientQuota("Used up.", retry_after_s=9999), 429, "insufficient_quota", False,
     None),
    (errors.RateLimited("Slow down.", retry_after_s=7), 429, "rate_limit_error", True, "7"),
    (errors.RateLimited("Slow down.", retry_after_s=3600), 429, "rate_limit_error", True, "60"),
    (errors.RateLimited("The limit is 0."), 429, "rate_limit_error", False, None),
    (errors.ConcurrencyLimited("One at a time.", scope="user:ann", retry_after_s=12), 429,
     "rate_limit_error", True, "12"),
    (errors.ConcurrencyLimited("None.", scope="user:ann", retry_after_s=None), 429,
     "rate_limit_error", False, None),
    (errors.PriceUnknown("No price."), 400, "invalid_request_error", False, None),
    (errors.NotCached("Not cached."), 504, "server_error", False, None),
    (errors.IdempotencyKeyReused(), 422, "invalid_request_error", False, None),
    (errors.LedgerUnavailable(), 503, "service_unavailable_error", True, "2"),
    (errors.GatewayDraining(), 503, "service_unavailable_error", True, "1"),
    (errors.GatewayOverloaded(), 503, "service_unavailable_error", True, "2"),
    (errors.ModelNotFound("No.", param="model"), 404, "invalid_request_error", False, None),
    (errors.StillProcessing("Go on.", task_id=TASK), 504, "server_error", True, "1"),
    (upstream("upstream_auth"), 502, "server_error", False, None),
    (upstream("upstream_billing"), 503, "service_unavailable_error", False, None),
    (upstream("upstream_rate_limited", wait_s=90), 429, "rate_limit_error", True, "60"),
    (upstream("upstream_unreachable", BillingEvidence.NEVER_SENT), 502, "server_error", True, None),
    (upstream("upstream_ambiguous", BillingEvidence.UNKNOWN), 502, "server_error", False, None),
    (upstream("upstream_timeout", BillingEvidence.UNKNOWN), 504, "server_error", False, None),
    (upstream("content_policy_violation"), 400, "image_generation_user_error", False, None),
    (upstream("upstream_rejected"), 400, "image_generation_user_error", False, None),
]  # fmt: skip


@pytest.mark.parametrize(("error", "status", "kind", "retry", "wait"), RAISED,
                         ids=[f"{row[0].note.code} {row[4]}" for row in RAISED])  # fmt: skip
def test_a_failure_tells_the_client_what_to_do(
    door: Door, error: GatewayError, status: int, kind: str, retry: bool, wait: str | None
) -> None:
    door.stage.refuse = error

    answer = door.post(koi())

    assert_error(answer, status, error.note.code, error.param)
    assert answer.error["type"] == kind
    assert answer.headers["x-should-retry"] == ("true" if retry else "false")
    assert answer.headers.get("retry-after") == wait
    assert answer.headers.get("retry-after-ms") == (f"{wait}000" if wait else None)


def test_a_refusal_shows_the_limits_behind_it(door: Door) -> None:
    door.stage.refuse = errors.RateLimited("Slow down.", retry_after_s=1)

    answer = door.post(koi())

    assert answer.headers["x-ratelimit-limit-requests"] == "60"
    assert answer.headers["x-ratelimit-remaining-images"] == "95"
    assert door.stage.refusals == ["rate_limit_exceeded"]


def test_a_draining_gateway_closes_the_connection(door: Door) -> None:
    door.stage.refuse = errors.GatewayDraining()

    assert door.post(koi()).closed


def test_a_jobs_own_end_is_told_with_its_task_id(door: Door) -> None:
    door.stage.end = FailureNote("upstream_error", "The provider failed.", charged=True)

    answer = door.post(koi())

    assert_error(answer, 502, "upstream_error", None)
    assert answer.error["task_id"] == answer.headers["x-koi-task-id"]
    assert answer.error["task_id"] in door.stage.jobs
    assert not door.stage.abandoned


def test_a_bug_is_one_fixed_sentence(door: Door) -> None:
    door.stage.refuse = ZeroDivisionError("secret detail")

    answer = door.post(koi())

    assert_error(answer, 500, "internal_error", None)
    assert answer.error["type"] == "server_error"
    assert answer.headers["x-should-retry"] == "false"
    assert b"detail" not in answer.body
    assert b"Traceback" not in answer.body


def test_an_error_object_has_the_four_fields_and_only_them() -> None:
    note = InvalidRequest("invalid_value", "No.", param="n").note

    assert build_error_object(note) == {
        "message": "No.",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_value",
    }
    assert json.dumps(build_error_object(note))


def test_a_refused_prompt_is_told_in_the_words_of_every_client() -> None:
    """One code fits one string; clients of later image models and of relays read the message."""
    error = build_error_object(FailureNote("content_policy_violation", "The provider refused it."))

    assert error["code"] == "content_policy_violation"
    assert error["message"].startswith("The provider refused it. (")
    assert "moderation_blocked" in error["message"]
    assert "request was rejected as a result of the safety system" in error["message"].lower()
