"""What a caller is told when the ledger refuses a request: the error replies of its scripts."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from app.adapters.redis.replies import ErrorCode, Fields, ScriptError
from app.domain.errors import (
    ConcurrencyLimited,
    IdempotencyKeyReused,
    InsufficientQuota,
    InvalidRequest,
    RateLimited,
    SpendingStopped,
    TaskNotFound,
)
from app.domain.ledger import AdmissionRequest, PossibleDuplicate
from app.domain.limits import (
    DailyRequestsUsed,
    ImageRateLimited,
    QuotaUsedUp,
    Scope,
    ScopeKind,
    TooManyRefusals,
)
from app.domain.money import format_micros

MAX_WAIT_S = 60


EXPLANATIONS: Mapping[ErrorCode, Callable[[Fields], Exception]] = {
    ErrorCode.JOB_MISSING: lambda _: TaskNotFound(),
    ErrorCode.KEY_REUSED: lambda _: IdempotencyKeyReused(),
    ErrorCode.POSSIBLE_DUPLICATE: lambda fields: PossibleDuplicate(tuple(fields["calls"])),
    ErrorCode.OUTCOME_INVALID: lambda fields: ValueError(fields["why"]),
    ErrorCode.COUNTER_NEGATIVE: lambda fields: InvalidRequest(
        "invalid_value",
        f"The correction would leave {fields['scope_key']} below zero in {fields['label']}.",
    ),
}


def explain(
    error: ScriptError,
    scopes: Sequence[Scope],
    admission: AdmissionRequest | None,
    zone: ZoneInfo,
) -> Exception:
    """The failure that an error reply stands for. One that stands for none is our own bug and stays
    what it is."""
    fields = error.fields
    if error.code in EXPLANATIONS:
        return EXPLANATIONS[error.code](fields)
    if error.code is ErrorCode.RATE_LIMITED:
        return _rate_refusal(_scope(scopes, fields), fields, admission, zone)
    if admission is None:
        return error
    match error.code:
        case ErrorCode.QUOTA_EXCEEDED:
            asked = admission.micros if fields["kind"] == "money" else admission.request.n
            return quota_exceeded(_scope(scopes, fields), fields, asked or 0, zone)
        case ErrorCode.SPENDING_STOPPED:
            return spending_stopped(_scope(scopes, fields), fields["reason"])
        case ErrorCode.SLOTS_TAKEN:
            return slots_taken(_scope(scopes, fields), fields["wait_ms"])
        case ErrorCode.TOO_MANY_REFUSALS:
            return too_many_refusals(admission.principal.user, fields["wait_ms"])
    return error


def _scope(scopes: Sequence[Scope], fields: Fields) -> Scope:
    scope: Scope = scopes[fields["scope"] - 1]
    return scope


def _rate_refusal(
    scope: Scope, fields: Fields, admission: AdmissionRequest | None, zone: ZoneInfo
) -> RateLimited:
    match fields.get("limit"):
        case "images_minute":
            asked = admission.request.n if admission else 0
            return images_too_fast(scope, asked, fields.get("seconds"))
        case "requests_day":
            return daily_requests_used(scope, fields["ends_ms"], zone)
    return rate_limited(scope, fields["seconds"])


def images_too_fast(scope: Scope, asked: int, retry_after_s: int | None) -> ImageRateLimited:
    """`retry_after_s` None: so many images never fit into a minute."""
    limit = scope.limits.images_per_minute
    if limit == 0:
        return ImageRateLimited(_closed(scope, "images per minute"))
    if retry_after_s is None:
        return ImageRateLimited(
            f"{_name(scope).capitalize()} may make {limit} images per minute and this request asks "
            f"for {asked}. Nothing was reserved. Ask for fewer images at once."
        )
    return ImageRateLimited(
        f"Image rate of {_name(scope)} reached: {limit} images per minute, {asked} asked. Nothing "
        f"was reserved. Try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def daily_requests_used(scope: Scope, ends_ms: int, zone: ZoneInfo) -> DailyRequestsUsed:
    limit = scope.limits.requests_per_day
    if limit == 0:
        return DailyRequestsUsed(_closed(scope, "requests per day"), ends_ms)
    return DailyRequestsUsed(
        f"Requests of {_name(scope)} for this day used up: limit {limit} requests per day. Nothing "
        f"was reserved. It resets at {_time(ends_ms, zone)}.",
        ends_ms,
    )


def _time(ms: int, zone: ZoneInfo) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone).isoformat()


def rate_limited(scope: Scope, retry_after_s: int) -> RateLimited:
    limit = scope.limits.requests_per_minute
    if limit == 0:
        return RateLimited(_closed(scope, "requests per minute"))
    return RateLimited(
        f"Rate limit of {_name(scope)} reached: {limit} requests per minute. "
        f"Try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def spending_stopped(scope: Scope, reason: str) -> SpendingStopped:
    return SpendingStopped(
        f"The operator stopped spending for {_name(scope)}: {reason} Nothing was reserved; what "
        "runs already goes on."
    )


def slots_taken(scope: Scope, wait_ms: int) -> ConcurrencyLimited:
    """`wait_ms`: when one of the generations that run is expected to have ended."""
    if scope.limits.concurrency == 0:
        message = _closed(scope, "generations at once")
        return ConcurrencyLimited(message, scope=scope.id, retry_after_s=None)
    wait_s = min(max(math.ceil(wait_ms / 1000), 1), MAX_WAIT_S)
    return ConcurrencyLimited(
        f"{_name(scope).capitalize()} already has {scope.limits.concurrency} generations running, "
        f"its limit. Nothing was reserved. One should end in about {wait_s} s.",
        scope=scope.id,
        retry_after_s=wait_s,
    )


def _closed(scope: Scope, what: str) -> str:
    return (
        f"{_name(scope).capitalize()} may not generate: its limit of {what} is 0. Ask the operator."
    )


def quota_exceeded(scope: Scope, fields: Fields, asked: int, zone: ZoneInfo) -> InsufficientQuota:
    message = _describe_quota(scope, fields, asked, zone)
    if fields["used"] + asked > fields["limit"]:
        return QuotaUsedUp(message, fields["ends_ms"])
    return InsufficientQuota(message)


def _describe_quota(scope: Scope, fields: Fields, asked: int, zone: ZoneInfo) -> str:
    is_money, label = fields["kind"] == "money", fields["label"]
    resets = _time(fields["ends_ms"], zone)
    write = format_micros if is_money else str
    what = "Budget" if is_money else "Image quota"
    window = "month" if len(label) == len("2026-11") else "day"
    if scope.kind is ScopeKind.HOUSE:
        # What the whole deployment uses is for the operator only.
        return (
            f"{what} of {_name(scope)} for this {window} exceeded: less is left than the "
            f"{write(asked)} asked for. It resets at {resets}."
        )
    return (
        f"{what} of {_name(scope)} for this {window} exceeded: limit {write(fields['limit'])}, "
        f"used {write(fields['used'])}, held {write(fields['held'])}, asked {write(asked)}. "
        f"It resets at {resets}."
    )


def too_many_refusals(user: str, wait_ms: int) -> TooManyRefusals:
    minutes = max(math.ceil(wait_ms / 60_000), 1)
    return TooManyRefusals(
        f"The provider refused too many requests of user {user} within the hour, and "
        "each was work that nobody pays for. Nothing was spent. New requests are taken again in "
        f"{minutes} min; change the prompts that are refused."
    )


def unpriced(scopes: Sequence[Scope], model: str) -> str:
    holders = " and ".join(_name(scope) for scope in scopes if scope.limits.has_budget)
    return f"The price of {model} is unknown, so the budget of {holders} cannot be kept with it."


def _name(scope: Scope) -> str:
    match scope.kind:
        case ScopeKind.KEY:
            return "this API key"
        case ScopeKind.HOUSE:
            return "this gateway"
        case _:
            return f"{scope.kind.value} {scope.name}"
