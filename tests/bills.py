"""Bills as text, read as the operator's command reads them."""

from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from app.reconcile.bill import BillLine
from app.reconcile.csv_file import (
    BillReadOptions,
    ColumnOptions,
    SkippedLine,
    UnreadableLine,
    read_bill,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
HEADINGS = "request id,model,amount,time"
NOON_MS = 1_795_755_600_000  # 2026-11-27T05:00:00Z, 13:00 in Shanghai
PLAIN = BillLine(2, NOON_MS, "grok-imagine", 140_000, "req_1")

Read = Sequence[BillLine | UnreadableLine | SkippedLine]


def read(
    path: Path, text: str | bytes, columns: ColumnOptions | None = None,
    capability: str | None = None,
    currency: str = "CNY",
) -> Read:  # fmt: skip
    file = path / "bill.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    options = BillReadOptions(columns or ColumnOptions(), SHANGHAI, currency, capability)
    return list(read_bill(file, options))


def one(path: Path, row: str, headings: str = HEADINGS) -> BillLine | UnreadableLine | SkippedLine:
    [line] = read(path, f"{headings}\n{row}\n")
    return line
