"""Koi's limits as the administration API shows and takes them, in the manner of OpenAI's names."""

import time
from dataclasses import replace

from app.api.organization.fields import Schema
from app.api.organization.paging import seconds
from app.api.organization.wire import LimitsObject, RaiseObject
from app.api.parameters import Body, parse_integer, wrong_type_error
from app.domain.errors import InvalidRequest
from app.domain.limits import MAX_COUNT, LimitRaise, Limits
from app.domain.money import format_micros, parse_micros

COUNTS = {
    "max_requests_per_1_minute": "requests_per_minute",
    "max_images_per_1_day": "images_per_day",
    "max_images_per_1_month": "images_per_month",
    "max_concurrent_requests": "concurrency",
    "max_images_per_1_minute": "images_per_minute",
    "max_requests_per_1_day": "requests_per_day",
}
COSTS = {"max_cost_per_1_day": "micros_per_day", "max_cost_per_1_month": "micros_per_month"}
LIMIT_FIELDS = frozenset({*COUNTS, *COSTS})
LIMIT_SCHEMAS: dict[str, Schema] = {
    **{name: {"type": ["integer", "null"], "minimum": 0, "maximum": MAX_COUNT} for name in COUNTS},
    **{
        name: {"type": ["string", "null"], "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$"}
        for name in COSTS
    },
}
LIMITS_SCHEMA: Schema = {
    "type": ["object", "null"],
    "properties": LIMIT_SCHEMAS,
    "additionalProperties": False,
    "description": "Null means no limit, a field that is left out stays. Costs are decimal text.",
}


def describe_raise(raised: LimitRaise | None) -> RaiseObject | None:
    """The raise of a record, unless it has ended."""
    if raised is None or raised.until_ms <= time.time() * 1000:
        return None
    amounts = dict(describe_limits(raised.by))
    return {
        "by": {name: by for name, by in amounts.items() if isinstance(by, int | str)},
        "until": seconds(raised.until_ms),
        "reason": raised.reason,
    }


def describe_limits(limits: Limits) -> LimitsObject:
    """Null is unlimited; money is decimal text in the catalog's currency."""
    return {
        "max_requests_per_1_minute": limits.requests_per_minute,
        "max_images_per_1_day": limits.images_per_day,
        "max_images_per_1_month": limits.images_per_month,
        "max_concurrent_requests": limits.concurrency,
        "max_cost_per_1_day": _amount(limits.micros_per_day),
        "max_cost_per_1_month": _amount(limits.micros_per_month),
        "max_images_per_1_minute": limits.images_per_minute,
        "max_requests_per_1_day": limits.requests_per_day,
    }


def parse_limits(body: Body, before: Limits) -> Limits:
    """`before` with the limits that the fields name; null takes a limit away."""
    found: dict[str, int | None] = {}
    for name, field in COUNTS.items():
        if name in body:
            found[field] = parse_integer(body, name, 0, MAX_COUNT)
    for name, field in COSTS.items():
        if name in body:
            found[field] = _parse_cost(body, name)
    return replace(before, **found)


def parse_limits_field(body: Body, before: Limits) -> Limits | None:
    """The same from the object `limits` of a body; None when there is none."""
    given = body.get("limits")
    if given is None:
        return None
    if not isinstance(given, dict):
        raise wrong_type_error("limits", "an object")
    for name in given:
        if name not in LIMIT_FIELDS:
            raise InvalidRequest(
                "unknown_parameter",
                f"limits takes: {', '.join(sorted(LIMIT_FIELDS))}.",
                param=f"limits.{name[:64]}",
            )
    return parse_limits(given, before)


def _parse_cost(body: Body, name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type_error(name, 'decimal text such as "12.50"')
    try:
        return parse_micros(value)
    except ValueError:
        raise InvalidRequest(
            "invalid_value", f'{name} must be decimal text such as "12.50".', param=name
        ) from None


def _amount(micros: int | None) -> str | None:
    return None if micros is None else format_micros(micros)
