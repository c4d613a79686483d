"""What a caller is told when a limit stands in the way."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.errors import (
    ConcurrencyLimited,
    GatewayError,
    IdempotencyKeyReused,
    InsufficientQuota,
    RateLimited,
    SpendingStopped,
)
from app.domain.ledger import AdmissionRequest
from app.domain.limits import Scope, ScopeKind, TooManyRefusals
from app.domain.money import format_micros
from app.domain.principal import Principal

MAX_WAIT_S = 60


def of_admission(
    reply: Sequence[Any], admission: AdmissionRequest, scopes: Sequence[Scope], zone: ZoneInfo
) -> GatewayError:
    """What `admit` said instead of opening or joining a job."""
    match reply:
        case ["quota", *refusal]:
            asked = admission.micros if refusal[1] == "money" else admission.request.n
            return exhausted(scopes, refusal, asked or 0, zone)
        case ["rate_limited", scope_index, retry_after_s]:
            return paced(scopes[scope_index - 1], retry_after_s)
        case ["stopped", scope_index, reason]:
            return stopped(scopes[scope_index - 1], reason)
        case ["busy", scope_index, wait_ms]:
            return busy(scopes[scope_index - 1], wait_ms)
        case ["refused", left_ms]:
            return refused(admission.principal, left_ms)
    return IdempotencyKeyReused()


def paced(scope: Scope, retry_after_s: int) -> RateLimited:
    limit = scope.limits.requests_per_minute
    if limit == 0:
        return RateLimited(_closed(scope, "requests per minute"))
    return RateLimited(
        f"Rate limit of {_name(scope)} reached: {limit} requests per minute. "
        f"Try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def stopped(scope: Scope, reason: str) -> SpendingStopped:
    return SpendingStopped(
        f"The operator stopped spending for {_name(scope)}: {reason} Nothing was reserved; what "
        "runs already goes on."
    )


def busy(scope: Scope, wait_ms: int) -> ConcurrencyLimited:
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


def exhausted(
    scopes: Sequence[Scope], refusal: Sequence[Any], asked: int, zone: ZoneInfo
) -> InsufficientQuota:
    """`refusal` is the script's: line, meter, label, limit, used, held, end of the window."""
    scope_index, limit_kind, label, limit, used, held, ends_ms = refusal
    resets = datetime.fromtimestamp(ends_ms / 1000, UTC).astimezone(zone).isoformat()
    write = format_micros if limit_kind == "money" else str
    what = "Budget" if limit_kind == "money" else "Image quota"
    window = "month" if len(label) == len("2026-11") else "day"
    return InsufficientQuota(
        f"{what} of {_name(scopes[scope_index - 1])} for this {window} exceeded: "
        f"limit {write(limit)}, used {write(used)}, held {write(held)}, asked {write(asked)}. "
        f"It resets at {resets}."
    )


def refused(principal: Principal, left_ms: int) -> TooManyRefusals:
    minutes = max(math.ceil(left_ms / 60_000), 1)
    return TooManyRefusals(
        f"The provider refused too many requests of user {principal.user} within the hour, and "
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
