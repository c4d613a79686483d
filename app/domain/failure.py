"""A failure as a value, and what is known about the provider's bill after one.

The registries of failure codes that are not classes of their own; see `app.domain.errors`.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache


class BillingEvidence(StrEnum):
    """What is known about the provider's bill after a failure (decision 29)."""

    NEVER_SENT = "P0"
    """No byte of the request left this machine."""
    REFUSED = "P1"
    """A status below 500 says that nothing was made, whoever sent it and in whatever words."""
    FAILED = "P2"
    """The provider says that it failed (JSON 5xx, failed task): released, but not verified."""
    UNKNOWN = "P3"
    """Everything else: the image may have been made and billed."""

    @property
    def disproves_charge(self) -> bool:
        return self is not BillingEvidence.UNKNOWN


@dataclass(frozen=True, slots=True)
class FailureNote:
    """A failure as a value: a job's record keeps it, and routes answer with it."""

    code: str
    message: str
    retryable: bool = False
    charged: bool = False
    param: str | None = None
    retry_after_s: int | None = None


build_note = lru_cache(maxsize=512)(FailureNote)
"""A note that was made before, where there is one: most failures are told in the same words."""

INVALID_CODES = frozenset(
    {
        "bad_request",
        "duplicate_header",
        "duplicate_key",
        "header_fields_too_large",
        "integer_above_max_value",
        "integer_below_min_value",
        "invalid_body",
        "invalid_encoding",
        "invalid_host",
        "invalid_idempotency_key",
        "invalid_json",
        "invalid_type",
        "invalid_value",
        "method_not_allowed",
        "missing_required_parameter",
        "request_timeout",
        "request_too_large",
        "string_above_max_length",
        "too_complex",
        "too_deep",
        "unknown_parameter",
        "unknown_url",
        "unsupported_endpoint",
        "unsupported_media_type",
        "unsupported_parameter",
        "uri_too_long",
    }
)

RETRYABLE_UPSTREAM_CODES = frozenset({"upstream_rate_limited", "upstream_unreachable"})
FINAL_UPSTREAM_CODES = frozenset(
    {
        "content_policy_violation",
        "empty_result",
        "image_unavailable",
        "task_expired",
        "upstream_ambiguous",
        "upstream_auth",
        "upstream_billing",
        "upstream_error",
        "upstream_incomplete",
        "upstream_invalid_response",
        "upstream_rejected",
        "upstream_timeout",
        "upstream_tls",
    }
)
UPSTREAM_CODES = {
    code: code in RETRYABLE_UPSTREAM_CODES
    for code in sorted(RETRYABLE_UPSTREAM_CODES | FINAL_UPSTREAM_CODES)
}
"""code -> whether a repeat can help, given evidence that nothing was billed."""
