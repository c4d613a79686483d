"""Bills as text, read as the operator's command reads them."""

from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from app.cli.bill_file import Columns, Reading, SetAside, Unreadable, read_bill
from app.domain.bill import BillLine

SHANGHAI = ZoneInfo("Asia/Shanghai")
HEADINGS = "request id,model,amount,time"
NOON_MS = 1_795_755_600_000  # 2026-11-27T05:00:00Z, 13:00 in Shanghai
PLAIN = BillLine(2, NOON_MS, "grok-imagine", 140_000, "req_1")

Read = Sequence[BillLine | Unreadable | SetAside]


def read(
    path: Path, text: str | bytes, columns: Columns | None = None, capability: str | None = None,
    currency: str = "CNY",
) -> Read:  # fmt: skip
    file = path / "bill.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    reading = Reading(columns or Columns(), SHANGHAI, currency, capability)
    return list(read_bill(file, reading))


def one(path: Path, row: str, headings: str = HEADINGS) -> BillLine | Unreadable | SetAside:
    [line] = read(path, f"{headings}\n{row}\n")
    return line
