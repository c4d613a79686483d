"""Finding the error in every shape of body that the provider and compatible ones send, and what it
is about: moderation, our account, a missing task, or an HTTP status in words.

Only statuses and codes decide about money and the breaker, since a message may quote the caller's
prompt. A message only chooses between two public codes after the status has decided about money.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.adapters.upstream.task_status import JsonLayers

MESSAGE_KEYS = (
    "message",
    "msg",
    "error_message",
    "errorMessage",
    "err_msg",
    "fail_reason",
    "failure_reason",
    "reason",
    "detail",
)
CODE_KEYS = ("code", "errorCode", "error_code")
RETRY_KEYS = ("retry_after", "retryAfter", "retry_after_seconds")
BILLED_KEYS = ("billed", "charged", "is_billed", "is_charged")
MAX_TEXT_CHARS = 2048
"""Longer messages of a provider are cut here, before anything matches or shows them."""
FEE_CODE = re.compile(r"(?<!no)(?<!without)(?<!insufficient)(?:^|_)fees?(?:$|_(?!refunded|waived))")
SUCCESS_WORDS = frozenset({"", "0", "success", "succeeded", "ok", "none", "null", "true"})


@dataclass(frozen=True, slots=True)
class ProviderError:
    """An error as the provider sent it. `code` and `kind` are lower case with underscores.

    `error`: the body names it as an error. `has_error_code`: its code is one of an error. A message
    alone, such as a proxy's `{"message": …}`, has neither.
    """

    code: str = ""
    kind: str = ""
    message: str = ""
    param: str | None = None
    retry_after: Any = None
    error: bool = False
    has_error_code: bool = False
    flagged_billed: bool | None = None

    @property
    def billed(self) -> bool | None:
        """Whether the provider says that it charges for this refusal; None when it does not say."""
        if self.flagged_billed is None and (
            FEE_CODE.search(self.code) or FEE_CODE.search(self.kind)
        ):
            return True
        return self.flagged_billed

    @property
    def is_failure(self) -> bool:
        """Whether a body with status 200 reports a failure."""
        return self.error or self.has_error_code

    @property
    def is_from_provider(self) -> bool:
        """Whether this is the provider's own error, not one of a proxy in between."""
        return self.error or bool(self.code and self.message)

    @property
    def status(self) -> int | None:
        """The HTTP status in a numeric code."""
        return int(self.code) if re.fullmatch(r"[45]\d\d", self.code) else None


def find_provider_error(layers: JsonLayers) -> ProviderError:
    """The first error, innermost layer first; an empty one when there is none."""
    found = [_parse_layer(layer) for layer in layers]
    for provider_error in found:
        if provider_error.is_failure:
            return provider_error
    for provider_error in found:
        if provider_error.message:
            return provider_error
    return ProviderError()


def _parse_layer(layer: Mapping[str, Any]) -> ProviderError:
    error = layer.get("error")
    if isinstance(error, Mapping) and isinstance(error.get("error"), Mapping):
        error = error["error"]
    if isinstance(error, Mapping) and error:
        return _parse_error((error, layer), error=True)
    if isinstance(error, str) and error.strip():
        return _parse_error(({"message": error}, layer), error=True)
    named = any(
        _is_error_code(layer.get(key)) for key in ("errorMessage", "errorCode", "error_code")
    )
    flagged = error is True or layer.get("success") is False
    return _parse_error((layer,), error=named or flagged)


def _parse_error(places: tuple[Mapping[str, Any], ...], *, error: bool) -> ProviderError:
    code = _first_value(places, CODE_KEYS, _normalize_code)
    message = _first_value(places, MESSAGE_KEYS, _text)
    good = _is_success_code(code) or message.strip().lower() in SUCCESS_WORDS - {""}
    param = places[0].get("param")
    return ProviderError(
        code="" if _is_success_code(code) else code,
        kind=_normalize_code(places[0].get("type")) if error else "",
        message=message,
        param=param if isinstance(param, str) else _find_param(places[0].get("detail")),
        retry_after=next(_values(places, RETRY_KEYS), None),
        error=error,
        has_error_code=not good,
        flagged_billed=next((b for b in _values(places, BILLED_KEYS) if isinstance(b, bool)), None),
    )


def _values(places: tuple[Mapping[str, Any], ...], keys: tuple[str, ...]) -> Iterator[Any]:
    return (place[key] for place in places for key in keys if place.get(key) is not None)


def _first_value(places: tuple[Mapping[str, Any], ...], keys: tuple[str, ...], read: Any) -> str:
    return next(filter(None, map(read, _values(places, keys))), "")


def _normalize_code(said: Any) -> str:
    if isinstance(said, bool) or not isinstance(said, int | str):
        return ""
    return re.sub(r"[\s.-]+", "_", str(said)[:64].strip().lower())


def _is_success_code(code: str) -> bool:
    return code in SUCCESS_WORDS or re.fullmatch(r"2\d\d", code) is not None


def _is_error_code(said: Any) -> bool:
    return isinstance(said, str | int) and not _is_success_code(_normalize_code(said))


def _text(said: Any) -> str:
    if isinstance(said, str):
        return said[:MAX_TEXT_CHARS]
    if isinstance(said, list) and said and isinstance(said[0], Mapping):
        return _first_value((said[0],), ("msg", "message"), _text)
    return ""


def _find_param(detail: Any) -> str | None:
    """The field named by FastAPI's `detail[0].loc`."""
    if not isinstance(detail, list) or not detail or not isinstance(detail[0], Mapping):
        return None
    place = detail[0].get("loc")
    return place[-1] if isinstance(place, list) and place and isinstance(place[-1], str) else None


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
"""Codes that mean a task has failed, even where the body has no status word."""

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
GENERIC_TYPES = frozenset({"upstream_error", "api_error"})
"""Types that some resellers put on every error."""


def has_moderation_code(status: int, provider_error: ProviderError) -> bool:
    """Whether a code says that a request was refused for its content. Errors about rates or the
    account never do."""
    if status in NEVER_MODERATION:
        return False
    named = MODERATION_CODE.search(provider_error.code) or MODERATION_CODE.search(
        provider_error.kind
    )
    return named is not None


def has_moderation_text(provider_error: ProviderError, prompt: str = "") -> bool:
    """Whether the message says so in words that the caller's own prompt does not contain.

    Only for what the status has already proven to be a refusal.
    """
    own = prompt.lower()
    said = MODERATION_TEXT.finditer(provider_error.message)
    return any(match[0].lower() not in own for match in said)


def find_account_error(status: int, provider_error: ProviderError) -> str | None:
    """`upstream_auth` or `upstream_billing` if a code says so and the status does not."""
    if {provider_error.code, provider_error.kind} & BILLING_CODES:
        return "upstream_billing"
    if status in (400, 422) and provider_error.code in AUTH_CODES:
        return "upstream_auth"
    return None


def is_task_missing(provider_error: ProviderError) -> bool:
    """Whether the provider says that there is no such task."""
    return provider_error.code in MISSING_CODES


def is_task_failure(provider_error: ProviderError) -> bool:
    """Whether an error is about the task, not about the poll."""
    return provider_error.code in TASK_FAILURE_CODES


def infer_status(provider_error: ProviderError) -> int | None:
    """The HTTP status that an error in a 200 body means; None when its codes do not say."""
    if has_moderation_code(200, provider_error):
        return 400
    kind = None if provider_error.kind in GENERIC_TYPES else STATUSES.get(provider_error.kind)
    return provider_error.status or STATUSES.get(provider_error.code) or kind
