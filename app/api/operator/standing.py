"""How limits stand, as the console shows them."""

from collections.abc import Iterable

from app.api.operator.wire import StandingObject
from app.domain.catalog import Catalog
from app.domain.limits import LimitKind, LimitStatus
from app.domain.money import format_micros


def standing_name(status: LimitStatus) -> str:
    """Such as images_day, requests_minute, cost_month, concurrency."""
    if status.kind is LimitKind.CONCURRENCY:
        return "concurrency"
    kind = "cost" if status.kind is LimitKind.MONEY else status.kind.value
    return f"{kind}_{status.window}"


def describe_standing(
    statuses: Iterable[LimitStatus], catalog: Catalog
) -> dict[str, StandingObject]:
    priced = not catalog.unpriced
    return {standing_name(one): _describe(one, one.is_known(priced=priced)) for one in statuses}


def money_text(micros: int | None) -> str | None:
    return None if micros is None else format_micros(micros)


def _describe(status: LimitStatus, known: bool) -> StandingObject:
    amounts = status.limit, status.used, status.held, status.remaining
    if status.kind is LimitKind.MONEY:
        limit, left = money_text(status.limit), money_text(status.remaining)
        used, held = (money_text(one if known else None) for one in (status.used, status.held))
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
