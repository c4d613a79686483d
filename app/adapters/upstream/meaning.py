"""What a complaint is about: moderation, our account, a missing task, or an HTTP status in words.

A message may quote the caller's prompt, so that statuses and codes decide about money and about
the breaker. Prose only chooses between two public codes where the money is proven already.
"""

import re
from collections.abc import Mapping

from app.adapters.upstream.complaint import Complaint


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODERATION_CODE = re.compile(
    r"content_?policy|policy_violation|moderation_(?:blocked|failed|error)|moderated"
    r"|content_(?:filter|moderation|violation|blocked|flagged|unsafe)|safety(?:_|$)|nsfw|csam"
    r"|prohibited_content|violation_fee|sensitive|datainspection|data_inspection"
    r"|responsible_?ai|image_unsafe|prompt_blocked",
)
MODERATION_TEXT = re.compile(
    r"usage guideline|usage polic|content polic|content moderation|content filter"
    r"|safety (?:check|system|filter|polic)|safety_check|violates? (?:our|content|xai|usage|safety)"
    r"|(?:rejected|blocked|refused|flagged|failed)[\w ,]{0,40}(?:moderation|safety)"
    r"|(?:moderation|safety)[\w ,]{0,30}(?:rejected|blocked|refused|flagged|failed)"
    r"|inappropriate content|csam|敏感|违规|内容安全|审核(?:未通过|不通过|失败)",
    re.IGNORECASE,
)
BILLING_CODES = _words(
    "insufficient_balance insufficient_quota insufficient_user_quota insufficient_funds "
    "insufficient_credits balance_not_enough billing_error billing_hard_limit_reached "
    "billing_not_active payment_required arrearage budget_exceeded quota_not_enough "
    "pre_consume_token_quota_failed account_overdue"
)
AUTH_CODES = _words(
    "invalid_api_key invalid_key invalid_token authentication_error unauthorized "
    "unauthenticated incorrect_api_key api_key_disabled"
)
MISSING_CODES = _words(
    "task_not_found task_not_exist task_not_exists task_does_not_exist async_task_not_found "
    "invalid_task_id task_expired resource_not_found not_found no_such_task"
)
TASK_FAILURE_CODES = _words(
    "generation_failed_no_content generation_timeout image_processing_error "
    "image_dimension_mismatch image_generation_failed generation_failed invalid_parameters "
    "request_cancelled service_error unknown_error"
)
"""Codes that tell of a task's end even where no status word does (contract study, 2.2)."""

STATUS_WORDS: Mapping[int, str] = {
    400: "bad_request invalid_request invalid_request_error invalid_argument invalid_parameter "
    "invalid_parameters invalid_value invalid_type missing_required_parameter "
    "unknown_parameter unsupported_parameter unsupported_value string_above_max_length "
    "integer_above_max_value image_dimension_mismatch",
    403: "forbidden permission_denied permission_error access_denied model_not_allowed",
    404: "model_not_found not_found",
    413: "request_too_large payload_too_large",
    429: "rate_limit rate_limited rate_limit_error rate_limit_exceeded too_many_requests "
    "throttling throttled quota_exceeded resource_exhausted",
    500: "internal_error internal_server_error server_error api_error service_error "
    "service_unavailable upstream_error image_generation_failed generation_failed "
    "generation_failed_no_content image_processing_error model_overloaded overloaded",
    504: "generation_timeout gateway_timeout upstream_timeout timeout",
}
STATUSES: Mapping[str, int] = {
    **{word: status for status, words in STATUS_WORDS.items() for word in words.split()},
    **dict.fromkeys(AUTH_CODES, 401),
    **dict.fromkeys(BILLING_CODES, 402),
}
NEVER_MODERATION = frozenset({401, 402, 404, 429})
VAGUE_KINDS = frozenset({"upstream_error", "api_error"})
"""Types that relays put on every error, whatever it is."""


def coded_moderation(status: int, complaint: Complaint) -> bool:
    """Whether a code says that a request was refused for its content. Throttling and account
    faults never are."""
    if status in NEVER_MODERATION:
        return False
    named = MODERATION_CODE.search(complaint.code) or MODERATION_CODE.search(complaint.kind)
    return named is not None


def worded_moderation(complaint: Complaint, prompt: str = "") -> bool:
    """Whether the prose says so, without the words that stand in the caller's own prompt.

    Only for a refusal that is proven otherwise.
    """
    own = prompt.lower()
    said = MODERATION_TEXT.finditer(complaint.message)
    return any(match[0].lower() not in own for match in said)


def account_fault(status: int, complaint: Complaint) -> str | None:
    """`upstream_auth` or `upstream_billing` where the status alone says something else."""
    if {complaint.code, complaint.kind} & BILLING_CODES:
        return "upstream_billing"
    if status in (400, 422) and complaint.code in AUTH_CODES:
        return "upstream_auth"
    return None


def missing(complaint: Complaint) -> bool:
    """Whether a poll was told that there is no such task."""
    return complaint.code in MISSING_CODES


def ended(complaint: Complaint) -> bool:
    """Whether an error tells of the task rather than of the poll."""
    return complaint.code in TASK_FAILURE_CODES


def status_of(complaint: Complaint) -> int | None:
    """The HTTP status that an error in a 200 body stands for; None when nobody can know."""
    if coded_moderation(200, complaint):
        return 400
    kind = None if complaint.kind in VAGUE_KINDS else STATUSES.get(complaint.kind)
    return complaint.status or STATUSES.get(complaint.code) or kind
