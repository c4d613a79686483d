"""How limits stand, as the console shows them."""

from collections.abc import Iterable

from app.api.operator.wire import StandingObject
from app.domain.limits import LimitKind, LimitStatus
from app.domain.money import format_micros

NAMES = {
    (LimitKind.REQUESTS, "minute"): "requests_minute",
    (LimitKind.CONCURRENCY, "now"): "concurrency",
    (LimitKind.IMAGES, "day"): "images_day",
    (LimitKind.IMAGES, "month"): "images_month",
    (LimitKind.MONEY, "day"): "cost_day",
    (LimitKind.MONEY, "month"): "cost_month",
}


def standing_name(status: LimitStatus) -> str:
    return NAMES[status.kind, status.window.value]


def describe_standing(statuses: Iterable[LimitStatus]) -> dict[str, StandingObject]:
    return {standing_name(status): _describe(status) for status in statuses}


def money_text(micros: int | None) -> str | None:
    return None if micros is None else format_micros(micros)


def _describe(status: LimitStatus) -> StandingObject:
    amounts = status.limit, status.used, status.held, status.remaining
    if status.kind is LimitKind.MONEY:
        limit, left = money_text(status.limit), money_text(status.remaining)
        used, held = format_micros(status.used), format_micros(status.held)
        return {
            "limit": limit, "used": used, "held": held, "left": left,
            "resets_in_s": status.reset_s,
        }  # fmt: skip
    return {
        "limit": amounts[0],
        "used": amounts[1],
        "held": amounts[2],
        "left": amounts[3],
        "resets_in_s": status.reset_s,
    }
