"""A bill as Excel and .NET save it: their dates and encodings, one way from end to end."""

from pathlib import Path

import pytest

from app.reconcile.bill import BillLine
from app.reconcile.csv_file import UnreadableLine
from tests.bills import HEADINGS, PLAIN, one, read


@pytest.mark.parametrize(
    "text",
    [
        "2026/11/27 13:00", "2026-11-27T13:00:00.1234567", "2026-11-27T05:00:00.1234567Z",
        "2026-11-27T13:00:00.1234567+08:00", "2026-11-27 13:00:00 +08:00", "2026.11.27 13:00",
        "27.11.2026 13:00", "27/11/2026 13:00:00", "11/27/2026 1:00:00 PM",
        "11/27/2026 1:00:00 PM +08:00", "2026-11-27 5:00 UTC", "2026年11月27日 13:00",
        "2026年11月27日13:00",
    ],
)  # fmt: skip
def test_a_time_is_read_as_excel_and_dotnet_write_it(tmp_path: Path, text: str) -> None:
    assert one(tmp_path, f"req_1,grok-imagine,0.14,{text}") == PLAIN


def test_days_and_hours_of_one_digit_are_read(tmp_path: Path) -> None:
    first, second, midnight = read(
        tmp_path,
        f"{HEADINGS}\nreq_1,m,0.14,2026/11/5 9:03\nreq_2,m,0.14,11/11/2026 9:03\n"
        "req_3,m,0.14,2026/11/5 12:03 AM\n",
    )

    assert isinstance(first, BillLine)
    assert isinstance(second, BillLine)
    assert isinstance(midnight, BillLine)
    assert first.at_ms == 1_793_840_580_000  # 2026-11-05T01:03:00Z
    assert second.at_ms == first.at_ms + 6 * 86_400_000
    assert midnight.at_ms == first.at_ms - 9 * 3_600_000


@pytest.mark.parametrize(
    ("first", "other", "what"),
    [
        ('req_1,m,"0,14",2026/11/5 9:03', "req_2,m,1.234,2026/11/5 9:03", "decimals"),
        ("req_1,m,1.234,2026/11/5 9:03", 'req_2,m,"1,5",2026/11/5 9:03', "decimals"),
        ("req_1,m,1,11/27/2026 9:03", "req_2,m,1,27/11/2026 9:03", "day"),
    ],
)
def test_a_file_is_written_one_way_from_end_to_end(
    tmp_path: Path, first: str, other: str, what: str
) -> None:
    good, odd = read(tmp_path, f"{HEADINGS}\n{first}\n{other}\n")

    assert isinstance(good, BillLine)
    assert isinstance(odd, UnreadableLine)
    assert f"lines above have the {what} as in" in odd.why


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "gbk"]
)
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_bill_is_read_in_the_encodings_of_its_tools(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    heads = "Request ID,模型,金额(元),时间"
    row = 'req_1,grok-imagine,"0.14",2026/11/27 13:00'
    text = f"{heads}{end}{row}{end}".replace(",", separator)
    raw = text.encode(encoding)
    if encoding == "utf-16":
        raw = raw if separator == "," else b"\xfe\xff" + text.encode("utf-16-be")

    assert read(tmp_path, raw) == [PLAIN]


def test_bytes_that_are_no_letters_spoil_their_own_line(tmp_path: Path) -> None:
    good = b"req_%d,grok-imagine,0.14,2026-11-27 13:00:00,note\n"
    bad = b"req_2,grok\xff\xfe,0.14,2026-11-27 13:00:00,note\n"
    beside = (good % 4).replace(b"note", b"\xff")
    raw = f"{HEADINGS},remark\n".encode() + good % 1 + bad + good % 3 + beside

    lines = read(tmp_path, raw)

    assert [type(line) for line in lines] == [BillLine, UnreadableLine, BillLine, BillLine]
    assert str(lines[1]) == "line 3, column 'model': letters of no known encoding"
