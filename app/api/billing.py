"""GET /v1/dashboard/billing/…: what is left, in the retired form that chat clients still read.

Amounts are those of the caller's user in the catalog's currency, whatever the fields' names say.
Where an enabled model has no price, images are counted instead: these clients show a number or
nothing, and an amount that is unknown must not be 0.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.parameters import describe_query, invalid_value_error
from app.api.response_body import json_response
from app.api.state import get_app_state, get_edge_settings
from app.api.wire_usage import BillingUsageBody, CreditGrantsBody, SubscriptionBody
from app.domain.catalog import Catalog
from app.domain.limits import LimitKind, LimitSnapshot, LimitWindow, ScopeKind
from app.domain.money import MICROS_PER_UNIT
from app.domain.principal import Principal
from app.domain.queries import UsageQuery
from app.service.usage import total_row

UNLIMITED = 100_000_000.0
"""What other gateways say of keys without a limit; clients show it as plenty."""
ACCESS_UNTIL_S = 4_102_444_800
"""The year 2100: no client should take a key for expired that still works."""
MAX_RANGE = timedelta(days=366)
LAST_DAY = date(9000, 1, 1)
"""Every day up to it has one after it."""
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
USAGE_PARAMETERS = [
    describe_query(
        name, {"type": "string", "pattern": f"^{DAY.pattern}$"}, f"A day in UTC; missing: {default}"
    )
    for name, default in (("start_date", "the first of this month."), ("end_date", "today."))
]


@dataclass(frozen=True, slots=True)
class Balance:
    """What a user has used of this month, and how much the tightest limit leaves; None: all."""

    used: float
    left: float | None

    @property
    def granted(self) -> float:
        return UNLIMITED if self.left is None else self.used + self.left


async def subscription(request: Request) -> Response:
    """How much may be used this month in all."""
    balance = await _read_balance(request, await authenticate_request(request))
    content: SubscriptionBody = {
        "object": "billing_subscription",
        "has_payment_method": True,
        "soft_limit_usd": balance.granted,
        "hard_limit_usd": balance.granted,
        "system_hard_limit_usd": balance.granted,
        "access_until": ACCESS_UNTIL_S,
    }
    return _answer(content)


async def credit_grants(request: Request) -> Response:
    """The same with what is used and what is left."""
    balance = await _read_balance(request, await authenticate_request(request))
    content: CreditGrantsBody = {
        "object": "credit_summary",
        "total_granted": balance.granted,
        "total_used": balance.used,
        "total_available": balance.granted - balance.used,
    }
    return _answer(content)


async def usage(request: Request) -> Response:
    """What was used in a range of days, in hundredths: of money, or of images without a price."""
    principal = await authenticate_request(request)
    gateway = get_app_state(request).gateway
    since, until = _parse_days(request)
    await gateway.rate_limiter.check_read_rate(principal)
    (bucket,) = await gateway.usage.report(
        UsageQuery(_midnight_ms(since), _midnight_ms(until), users=frozenset({principal.user}))
    )
    total = total_row(bucket.rows)
    in_money = _is_in_money(gateway.catalog) and total.micros is not None
    used = (total.micros or 0) / MICROS_PER_UNIT if in_money else float(total.images)
    content: BillingUsageBody = {"object": "list", "total_usage": round(used * 100, 4)}
    return _answer(content)


async def _read_balance(request: Request, principal: Principal) -> Balance:
    gateway = get_app_state(request).gateway
    snapshot = await gateway.usage.read_limits(principal)
    kind = LimitKind.MONEY if _is_in_money(gateway.catalog) else LimitKind.IMAGES
    unit = MICROS_PER_UNIT if kind is LimitKind.MONEY else 1
    used = next(
        status.used
        for status in snapshot.statuses
        if (status.scope, status.kind, status.window) == (ScopeKind.USER, kind, LimitWindow.MONTH)
    )
    left = min(_list_left(snapshot, gateway.catalog, kind), default=None)
    return Balance(used / unit, None if left is None else left / unit)


def _list_left(snapshot: LimitSnapshot, catalog: Catalog, kind: LimitKind) -> Iterator[int]:
    """What each limit leaves, images at the lowest price. The house's numbers are not shown."""
    for status in snapshot.statuses:
        is_rate = status.window is LimitWindow.MINUTE
        if status.remaining is None or status.scope is ScopeKind.HOUSE or is_rate:
            continue
        if status.kind is kind:
            yield status.remaining
        elif status.kind is LimitKind.IMAGES:
            yield status.remaining * _lowest_price(catalog)


def _is_in_money(catalog: Catalog) -> bool:
    return not catalog.unpriced


def _lowest_price(catalog: Catalog) -> int:
    return min(
        model.price(size, quality) or 0
        for model in catalog.enabled
        for size in model.sizes
        for quality in model.qualities
    )


def _parse_days(request: Request) -> tuple[date, date]:
    """The first day, and the day after the last one."""
    today = datetime.fromtimestamp(get_edge_settings(request).now(), UTC).date()
    first = _parse_day(request, "start_date") or today.replace(day=1)
    last = _parse_day(request, "end_date") or today
    if last < first or last - first > MAX_RANGE:
        raise invalid_value_error(
            "end_date", f"end_date must be after start_date, by {MAX_RANGE.days} days at most."
        )
    return first, last + timedelta(days=1)


def _parse_day(request: Request, name: str) -> date | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        return min(date.fromisoformat(given if DAY.fullmatch(given) else ""), LAST_DAY)
    except ValueError:
        raise invalid_value_error(name, f"{name} must be a day such as 2026-11-29.") from None


def _midnight_ms(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp() * 1000)


def _answer(content: SubscriptionBody | CreditGrantsBody | BillingUsageBody) -> Response:
    return json_response(orjson.dumps(content), {"cache-control": "no-store"})
