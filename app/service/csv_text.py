"""Lines of CSV that no spreadsheet runs."""

import csv
import io
from collections.abc import Sequence

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


def format_csv_line(values: Sequence[object]) -> str:
    """One CSV line; text a spreadsheet would run as a formula is disarmed with a quote mark."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([_escape_formula(value) for value in values])
    return buffer.getvalue()


def _escape_formula(value: object) -> object:
    if isinstance(value, list):
        value = " ".join(map(str, value))
    dangerous = isinstance(value, str) and value.startswith(FORMULA_SIGNS)
    return f"'{value}" if dangerous and not _is_number(str(value)) else value


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()
