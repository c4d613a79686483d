"""What each error code means to a caller, and which codes each kind of route may answer.

The schema shows these sentences as examples; the real message says more where more is known.
"""

from collections.abc import Iterable, Mapping

import orjson

from app.api.errors import ERROR_TABLE, build_error_body, build_error_headers, get_status
from app.domain.failure import UPSTREAM_CODES, FailureNote

MEANINGS: Mapping[str, str] = {
    "admin_key_required": "This route needs the admin key.",
    "bad_request": "The request is not valid HTTP/1.1.",
    "concurrency_limit_exceeded": "Too many jobs at once; wait as long as Retry-After says.",
    "conflict": "What is there already does not allow this change.",
    "content_policy_violation": "The provider refused the prompt; change it.",
    "cross_origin_refused": "The request came with a cookie, and not from this gateway's own page.",
    "draining": "This gateway is restarting; repeat the request.",
    "duplicate_header": "Send one Authorization header.",
    "duplicate_key": "A field is given more than once.",
    "empty_result": "The provider answered without a picture.",
    "header_fields_too_large": "The request headers are too large.",
    "idempotency_key_reuse": "This Idempotency-Key was used with another body; use a new one.",
    "image_not_found": "No such image, or its link has expired.",
    "image_unavailable": "The image was made, but its bytes are no longer stored.",
    "insufficient_permissions": "This admin key may not do that.",
    "insufficient_quota": "A limit of this key, user or team is used up.",
    "integer_above_max_value": "A number is above its maximum.",
    "integer_below_min_value": "A number is below its minimum.",
    "internal_error": "The gateway failed; its operator has been told.",
    "interrupted": "The gateway stopped before the request was sent; nothing was spent. Repeat it.",
    "invalid_api_key": "Incorrect API key provided.",
    "invalid_body": "The body must be a JSON object.",
    "invalid_encoding": "The body must be UTF-8 without lone surrogates.",
    "invalid_host": "The Host header is missing, malformed or not served here.",
    "invalid_idempotency_key": "Idempotency-Key must be 1 to 255 visible ASCII characters.",
    "invalid_json": "The body is not valid JSON.",
    "invalid_type": "A field has the wrong type.",
    "invalid_value": "A field or parameter has a value that is not supported.",
    "ledger_unavailable": "The ledger is unavailable; nothing was spent. Repeat the request.",
    "method_not_allowed": "This URL does not take this method.",
    "missing_required_parameter": "A required field or parameter is missing.",
    "model_not_found": "The model does not exist or this key may not use it.",
    "not_allowed": "Only the operator may do that; nothing was changed.",
    "not_cached": "No stored picture answers this request (only-if-cached).",
    "object_not_found": "There is no such project, user or key.",
    "overloaded": "Too many requests in flight, or the image store is away; repeat the request.",
    "price_unknown": "The model has no price, so a money budget cannot be kept.",
    "project_archived": "The team of this key is archived.",
    "invitation_ended": "This link was used, was withdrawn, has expired or never existed.",
    "rate_limit_exceeded": "Too many requests; wait as long as Retry-After says.",
    "request_timeout": "The request did not arrive in time.",
    "request_too_large": "The request body is too large. Nothing was charged.",
    "spending_stopped": "The operator stopped spending.",
    "still_processing": "The job goes on; a repeat of this request joins it and pays nothing.",
    "string_above_max_length": "A text is longer than allowed.",
    "task_cancelled": "The task was cancelled before anything was sent.",
    "task_expired": "The provider no longer knows the task.",
    "task_not_cancellable": "The task was sent to the provider already, or has ended.",
    "task_not_found": "No such task, or it has expired.",
    "too_complex": "The body has too many brackets, commas and colons.",
    "too_deep": "The body is nested too deeply.",
    "too_many_refusals": "The provider refused too many requests of this user within the hour.",
    "too_many_waiting": "This key's share of waiting requests is taken; repeat a little later.",
    "unknown_parameter": "Unknown parameter.",
    "unknown_url": "No such URL here.",
    "unsupported_endpoint": "No model here takes images. Nothing was charged.",
    "unsupported_media_type": "Send JSON with Content-Type: application/json.",
    "unsupported_parameter": "This model takes no such parameter. Nothing was charged.",
    "upstream_ambiguous": "The connection to the provider broke; the call may be charged.",
    "upstream_auth": "The provider refused the gateway's key; nothing was made.",
    "upstream_billing": "The gateway's account at the provider cannot pay; nothing was made.",
    "upstream_error": "The provider failed.",
    "upstream_incomplete": "The provider's answer broke off; the call may be charged.",
    "upstream_invalid_response": "The provider's answer cannot be read; it may be charged.",
    "upstream_rate_limited": "The provider is busy; wait as long as Retry-After says.",
    "upstream_rejected": "The provider refused the request; nothing was made.",
    "upstream_timeout": "The provider did not answer in time; the call may be charged.",
    "upstream_tls": "The provider's certificate was not accepted; nothing was sent.",
    "upstream_unreachable": "The provider cannot be reached; nothing was sent.",
    "uri_too_long": "The URL is too long.",
}
"""code -> one sentence, complete by test."""

CONNECTION_CODES = frozenset(
    {
        "bad_request", "draining", "header_fields_too_large", "internal_error", "invalid_host",
        "overloaded", "request_timeout", "uri_too_long",
    }
)  # fmt: skip
"""What any request may be answered, whatever its route."""
CREDENTIAL_CODES = frozenset({"duplicate_header", "invalid_api_key"})
KEY_CODES = CREDENTIAL_CODES | {
    "cross_origin_refused", "ledger_unavailable", "project_archived", "rate_limit_exceeded",
}  # fmt: skip
"""What any request with a user's key may be answered."""
QUERY_CODES = frozenset({"invalid_value", "missing_required_parameter"})
BODY_CODES = frozenset(
    {
        "duplicate_key", "integer_above_max_value", "integer_below_min_value", "invalid_body",
        "invalid_encoding", "invalid_json", "invalid_type", "invalid_value",
        "missing_required_parameter", "request_too_large", "string_above_max_length",
        "too_complex", "too_deep", "unknown_parameter", "unsupported_media_type",
        "unsupported_parameter",
    }
)  # fmt: skip
ADMISSION_CODES = frozenset(
    {
        "concurrency_limit_exceeded", "idempotency_key_reuse", "insufficient_quota",
        "invalid_idempotency_key", "model_not_found", "not_cached", "price_unknown",
        "spending_stopped", "too_many_refusals", "too_many_waiting",
    }
)  # fmt: skip
JOB_CODES = frozenset({"interrupted", "still_processing", "task_cancelled", *UPSTREAM_CODES})
GENERATION_CODES = KEY_CODES | BODY_CODES | ADMISSION_CODES | JOB_CODES


def group_by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    """HTTP status -> its codes, both in order."""
    grouped: dict[int, list[str]] = {}
    for code in sorted(codes, key=lambda code: (ERROR_TABLE[code], code)):
        grouped.setdefault(get_status(code), []).append(code)
    return grouped


def build_example(code: str) -> object:
    """The body of such an error, written by the code that writes the real ones."""
    return orjson.loads(build_error_body(FailureNote(code, MEANINGS[code])))


def list_headers(code: str) -> frozenset[str]:
    """Names of the headers that come with such an error when a repeat helps."""
    note = FailureNote(code, MEANINGS[code], retryable=True, retry_after_s=1)
    allow = {"allow"} if code == "method_not_allowed" else set[str]()
    return (frozenset(build_error_headers(note)) | allow) - {"connection"}
