"""What a caller is told when a limit stands in the way."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.errors import ConcurrencyLimited, InsufficientQuota, RateLimited
from app.domain.limits import Scope, ScopeKind
from app.domain.money import format_micros

BUSY_RETRY_S = 2
"""A place frees whenever a generation ends; asking every other second finds it soon enough."""


def paced(scope: Scope, retry_after_s: int) -> RateLimited:
    limit = scope.limits.requests_per_minute
    return RateLimited(
        f"Rate limit of {_name(scope)} reached: {limit} requests per minute. "
        f"Try again in {retry_after_s} s.",
        retry_after_s=retry_after_s,
    )


def busy(scope: Scope) -> ConcurrencyLimited:
    return ConcurrencyLimited(
        f"{_name(scope).capitalize()} already has {scope.limits.concurrency} generations running, "
        "its limit. Try again when one has finished.",
        retry_after_s=BUSY_RETRY_S,
    )


def exhausted(
    scopes: Sequence[Scope], refusal: Sequence[Any], asked: int, zone: ZoneInfo
) -> InsufficientQuota:
    """`refusal` is the script's: line, meter, label, limit, used, held, end of the window."""
    line, meter, label, limit, used, held, ends_ms = refusal
    resets = datetime.fromtimestamp(ends_ms / 1000, UTC).astimezone(zone).isoformat()
    write = format_micros if meter == "money" else str
    what = "Budget" if meter == "money" else "Image quota"
    window = "month" if len(label) == len("2026-11") else "day"
    return InsufficientQuota(
        f"{what} of {_name(scopes[line - 1])} for this {window} exceeded: "
        f"limit {write(limit)}, used {write(used)}, held {write(held)}, asked {write(asked)}. "
        f"It resets at {resets}."
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
