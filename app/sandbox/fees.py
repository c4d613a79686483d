"""The bill as a customer downloads it: the rows of the provider's page Fee Details as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from app.sandbox.account import BillLine
from app.sandbox.order import MODELS

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
            amount = _yuan(images * _price(line))
            writer.writerow((line.request_id, "image", line.model, 0, amount, time))
    return text.getvalue()


def credit_grants(lines: Iterable[BillLine]) -> dict[str, object]:
    """What was used so far, in yuan, as OpenAI's old billing route has it."""
    fen = sum(line.billed * _price(line) for line in lines)
    return {"object": "credit_summary", "total_used": fen / 100}


def _price(line: BillLine) -> int:
    """Of one image, in hundredths of a yuan."""
    row = MODELS.get(line.model)
    references = line.references * row.reference_fen if row is not None else 0
    return FEN.get(line.quality, FEN_ELSE) + references


def _charges(line: BillLine) -> Iterator[int]:
    if line.refunded:
        yield from (line.refunded, -line.refunded)
    elif line.billed:
        yield line.billed


def _yuan(fen: int) -> str:
    whole, rest = divmod(abs(fen), 100)
    return f"{'-' if fen < 0 else ''}{whole}.{rest:02d}"
