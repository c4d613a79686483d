"""The provider's bill as files come: every spelling that is certain, and none that is not."""

from pathlib import Path

import pytest

from app.domain.job import JobPart
from app.reconcile.bill import BillLine
from app.reconcile.csv_file import (
    BillReadOptions,
    ColumnOptions,
    SkippedLine,
    UnreadableLine,
    read_bill,
)
from app.reconcile.csv_text import NotABill
from tests.bills import HEADINGS, NOON_MS, PLAIN, SHANGHAI, one, read

WIDE = {ordinal: ordinal + 0xFEE0 for ordinal in range(ord("."), ord("z") + 1)}
"""As East Asian keyboards write these letters."""


@pytest.mark.parametrize(
    "text",
    [
        "request id,model,amount,time\nreq_1,grok-imagine,0.14,2026-11-27 13:00:00\n",
        "Request ID;Model;Amount;Time\r\nreq_1;grok-imagine;0.14;2026-11-27 13:00:00\r\n",
        "request_id\tmodel\tamount\ttime\nreq_1\tgrok-imagine\t0.14\t2026-11-27 13:00:00",
        "请求ID,模型,金额,时间\nreq_1,grok-imagine,0.14,2026-11-27 13:00:00\n",
        "请求 ID,模型,费用(元),时间\nreq_1,grok-imagine,0.14,2026-11-27 13:00:00\n",
        "请求ID,模型,金额\uff08元\uff09,时间\nreq_1,grok-imagine,￥0.14,2026/11/27 13:00:00\n",
        'request id,model,"amount",time\n"req_1","grok-imagine","0.14","2026-11-27 13:00:00"\n',
        "model,time,tokens,amount,request id\ngrok-imagine,2026-11-27 13:00:00,0,0.14,req_1\n",
        " request id , model , amount , time \n req_1 , grok-imagine , 0.14 , 2026-11-27 13:00:00 ",
        "\ufeffrequest id,model,amount,time\n\treq_1,grok-imagine,0.14,2026-11-27T05:00:00Z\n",
        "request id,model,amount,time\rreq_1,grok-imagine,0.14,2026-11-27T13:00:00+08:00\r",
    ],
)
def test_a_bill_is_read_however_it_is_written(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == [PLAIN]


def test_titles_above_the_headings_and_blank_lines_are_passed_over(tmp_path: Path) -> None:
    text = (
        f"Fee Details\n2026-11\n\n{HEADINGS}\n\nreq_1,grok-imagine,0.14,2026-11-27 13:00:00\n,,,\n"
    )

    lines = read(tmp_path, text)

    assert lines == [BillLine(6, NOON_MS, "grok-imagine", 140_000, "req_1")]


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0.14", 140_000),
        ("-0.14", -140_000),
        ("¥0.14", 140_000),
        ("-¥0.14", -140_000),
        ("¥-0.14", -140_000),
        ("￥ 0.14", 140_000),
        ("0.14 元", 140_000),
        ("CNY 0.14", 140_000),
        ("0.140000", 140_000),
        ("0.00014000", 140),
        ("14", 14_000_000),
        ("0", 0),
        ('"1,234.50"', 1_234_500_000),
        ('"1,234,567"', 1_234_567_000_000),
        ('"1.234,50"', 1_234_500_000),
        ("1.234.567", 1_234_567_000_000),
        ('"0,14"', 140_000),
        ('"0,140"', 140_000),
        ('"12,5"', 12_500_000),
        ('"1,2345"', 1_234_500),
        ("1.4E-1", 140_000),
        ("1.4e-01", 140_000),
        ("-1.4E-1", -140_000),
        ('"1,4E-1"', 140_000),
        ("2E-6", 2),
    ],
)
def test_amounts_are_exact(tmp_path: Path, text: str, micros: int) -> None:
    line = one(tmp_path, f"req_1,grok-imagine,{text},2026-11-27 13:00:00")

    assert isinstance(line, BillLine)
    assert line.micros == micros


@pytest.mark.parametrize(
    "text",
    [
        "", "free", "0.1234567", '"1,234"', '"12,345"', '"1,23,456"', '"1,234.567,8"', "1.23.456",
        "1.23456E-4", "1.4E+1", "1.4E1", "2E-7", "1 234.5", "$0.14", "USD 0.14", "1e3", "--1",
        "-¥-1", "+1", "NaN", "inf", "0x1", ".5", "5.", "1_0", "99999999999999", "(0.14)", "0.14¥元",
    ],
)  # fmt: skip
def test_an_amount_that_is_not_certain_is_not_guessed(tmp_path: Path, text: str) -> None:
    line = one(tmp_path, f"req_1,grok-imagine,{text},2026-11-27 13:00:00")

    assert isinstance(line, UnreadableLine)
    assert "is not an amount in CNY" in line.why or "at most six decimals" in line.why


def test_the_currency_sign_is_that_of_the_catalog(tmp_path: Path) -> None:
    row = f"{HEADINGS}\nreq_1,m,$0.02,2026-11-27 13:00:00\nreq_2,m,¥0.14,2026-11-27 13:00:00\n"

    dollars, yuan = read(tmp_path, row, currency="USD")

    assert isinstance(dollars, BillLine)
    assert isinstance(yuan, UnreadableLine)


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-11-27", "05.11.2026 13:00", "11/5/2026 13:00", "1795755600", "2026-13-01 00:00",
        "26/11/27 13:00", "13/13/2026 13:00", "2026-11/27 13:00", "27/11/26 13:00", "11:2026 13:00",
        "2026-11-27 13:00 PM", "2026-11-27 0:00 AM", "2026-11-27 13:00:60",
        "2026-11-27 13:00+99:00",
        "2026-11-27 13:00+08:60", "0000-11-27 13:00", "9999-12-31 23:59-08:00", "27.11.2026",
        "2026-02-30 00:00:00", "2026-11-27 25:00:00", "20261127T130000", "yesterday",
        "2026-11-27 13:00:00 CST",
    ],
)  # fmt: skip
def test_a_time_that_is_not_certain_is_not_guessed(tmp_path: Path, text: str) -> None:
    line = one(tmp_path, f"req_1,grok-imagine,0.14,{text}")

    assert isinstance(line, UnreadableLine)
    assert "is not a time" in line.why


def test_an_unreadable_cell_is_named_by_its_line_and_heading(tmp_path: Path) -> None:
    [line] = read(tmp_path, "请求ID,模型,费用(元),时间\nreq_1,m,free,2026-11-27 13:00:00\n")

    assert str(line) == "line 2, column '费用(元)': 'free' is not an amount in CNY"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("req\x1b1,grok-imagine,0.14,2026-11-27 13:00:00", "'req\\x1b1' is not a request id"),
        (f"{'k' * 513},grok-imagine,0.14,2026-11-27 13:00:00", "is not a request id"),
        ("req_1,,0.14,2026-11-27 13:00:00", "names no model"),
        ("req_1,\x1b[2J,0.14,2026-11-27 13:00:00", "names no model"),
        ("req_1,grok-imagine,0.14", "3 cells under 4 headings"),
        ("req_1,grok-imagine,0,14,2026-11-27 13:00:00", "5 cells under 4 headings"),
        ('req_1,"grok-imagine,0.14,2026-11-27 13:00:00', "unexpected end of data"),
        ('req_1,"grok"x,0.14,2026-11-27 13:00:00', "expected after"),
        ("Total,,14.00,", "is not a time"),
    ],
)
def test_an_unreadable_line_says_why(tmp_path: Path, row: str, why: str) -> None:
    line = one(tmp_path, row)

    assert isinstance(line, UnreadableLine)
    assert line.number == 2
    assert why in line.why
    assert line.why.isprintable()


def test_one_bad_line_spoils_no_other(tmp_path: Path) -> None:
    good = "req_{},grok-imagine,0.14,2026-11-27 13:00:00"
    rows = [HEADINGS, good.format(1), 'req_2,"open', good.format(3)]

    lines = read(tmp_path, "\n".join(rows))

    assert [type(line) for line in lines] == [BillLine, UnreadableLine, BillLine]
    assert [line.number for line in lines] == [2, 3, 4]


@pytest.mark.parametrize("name", ["req 1", "=cmd()", "任务/7", "a%20b", "Zm9v+/8="])
def test_an_id_is_spelt_as_the_ledger_spells_it(tmp_path: Path, name: str) -> None:
    line = one(tmp_path, f"{name},grok-imagine,0.14,2026-11-27 13:00:00")

    assert isinstance(line, BillLine)
    assert (line.call,) == JobPart(1, upstream_id=name).calls
    assert not set(line.call or "") & set(" =\t,")


def test_a_line_without_an_id_is_still_a_line(tmp_path: Path) -> None:
    line = one(tmp_path, ",grok-imagine,0.14,2026-11-27 13:00:00")

    assert isinstance(line, BillLine)
    assert line.call is None


@pytest.mark.parametrize(
    ("amount", "count", "images"),
    [("0.28", "2", 2), ("-0.28", "2", -2), ("-0.28", "-2", -2), ("0.28", "", None)],
)
def test_images_are_counted_where_the_bill_counts_them(
    tmp_path: Path, amount: str, count: str, images: int | None
) -> None:
    row = f"req_1,grok-imagine,{amount},2026-11-27 13:00:00,{count}"

    line = one(tmp_path, row, f"{HEADINGS},数量")

    assert isinstance(line, BillLine)
    assert line.images == images


@pytest.mark.parametrize("count", ["two", "1.5", "-2", "1e3"])
def test_a_count_that_is_none_is_not_guessed(tmp_path: Path, count: str) -> None:
    row = f"req_1,grok-imagine,0.28,2026-11-27 13:00:00,{count}"

    assert isinstance(one(tmp_path, row, f"{HEADINGS},count"), UnreadableLine)


def test_columns_can_be_named(tmp_path: Path) -> None:
    text = "Ref,What,Net,Gross,When\nreq_1,grok-imagine,0.14,0.15,2026-11-27 13:00:00\n"
    columns = ColumnOptions(
        id_column="ref", model_column="What", amount_column="net", time_column="WHEN"
    )

    assert read(tmp_path, text, columns) == [PLAIN]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("hello", "no column for the id; name it with --id-column"),
        ("request id,model,time\n", "no column for the amount; name it with --amount-column"),
        ("request id,model,amount,cost,time\n", "'amount' and 'cost' could both be the amount"),
        ("request id\tmodel\tamount\twhen\n", "no column for the time"),
        ("request id;model;cost;fee;time\n", "'cost' and 'fee' could both be the amount"),
        ("Fees\nof, November\n\nrequest id;model;amount\nreq_1;grok;1\n", "for the time"),
        ("id of request,model;x,amount,time\n", "no column for the id"),
        (b"PK\x03\x04\x14\x00\x06\x00", "no column for the id"),
        (b"\x00\x01\x02\x03", "is not a text"),
        ("金额".encode("gbk"), "no column for the id"),
        ("x" * 70_000, "a line of 65536 characters"),
        (f"{HEADINGS} (".translate(WIDE) + "a\u0327\u0301" * 20_000 + ")\n", "for the time"),
    ],
)
def test_a_file_that_is_no_bill_is_refused(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(NotABill, match=says):
        read(tmp_path, text)


@pytest.mark.parametrize(("blanks", "is_read"), [(100, True), (300, False)], ids=["short", "long"])
def test_only_a_short_cell_is_read_in_wide_letters(
    tmp_path: Path, blanks: int, *, is_read: bool
) -> None:
    """To fold a letter with many marks takes the square of them and holds up every thread."""
    amount = f"{'￥'}{' ' * blanks}{'0.14'.translate(WIDE)}"

    line = one(tmp_path, f"req_1,grok-imagine,{amount},2026-11-27 13:00:00")

    assert isinstance(line, BillLine) is is_read


def test_a_named_column_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(NotABill, match="no column for the count"):
        read(tmp_path, f"{HEADINGS}\n", ColumnOptions(count_column="Pieces"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotABill, match="cannot be read"):
        list(read_bill(tmp_path / "none.csv", BillReadOptions(ColumnOptions(), SHANGHAI, "CNY")))


def test_other_capabilities_are_set_aside_when_asked(tmp_path: Path) -> None:
    rows = [
        f"{HEADINGS},能力",
        "req_1,grok-imagine,0.14,2026-11-27 13:00:00,Image Generation",
        "req_2,qwen,0.01,2026-11-27 13:00:00,chat",
    ]

    lines = read(tmp_path, "\n".join(rows), capability="image")

    assert [type(line) for line in lines] == [BillLine, SkippedLine]
