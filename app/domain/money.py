"""Money as integers: micro-units of one currency, written as decimal text at the edges."""

from decimal import Decimal, InvalidOperation

MICROS = 1_000_000


def parse_micros(text: str) -> int:
    """Read decimal text ("0.14") as micro-units; `ValueError` if negative, finer or no number."""
    try:
        amount = Decimal(text) * MICROS
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount of money") from None
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise ValueError(f"{text!r} is not an amount of money of at most six decimals")
    return int(amount)


def format_micros(micros: int) -> str:
    """Write micro-units as decimal text with two to six decimals: 140000 -> "0.14"."""
    whole, rest = divmod(abs(micros), MICROS)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if micros < 0 else ''}{whole}.{decimals}"
