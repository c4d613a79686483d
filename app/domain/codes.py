"""The registries of failure codes that are not classes of their own; see `app.domain.errors`."""

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

RETRYABLE = frozenset({"upstream_rate_limited", "upstream_unreachable"})
FINAL = frozenset(
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
UPSTREAM_CODES = {code: code in RETRYABLE for code in sorted(RETRYABLE | FINAL)}
"""code -> whether a repeat can help, given proof that nothing was billed."""
