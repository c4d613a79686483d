"""Files that vanish or rot under the embedded store: noticed, never bought on into, repaired by one
command; and no command shows a lost ledger as a healthy one."""

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox.server import Sandbox
from tests.flow.command import Cli, Serving, generate, served_by
from tests.harness import quick_sandbox

READING = (
    ("ledger", "check"),
    ("usage",),
    ("ledger", "export"),
    ("tasks", "list"),
    ("users", "list"),
)


@pytest.fixture
def provider() -> Iterator[Sandbox]:
    with quick_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def cli(provider: Sandbox, tmp_path: Path) -> Cli:
    return Cli(tmp_path, served_by(provider.url))


def log_of(cli: Cli) -> Path:
    return next((cli.path / ".koi/store/appendonlydir").glob("*.incr.aof"))


def bought(cli: Cli, images: int = 4) -> str:
    """A gateway that made some pictures and ended in order; the key it made them with."""
    with cli.forked() as serving:
        key = cli.key()
        for at in range(images):
            assert generate(serving.url, key, f"koi {at}").status_code == 200
        assert serving.stop() == 0
    return key


def readiness(serving: Serving, word: str) -> dict[str, Any]:
    """What `/readyz` says once the ledger's word is that."""
    deadline = time.monotonic() + 15
    while True:
        answer = httpx.get(f"{serving.url}/readyz", timeout=5)
        if answer.json()["ledger"] == word:
            assert answer.status_code == (200 if word == "ok" else 503)
            return dict(answer.json())
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)


def images_used(cli: Cli) -> int:
    return int(cli.json("usage")["total"]["images"])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_gateway_whose_data_directory_is_deleted_buys_nothing_and_says_so_everywhere(
    cli: Cli, provider: Sandbox, workers: str
) -> None:
    cli.settings["KOI_WORKERS"] = workers
    with cli.forked() as serving:
        key = cli.key()
        assert generate(serving.url, key).status_code == 200
        shutil.rmtree(cli.path / ".koi", ignore_errors=True)

        ready = readiness(serving, "files_gone")
        answers = [generate(serving.url, key, f"koi {at}") for at in range(6)]
        refused = cli.refused("ledger", "check", code=1)
        findings = cli.json("doctor", code=1)

        assert ready["journal"] == "files_gone"
        assert {answer.status_code for answer in answers} == {503}
        assert {a.json()["error"]["code"] for a in answers} == {"ledger_unavailable"}
        assert provider.posts == 1
        assert "koi ledger rebuild" in refused
        assert "deleted or moved while it ran" in refused
        [found] = [f for f in findings if f["status"] == "fail"]
        assert (found["check"], "deleted or moved" in found["text"]) == ("store", True)
        assert serving.events("store_files_gone")
        assert serving.events("journal_gone")
        assert serving.process.poll() is None
        # No second store was begun there.
        assert not (cli.path / ".koi/store/appendonlydir").exists()


def test_a_deleted_store_whose_journal_is_left_is_not_begun_anew_in_silence(cli: Cli) -> None:
    bought(cli)
    shutil.rmtree(cli.path / ".koi/store")

    for command in READING:
        assert "koi ledger rebuild" in cli.run(*command, code=1).stderr
    told = cli.text("ledger", "rebuild")

    assert "Nothing is missing" in told
    assert images_used(cli) == 4
    assert cli.json("ledger", "check")["difference"] == 0


def test_a_log_cut_to_half_is_noticed_by_commands_and_gateways_and_rebuilt(cli: Cli) -> None:
    key = bought(cli)
    log = log_of(cli)
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size // 2)

    for command in READING:
        assert "koi ledger rebuild" in cli.run(*command, code=1).stderr
    with cli.forked(ready=False) as serving:
        readiness(serving, "lost_data")
        assert generate(serving.url, key).status_code == 503
        assert "Nothing is missing" in cli.text("ledger", "rebuild")
        readiness(serving, "ok")
        assert generate(serving.url, key, "one more").status_code == 200
        assert images_used(cli) == 5
        assert cli.json("ledger", "check")["difference"] == 0


def overwrite(cli: Cli) -> None:
    log = log_of(cli)
    with log.open("r+b") as file:
        file.seek(log.stat().st_size // 2)
        file.write(bytes(500))


def replace_by_a_file(cli: Cli) -> None:
    directory = log_of(cli).parent
    shutil.rmtree(directory)
    directory.write_bytes(b"")


DAMAGE = {
    "its middle": overwrite,
    "its manifest": lambda cli: next(log_of(cli).parent.glob("*.manifest")).write_bytes(b"\0"),
    "its base": lambda cli: next(log_of(cli).parent.glob("*.base.rdb")).unlink(),
    "its commands": lambda cli: log_of(cli).unlink(),
    "all of its manifest": lambda cli: next(log_of(cli).parent.glob("*.manifest")).write_bytes(b""),
    "its directory": replace_by_a_file,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_store_is_repaired_by_the_command_that_the_start_names(
    cli: Cli, damage: str
) -> None:
    key = bought(cli)
    DAMAGE[damage](cli)

    assert "koi store repair" in cli.fork("serve", "--port", "0", code=1)
    assert "koi store repair" in cli.refused("ledger", "check", code=1)
    told = cli.text("store", "repair")

    [aside] = (cli.path / ".koi/store").glob("damaged-*")
    assert aside.name in told
    assert "othing is missing" in told
    assert images_used(cli) == 4
    assert cli.json("ledger", "check")["difference"] == 0
    assert "nothing to repair" in cli.text("store", "repair")
    with cli.forked() as serving:
        assert made_soon(serving, key)


def made_soon(serving: Serving, key: str) -> bool:
    """As an SDK does it, which repeats a 503: a store that just started may be late for a call."""
    deadline = time.monotonic() + 15
    while (answer := generate(serving.url, key, "one more")).status_code == 503:
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return answer.status_code == 200


def test_a_log_whose_manifest_lists_nothing_is_read_all_the_same(cli: Cli) -> None:
    bought(cli, images=2)
    DAMAGE["all of its manifest"](cli)

    record = cli.json("store", "repair")

    assert record["bytes_read"] == record["bytes"] > 0
    assert record["books"] is None  # nothing had to come from the journal


UNREADABLE = {
    "of a newer engine": b'{"engine": "valkey", "version": "99.0.0"}',
    "of nobody knows which": b"{",
}


@pytest.mark.parametrize("stamp", UNREADABLE.values(), ids=UNREADABLE)
def test_data_that_may_not_be_read_here_is_moved_aside_and_built_anew_from_the_journal(
    cli: Cli, stamp: bytes
) -> None:
    bought(cli, images=2)
    (cli.path / ".koi/store/engine.json").write_bytes(stamp)

    assert "koi store repair --from-journal" in cli.refused("usage", code=1)
    assert "--from-journal" in cli.refused("store", "repair", code=1)
    told = cli.text("store", "repair", "--from-journal")

    [aside] = (cli.path / ".koi/store").glob("damaged-*")
    assert (aside / "engine.json").read_bytes() == stamp
    assert next((aside / "appendonlydir").glob("*.incr.aof")).stat().st_size > 0
    assert "Nothing is missing" in told
    assert images_used(cli) == 2
    assert "nothing to repair" in cli.text("store", "repair", "--from-journal")


def test_without_a_journal_nothing_is_moved_aside_for_it(cli: Cli) -> None:
    bought(cli, images=1)
    (cli.path / ".koi/store/engine.json").write_bytes(b"{")
    shutil.rmtree(cli.path / ".koi/journal")

    assert "no journal" in cli.refused("store", "repair", "--from-journal", code=1)
    assert list((cli.path / ".koi/store").glob("damaged-*")) == []


def test_a_repair_without_a_journal_says_that_nobody_knows_what_is_lost(cli: Cli) -> None:
    bought(cli, images=2)
    overwrite(cli)
    shutil.rmtree(cli.path / ".koi/journal")

    record = cli.json("store", "repair", code=1)

    assert "cannot be known" in record["missing"]
    assert 0 < record["bytes_read"] < record["bytes"]


def test_a_store_in_use_or_elsewhere_is_not_repaired(cli: Cli) -> None:
    assert "no store" in cli.refused("store", "repair", code=1)
    with cli.forked() as serving:
        assert "nothing to repair" in cli.refused("store", "repair", code=1)
        assert serving.stop(signal.SIGTERM) == 0
    cli.settings["KOI_REDIS_URL"] = "redis://127.0.0.1:1"
    assert "KOI_REDIS_URL" in cli.refused("store", "repair", code=2)


def test_a_journal_whose_oldest_file_is_gone_is_missed_by_the_rebuild(cli: Cli) -> None:
    bought(cli, images=2)
    for file in (cli.path / ".koi/journal").glob("*.jsonl"):
        file.unlink()
    bought(cli, images=1)
    shutil.rmtree(cli.path / ".koi/store")

    record = cli.json("ledger", "rebuild", code=1)

    assert record["forgotten"] > 0
    assert record["gaps"][0]["first"] >= 1  # what a gateway copied may be the first of all
    shutil.rmtree(cli.path / ".koi/store")
    assert "of the epoch" in cli.run("ledger", "rebuild", code=1).stdout


def test_unreadable_lines_and_strangers_stop_no_start_and_are_named(cli: Cli) -> None:
    key = bought(cli, images=1)
    journal = cli.path / ".koi/journal"
    (journal / "2026-01-01-old.books.jsonl").mkdir()
    (journal / "2026-01-02-old.books.jsonl").write_text(
        '{"mark":{"seq":"x","who":"","epoch":""},"changes":[],"at_ms":1}\n'
    )

    with cli.forked() as serving:
        [warned] = serving.events("journal_unreadable")
        assert generate(serving.url, key, "another").status_code == 200
        serving.stop()
    findings = cli.json("doctor")

    assert warned["skipped"] == ["2026-01-01-old.books.jsonl"]
    [found] = [f for f in findings if (f["check"], f["status"]) == ("journal", "warn")]
    assert "2026-01-02-old.books.jsonl" in found["text"]
    shutil.rmtree(cli.path / ".koi/store")
    told = cli.run("ledger", "rebuild", code=1)
    assert "Unreadable" in told.stdout
    assert images_used(cli) == 2


def test_an_emptied_store_beside_an_unreadable_journal_is_begun_anew_on_purpose_only(
    cli: Cli,
) -> None:
    bought(cli, images=1)
    journal = cli.path / ".koi/journal"
    for file in journal.glob("*.jsonl"):
        file.write_bytes(b"\0" * 512)
    shutil.rmtree(cli.path / ".koi/store")

    with cli.forked(ready=False) as serving:
        readiness(serving, "lost_data")
        [told] = serving.events("ledger_lost")
        serving.stop()

    assert "put its files back" in told["fix"]
    for command in READING:
        assert "move KOI_DATA_DIR/journal away" in cli.refused(*command, code=1)
    [books] = [one for one in cli.json("doctor", code=1) if one["check"] == "books"]
    assert books["status"] == "fail"
    assert "cannot be read" in books["text"]
    assert "nothing to rebuild from" in cli.refused("ledger", "rebuild", code=1)

    journal.rename(cli.path / "aside")
    bought(cli, images=1)
    assert images_used(cli) == 1


def test_a_journal_that_was_deleted_is_missed_by_the_doctor(cli: Cli) -> None:
    bought(cli, images=1)
    shutil.rmtree(cli.path / ".koi/journal")

    findings = cli.json("doctor")

    [found] = [f for f in findings if (f["check"], f["status"]) == ("journal", "warn")]
    assert "is gone" in found["text"]
