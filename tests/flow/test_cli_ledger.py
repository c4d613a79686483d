"""`koi usage`, `koi ledger` and `koi tasks`, attached to the store of a gateway that runs."""

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
import redis

from app.adapters.embedded.store import EmbeddedStore
from tests.flow.command import KOI, ROOT, Cli, Serving, generate
from tests.harness import quick_sandbox


@dataclass
class Example:
    """A gateway that made three images for ann and refused bob one."""

    cli: Cli
    serving: Serving
    ann: dict[str, Any]
    task: str


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    settings = {
        "KOI_UPSTREAM_API_KEY": "sk-sandbox",
        "KOI_UPSTREAM_POLL_INTERVAL_S": "0.05",
        "KOI_CATALOG": str(ROOT / "tests/catalog.toml"),
        "KOI_TIMEZONE": "Asia/Shanghai",
    }
    with quick_sandbox() as sandbox:
        settings["KOI_UPSTREAM_BASE_URL"] = sandbox.url
        cli = Cli(tmp_path_factory.mktemp("ledger"), settings)
        with cli.forked() as serving:
            ann = cli.json("keys", "create", "--user", "ann", "--new")
            first = generate(serving.url, ann["key"], "one")
            second = generate(serving.url, ann["key"], "two", n=2, quality="hd")
            assert (first.status_code, second.status_code) == (200, 200)
            yield Example(cli, serving, ann, first.headers["x-koi-task-id"])


def test_usage_adds_up_images_and_money(example: Example) -> None:
    report = example.cli.json("usage", "--by", "user,model")

    assert report["by"] == ["user", "model"]
    assert report["rows"] == [
        {
            "user": "ann",
            "model": "grok-imagine",
            "requests": 2,
            "images": 3,
            "delivered": 3,
            "presumed": 0,
            "surplus": 0,
            "cost": {"value": "0.70", "currency": "CNY"},
        }
    ]
    assert report["total"]["cost"] == {"value": "0.70", "currency": "CNY"}
    assert report["since"].endswith("Z")


def test_every_verb_works_as_a_process_beside_the_gateway(example: Example) -> None:
    usage = json.loads(example.cli.process("usage", "--json").stdout)
    export = example.cli.process("ledger", "export", "--json").stdout.splitlines()
    tasks = example.cli.process("tasks", "list").stdout.splitlines()

    assert usage["total"]["images"] == 3
    assert json.loads(export[0])["user"] == "ann"
    assert len(tasks) == 3


def test_usage_by_day_counts_days_of_the_time_zone(example: Example) -> None:
    lines = [json.loads(line) for line in example.cli.text("ledger", "export").splitlines()]
    made = sorted(line["at"] for line in lines if line["user"] == "ann")
    days = [f"{datetime.fromisoformat(at) + timedelta(hours=8):%Y-%m-%d}" for at in made]

    rows = example.cli.json("usage", "--by", "day", "--since", days[0])["rows"]

    assert [row["day"] for row in rows] == sorted(set(days))


def test_usage_is_a_table_or_csv_for_people_and_spreadsheets(example: Example) -> None:
    table = example.cli.text("usage")
    rows = list(csv.DictReader(io.StringIO(example.cli.text("usage", "--format", "csv"))))

    assert re.search(r"^ann +2 +3 +3 +0 +0 +0\.70$", table, re.MULTILINE)
    assert re.search(r"^total +2 +3 +3 +0 +0 +0\.70$", table, re.MULTILINE)
    assert rows == [
        {
            "user": "ann",
            "requests": "2",
            "images": "3",
            "delivered": "3",
            "presumed": "0",
            "surplus": "0",
            "cost": "0.70",
            "currency": "CNY",
        }
    ]


def test_usage_of_another_time_is_empty(example: Example) -> None:
    report = example.cli.json("usage", "--since", "2020-01-01", "--until", "2020-02-01T00:00:00Z")

    assert report["rows"] == []
    assert report["total"]["images"] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("usage --by colour", "--by knows user, team, key, model, size, day"),
        ("usage --since lately", "--since must be a day such as 2026-11-23"),
        ("usage --since 999999999w", "--since is longer"),
        ("usage --user ,", "--user needs a name"),
        ("tasks list --status broken", "--status must be one of queued"),
        ("tasks list --since lately", "--since must be a day such as 2026-11-23"),
        ("usage --since 2026-02-02 --until 2026-02-01", "--since must be before --until"),
        ("ledger adjust --images 1", "--job ID, or --user NAME with --model MODEL"),
        ("ledger adjust --user ann --images 1", "--job ID, or --user NAME with --model MODEL"),
        ("ledger adjust --job x --user ann --model m --images 1", "--job ID, or --user"),
        ("ledger adjust --job task_0", "--images N, --amount X"),
        ("ledger adjust --job task_0 --amount much", "--amount"),
        ("ledger adjust --job task_0 --amount -1e30", "is more than 1,000,000,000"),
        ("ledger adjust --job task_0 --images 99999999999999999999", "--images"),
        ("ledger adjust --job task_0 --images 9007199254740993", "--images"),
        ("keys create --user ann --expires 0d", "longer than nothing"),
        ("ledger import-bill /dev/zero", "more than 256 MB"),
        ("tasks list --limit 0", "--limit"),
        ("usage --format csv --json", "Give --format csv or --json, not both"),
        ("usage --format focus --json", "Give --format focus or --json, not both"),
        ("usage --format table --json", "Give --format table or --json, not both"),
        ("ledger export --format csv --json", "Give --format csv or --json, not both"),
    ],
)
def test_a_misunderstanding_is_said_and_exits_2(example: Example, words: str, says: str) -> None:
    assert says in example.cli.refused(*words.split(), code=2)


def test_what_people_typed_does_nothing_to_the_terminal_that_lists_it(example: Example) -> None:
    issued = example.cli.json(
        "keys", "create", "--user", "eve", "--new", "--name", "a\nb\x1b[2J", "--expires", "1d"
    )

    listed = example.cli.text("keys", "list")
    example.cli.run("keys", "revoke", issued["key_id"])

    assert r"a\nb\x1b[2J" in listed
    assert "\x1b" not in listed


def test_usage_comes_in_focus_for_cost_tools(example: Example) -> None:
    text = example.cli.text("usage", "--format", "focus")
    total = example.cli.json("usage")["total"]
    charges = list(csv.DictReader(io.StringIO(text)))

    assert sum(int(charge["ConsumedQuantity"]) for charge in charges) == total["images"]
    assert {charge["ServiceCategory"] for charge in charges} == {"AI and Machine Learning"}


def test_the_ledger_is_exported_as_lines_of_json_and_as_csv(example: Example) -> None:
    lines = [json.loads(line) for line in example.cli.text("ledger", "export").splitlines()]
    rows = list(
        csv.DictReader(io.StringIO(example.cli.text("ledger", "export", "--format", "csv")))
    )

    settled = [line for line in lines if line["kind"] == "settle"]
    assert [(line["images"], line["amount"]) for line in settled] == [(1, "0.14"), (2, "0.56")]
    assert settled[0]["job"] == example.task
    assert settled[0]["key_id"] == example.ann["key_id"]
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    assert rows[0].keys() == lines[0].keys()


def test_tasks_are_listed_and_shown_without_the_prompt(example: Example) -> None:
    listed = example.cli.json("tasks", "list", "--user", "ann", "--limit", "5")
    shown = example.cli.json("tasks", "show", example.task)
    text = example.cli.text("tasks", "show", example.task)

    assert [task["n"] for task in listed] == [2, 1]
    assert shown == listed[1]
    assert (shown["status"], shown["state"], shown["user"]) == ("completed", "settled", "ann")
    assert shown["cost"] == {"value": "0.14", "currency": "CNY"}
    assert shown["pictures"][0].startswith("img_")
    assert "prompt" not in shown
    assert example.task in text


def test_an_unknown_task_is_one_sentence(example: Example) -> None:
    assert "no task" in example.cli.refused("tasks", "show", "task_0", code=1)


def test_a_correction_is_a_new_entry_and_the_ledger_still_balances(example: Example) -> None:
    cli = example.cli

    back = cli.json(
        "ledger", "adjust", "--job", example.task, "--images", "-1", "--note", "refunded"
    )
    extra = cli.json(
        *("ledger", "adjust", "--user", "ann", "--model", "dall-e-3"), *("--amount", "-0.06")
    )
    checked = cli.json("ledger", "check", "--full")
    total = cli.json("usage")["total"]

    assert (back["kind"], back["images"], back["amount"]) == ("adjust", -1, "-0.14")
    assert (back["job"], back["user"], back["note"]) == (example.task, "ann", "refunded")
    assert (extra["images"], extra["amount"], extra["model"]) == (0, "-0.06", "grok-imagine")
    assert (total["images"], total["cost"]["value"]) == (2, "0.50")
    assert checked["difference"] == 0
    assert checked["open_jobs"] == 0
    assert checked["entries"] >= 4
    # Undone, so that the other tests find what the gateway did.
    cli.run("ledger", "adjust", "--job", example.task, "--images", "1")
    undo = ("ledger", "adjust", "--user", "ann", "--model", "grok-imagine", "--amount", "0.06")
    undone = [cli.json(*undo, "--id", "undo-1") for _ in range(2)]
    assert undone[0]["id"] == undone[1]["id"]
    assert cli.json("usage")["total"]["cost"]["value"] == "0.70"


def test_a_job_gives_back_no_more_than_it_is_charged_however_often_asked(example: Example) -> None:
    refund = ("ledger", "adjust", "--job", example.task, "--images", "-1", "--note", "refunded")
    before = example.cli.json("usage")["total"]["images"]

    example.cli.run(*refund)
    again = example.cli.refused(*refund, code=1)
    money = example.cli.refused(*refund[:4], "--amount", "-0.01", code=1)
    after = example.cli.json("usage")["total"]["images"]
    example.cli.run("ledger", "adjust", "--job", example.task, "--images", "1")

    assert "is charged 0 images and 0.00 CNY by now" in again
    assert "Nothing was changed" in money
    assert after == before - 1


def test_a_correction_of_a_job_nobody_knows_is_refused(example: Example) -> None:
    said = example.cli.refused("ledger", "adjust", "--job", "task_0", "--images", "1", code=1)

    assert "no entry" in said


def test_a_counter_that_was_tampered_with_is_found_and_exits_1(example: Example) -> None:
    with (
        EmbeddedStore(example.cli.path / ".koi") as store,
        redis.Redis.from_url(store.url, decode_responses=True) as client,
    ):
        window, counters = _counters_of_ann(client)
        client.hset(window, "user:ann", counters.replace("3", "10", 1))
        checked = example.cli.json("ledger", "check", code=1)
        table = example.cli.run("ledger", "check", code=1).stdout
        client.hset(window, "user:ann", counters)

    assert checked["difference"] == 7
    assert [(d["counter"], d["ledger"]) for d in checked["differences"]] == [(10, 3)]
    assert table.splitlines()[0].split() == ["SCOPE", "WINDOW", "FIELD", "COUNTER", "LEDGER"]
    assert "difference  0" in example.cli.text("ledger", "check")


def _counters_of_ann(client: "redis.Redis[str]") -> tuple[str, str]:
    for key in client.scan_iter(_type="HASH", count=1000):
        packed = client.hget(key, "user:ann")
        if packed and packed.startswith("3 "):
            return key, packed
    raise AssertionError("no window counts ann's three images")


def test_an_answer_that_nobody_reads_is_no_success(example: Example) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*KOI, "tasks", "list"],
            cwd=example.cli.path,
            env=example.cli.environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)

    assert (done.returncode, done.stderr) == (141, b"")


def test_a_reader_that_leaves_early_gets_no_error(example: Example) -> None:
    done = subprocess.run(
        f"{' '.join(KOI)} ledger export | head -c 1",
        shell=True,
        cwd=example.cli.path,
        env=example.cli.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("{", "")
