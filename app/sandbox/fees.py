"""The bill as a customer downloads it: the rows of the provider's page Fee Details as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from app.sandbox.account import BillLine

HEADINGS = ("Request ID", "Capability", "Model", "Tokens", "Amount", "Time")
FEN = {"hd": 28}
"""Hundredths of a yuan for an image by quality; every other quality costs `FEN_ELSE`."""
FEN_ELSE = 14


def fee_details(lines: Iterable[BillLine]) -> str:
    """One row for each charge, and one with a negative amount for each refund."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(HEADINGS)
    for line in lines:
        time = datetime.fromtimestamp(line.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for images in _charges(line):
            amount = _yuan(images * FEN.get(line.quality, FEN_ELSE))
            writer.writerow((line.request_id, "image", line.model, 0, amount, time))
    return text.getvalue()


def credit_grants(lines: Iterable[BillLine]) -> dict[str, object]:
    """What was used so far, in yuan, as OpenAI's old billing route has it."""
    fen = sum(line.billed * FEN.get(line.quality, FEN_ELSE) for line in lines)
    return {"object": "credit_summary", "total_used": fen / 100}


def _charges(line: BillLine) -> Iterator[int]:
    if line.refunded:
        yield from (line.refunded, -line.refunded)
    elif line.billed:
        yield line.billed


def _yuan(fen: int) -> str:
    whole, rest = divmod(abs(fen), 100)
    return f"{'-' if fen < 0 else ''}{whole}.{rest:02d}"
