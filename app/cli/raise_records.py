"""A raise of limits as a JSON record and as words."""

from typing import Any

from app.cli.output import format_time, money_record
from app.domain.limits import LimitRaise
from app.domain.money import format_micros


def raise_record(raised: LimitRaise | None, currency: str) -> dict[str, Any] | None:
    if raised is None:
        return None
    by = {
        name.replace("micros", "budget"): money_record(amount, currency)
        if name.startswith("micros")
        else amount
        for name, amount in raised.amounts.items()
        if amount
    }
    return {"by": by, "until": format_time(raised.until_ms), "reason": raised.reason}


def raise_text(raised: LimitRaise) -> str:
    by = [
        f"{name.replace('micros', 'budget').replace('_per_', '/')} +"
        f"{format_micros(amount) if name.startswith('micros') else amount}"
        for name, amount in raised.amounts.items()
        if amount
    ]
    return f"{', '.join(by)} until {format_time(raised.until_ms)} ({raised.reason})"
