"""Money as integers: micro-units of one currency, written as decimal text at the edges."""

from decimal import Decimal

MICROS_PER_UNIT = 1_000_000
MAX_MICROS = 10**15
"""A billion units. Lua counts in doubles, which are exact up to 2^53, nine times this."""


def parse_micros(text: str) -> int:
    """Read decimal text ("0.14") as micro-units. Raises `ValueError` if it is negative, has more
    than six decimals, is no number, or is more than the store's scripts can add exactly."""
    try:
        amount = Decimal(text) * MICROS_PER_UNIT
    except ArithmeticError:  # no number, or one too big for any
        raise ValueError(f"{text!r} is not an amount of money") from None
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise ValueError(f"{text!r} is not an amount of money of at most six decimals")
    if amount > MAX_MICROS:
        raise ValueError(f"{text!r} is more than {MAX_MICROS // MICROS_PER_UNIT:,}")
    return int(amount)


def format_micros(micros: int) -> str:
    """Write micro-units as decimal text with two to six decimals: 140000 -> "0.14"."""
    whole, rest = divmod(abs(micros), MICROS_PER_UNIT)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{decimals}"


def money_record(micros: int | None, currency: str) -> dict[str, str] | None:
    """Money in JSON: decimal text with its currency; None where unlimited or unknown."""
    return None if micros is None else {"value": format_micros(micros), "currency": currency}
