"""The provider's own bill, imported: what the ledger took on trust is put right, and only that."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.flow.command import Cli, cli_on
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, PRICED, Koi

HOUR_S = 3600
Import = Callable[..., Any]


@pytest.fixture
def cli(store_url: str, tmp_path: Path) -> Cli:
    """The operator's commands, on the store of the gateway under test."""
    return cli_on(tmp_path, store_url, KOI_TIMEZONE="Asia/Shanghai")


def bill_of(koi: Koi, cli: Cli) -> str:
    (cli.path / "fees.csv").write_text(koi.sandbox.fee_details())
    return "fees.csv"


def ask(koi: Koi, *prompts: str, n: int = 1) -> list[int]:
    """Requests at the same time, each with its answer, good or bad; no two are alike, so that none
    is a repeat. `[fault:name]` in a prompt is how the provider fails it."""
    with koi.client() as client, ThreadPoolExecutor(max(len(prompts), 1)) as crowd:
        asks = [{**KOI, "prompt": prompt, "n": n} for prompt in prompts]
        answers = crowd.map(lambda body: client.post(GENERATE, json=body), asks)
        return [answer.status_code for answer in answers]


def framed(koi: Koi, *faults: str) -> None:
    """These calls, and on the bill a good one an hour before and an hour after them."""
    koi.sandbox.advance(-HOUR_S)
    assert ask(koi, "before") == [200]
    koi.sandbox.advance(HOUR_S)
    ask(koi, *(f"[fault:{fault}]" for fault in faults), n=2)
    koi.sandbox.advance(HOUR_S)
    assert ask(koi, "after") == [200]
    koi.sandbox.advance(-HOUR_S)
    koi.settled()


FAULTS = {
    "sync": ("reset-after-accept", "reset-before-body", "hang", "headers-then-hang",
             "silent-bill", "500", "400", "fewer", "502-html"),
    "async": ("reset-after-accept", "reset-before-body", "hang", "headers-then-hang",
              "silent-bill", "500", "task-failed", "moderation-task", "no-id"),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_after_faults_the_ledger_equals_the_bill_once_it_has_been_imported(
    start: Start, cli: Cli, mode: str
) -> None:
    koi = start(upstream_mode=mode, upstream_timeout_s=2, task_deadline_s=3)
    koi.sandbox.set(moderation_billed=True)
    framed(koi, *FAULTS[mode])
    file = bill_of(koi, cli)

    before = cli.json("ledger", "import-bill", file, code=1)
    written = len(koi.entries())
    applied = cli.json("ledger", "import-bill", file, "--apply")
    corrected = koi.entries()
    after = cli.json("ledger", "import-bill", file)
    cli.run("ledger", "import-bill", file, "--apply")

    found = {(pair["finding"], pair["fix"]) for pair in before["differences"]}
    assert {("missing", 2), ("surplus", -2)} <= found
    assert before["agrees"] is False
    assert before["matched_by_time"]
    assert written == len(corrected) - len(before["differences"])
    assert [pair["entered"] for pair in applied["differences"]].count(None) == 0
    assert after["agrees"]
    assert (after["differences"], after["missing"]["lines"]) == ([], 0)
    assert len(koi.entries()) == len(corrected)
    charged = sum(entry.images + entry.surplus for entry in corrected)
    assert charged == koi.sandbox.billed_images
    assert cli.json("ledger", "check")["difference"] == 0


def test_the_names_of_calls_are_in_the_entries_and_for_the_operator_only(
    start: Start, cli: Cli
) -> None:
    koi = start(upstream_mode="async")
    koi.sandbox.script("ok", "500", "reset-mid-body")
    with koi.client() as client:
        good = client.post(GENERATE, json=KOI)
        bad = client.post(GENERATE, json={**KOI, "prompt": "another"})
        lost = client.post(GENERATE, json={**KOI, "prompt": "a third"})
        task = client.get(f"/v1/tasks/{good.headers['x-koi-task-id']}")
    koi.settled()
    billed, *_, broken = [line.request_id for line in koi.sandbox.bill()]
    shown = cli.json("tasks", "show", good.headers["x-koi-task-id"])
    lines = [json.loads(line) for line in cli.text("ledger", "export").splitlines()]
    table = cli.text("ledger", "export", "--format", "csv")

    assert shown["calls"] == lines[0]["calls"] == [shown["upstream"][0]["id"], billed]
    assert lines[1]["kind"] == "release"
    assert lines[1]["calls"][0].startswith("req_")
    assert (lines[2]["presumed"], lines[2]["calls"]) == (1, [broken])
    assert f"{shown['upstream'][0]['id']} {billed}" in table
    for name in (*lines[0]["calls"], *lines[1]["calls"], broken):
        for answer in (good, bad, lost, task):
            assert name not in answer.text + repr(answer.headers)


def test_a_bill_without_surprises_exits_0_and_says_so(start: Start, cli: Cli) -> None:
    catalog = cli.path / "catalog.toml"
    catalog.write_text(PRICED.read_text().replace("max_n = 10", "max_n = 2", 1))
    koi = start(catalog=catalog)
    assert ask(koi, "one") == ask(koi, "in two calls", n=3) == [200]

    said = cli.text("ledger", "import-bill", bill_of(koi, cli))

    assert said.splitlines()[-1] == "The bill and the ledger agree."
    assert [line.split() for line in said.splitlines() if line.startswith("matched")] == [
        ["matched", "3", "2", "4", "4", "0.56", "0.56"]
    ]


def test_differences_are_told_with_what_to_do_about_them(start: Start, cli: Cli) -> None:
    koi = start(upstream_mode="sync")
    framed(koi, "silent-bill", "reset-before-body")
    file = bill_of(koi, cli)
    with (cli.path / file).open("a") as bill:
        bill.write(f"req_else,image,grok-imagine,0,0.14,{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n")

    said = cli.run("ledger", "import-bill", file, code=1).stdout
    cli.run("ledger", "import-bill", file, "--apply", code=1)
    left = cli.json("ledger", "import-bill", file, code=1)["differences"]

    assert "+2" in said
    assert "a line without a job is near; it may be this one" in said
    assert "other traffic with the provider's key" in said
    assert "Next: the same with --apply enters 1 of them as new entries." in said
    assert "Yours to decide: 2" in said
    assert sorted((pair["finding"], pair["job"] is None) for pair in left) == [
        ("missing", True),
        ("surplus", False),
    ]
    # Once the stranger is explained, the presumed images are given back.
    cli.run("ledger", "import-bill", bill_of(koi, cli), "--apply")


def test_a_bill_that_cannot_be_trusted_corrects_nothing(start: Start, cli: Cli) -> None:
    koi = start(upstream_mode="sync")
    framed(koi, "reset-before-body")
    bill, written = koi.sandbox.fee_details(), len(koi.entries())
    spoilt = {
        "Correct the unreadable lines first": bill + "Total,,,,0.28,\n",
        "is it the bill of another key?": bill.replace("req_", "other_"),
        "in another time zone than KOI_TIMEZONE?": _shifted(bill, hours=8),
    }

    for says, text in spoilt.items():
        (cli.path / "fees.csv").write_text(text)
        done = cli.run("ledger", "import-bill", "fees.csv", "--apply", code=1)
        assert says in done.stdout

    assert len(koi.entries()) == written


def test_a_bill_of_which_no_id_is_known_agrees_with_nothing(start: Start, cli: Cli) -> None:
    koi = start()
    assert ask(koi, "one", "two") == [200, 200]
    bill = koi.sandbox.fee_details().replace("req_", "other_").replace("task_", "other_")
    (cli.path / "fees.csv").write_text(bill)

    said = cli.run("ledger", "import-bill", "fees.csv", "--within", "1h", code=1).stdout
    record = cli.json("ledger", "import-bill", "fees.csv", "--within", "1h", code=1)

    assert "None of its ids is known here: it was matched by time alone." in said
    assert "agree" not in said
    assert record["agrees"] is False


def test_a_bill_saved_again_by_excel_or_dotnet_says_the_same(start: Start, cli: Cli) -> None:
    koi = start()
    assert ask(koi, "one", "two") == [200, 200]
    heading, *rows = koi.sandbox.fee_details().splitlines()
    zone = ZoneInfo("Asia/Shanghai")
    moments = [datetime.fromisoformat(row.rpartition(",")[2]).astimezone(zone) for row in rows]
    spellings = {
        "utf-16": [f"{m.year}/{m.month}/{m.day} {m.hour}:{m:%M:%S}" for m in moments],
        "gb18030": [f"{m:%Y-%m-%dT%H:%M:%S}.1234567+08:00" for m in moments],
    }

    for encoding, times in spellings.items():
        again = [
            row.rpartition(",")[0].replace("0.14", "1.4E-1") + f",{time}"
            for row, time in zip(rows, times, strict=True)
        ]
        text = "\r\n".join([heading + ",备注", *(f"{row},好" for row in again)])
        (cli.path / "again.csv").write_bytes(text.replace(",", "\t").encode(encoding))
        said = cli.text("ledger", "import-bill", "again.csv", "--within", "1h")
        assert said.splitlines()[-1] == "The bill and the ledger agree."


def test_lines_that_cannot_be_read_are_named_and_counted(cli: Cli) -> None:
    rows = ["req_1,m,0.14,05/11/2026 9:03", 'req_2,m,"1,234",2026-11-05 9:03', "req_3,m,0.14"]
    text = "\n".join(["Request ID,Model,Amount,Time", *rows])
    (cli.path / "fees.csv").write_text(text)

    alone = cli.refused("ledger", "import-bill", "fees.csv", code=2)
    span = ("--since", "2026-11-01", "--until", "2026-11-06")
    told = cli.run("ledger", "import-bill", "fees.csv", *span, "--apply", code=1).stdout
    record = cli.json("ledger", "import-bill", "fees.csv", *span, code=1)

    for said in (alone, told):
        assert "line 2, column 'Time': '05/11/2026 9:03' is not a time for certain" in said
        assert "line 3, column 'Amount': '1,234' is not an amount in CNY for certain" in said
        assert "line 4: 3 cells under 4 headings" in said
    assert "lines that cannot be read: 3" in alone
    assert "has no line" not in alone
    assert [(line["line"], line["column"]) for line in record["unreadable"]] == [
        (2, "Time"),
        (3, "Amount"),
        (4, None),
    ]


def _shifted(text: str, hours: int) -> str:
    heading, *rows = text.splitlines()
    moved = [heading]
    for row in rows:
        rest, _, time = row.rpartition(",")
        moved.append(f"{rest},{datetime.fromisoformat(time) + timedelta(hours=hours)}")
    return "\n".join(moved)


def test_a_long_bill_is_told_in_few_lines(start: Start, cli: Cli) -> None:
    koi = start()
    assert ask(koi, "one") == [200]
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    with (cli.path / "fees.csv").open("w") as bill:
        bill.write(koi.sandbox.fee_details())
        bill.writelines(f"req_{i},image,grok-imagine,0,0.14,{now}\n" for i in range(5_000))

    said = cli.run("ledger", "import-bill", "fees.csv", code=1).stdout

    assert len(said.splitlines()) < 50
    assert "5000" in said
    assert "and 4980 more; see --all" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("none.csv", "cannot be read"),
        ("empty.csv", "is empty"),
        ("heads.csv", "has no line; say what it covers with --since and --until"),
        ("heads.csv --since 2026-11-02 --until 2026-11-01", "--since must be before --until"),
        ("heads.csv --within soon", "--within must be a duration"),
        ("heads.csv --since soon", "--since must be a day"),
        ("heads.csv --amount-column Net", "no column for the amount"),
    ],
)
def test_what_cannot_be_compared_exits_2(cli: Cli, words: str, says: str) -> None:
    (cli.path / "empty.csv").touch()
    (cli.path / "heads.csv").write_text("Request ID,Model,Amount,Time\n")

    assert says in cli.refused("ledger", "import-bill", *words.split(), code=2)


def test_a_bill_without_lines_takes_back_what_it_is_said_to_cover(start: Start, cli: Cli) -> None:
    koi = start(upstream_mode="sync")
    ask(koi, "[fault:reset-before-body]")
    koi.settled()
    since = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    until = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%M:%SZ}"
    span = ("--since", since, "--until", until)

    (cli.path / "chat.csv").write_text(
        f"Request ID,Capability,Model,Amount,Time\nreq_1,chat,qwen,0.01,{since}\n"
    )
    other = cli.json(
        *("ledger", "import-bill", "chat.csv", *span, "--within", "0s", "--apply"),
        *("--capability", "image"),
        code=1,
    )
    # No bill reaches into the future, nor may a call of the last moments be on it yet.
    held = cli.json("ledger", "import-bill", bill_of(koi, cli), *span, "--apply")
    done = cli.json("ledger", "import-bill", "fees.csv", *span, "--within", "0s", "--apply")

    assert other["refused"] == "None of its lines was asked for. Nothing is corrected."
    assert [pair["entered"] for pair in other["differences"]] == [None]
    assert [pair["finding"] for pair in held["differences"]] == ["undecided"]
    assert [pair["fix"] for pair in done["differences"]] == [-1]
    assert koi.entries()[-1].presumed == -1
    assert cli.json("usage")["total"]["images"] == 0


def test_a_bill_with_tabs_is_told_the_one_column_it_lacks(cli: Cli) -> None:
    (cli.path / "fees.tsv").write_text("Fee Details\n\nrequest id\tmodel\tamount\twhen\n")

    said = cli.refused("ledger", "import-bill", "fees.tsv", code=2)

    assert "no column for the time; name it with --time-column" in said


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16"])
def test_a_bill_may_come_through_a_pipe(cli: Cli, name: str, encoding: str) -> None:
    row = "req_1,grok-imagine,0.14,2026-11-27T13:00:00Z"
    bill = f"请求ID,模型,金额,时间\n{row}\n".encode(encoding)

    done = cli.run("ledger", "import-bill", name, "--json", given=bill, code=1)

    assert done.stderr == ""
    assert [pair["lines"] for pair in json.loads(done.stdout)["differences"]] == [[2]]
