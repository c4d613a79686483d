"""What a gateway's log says at the start about a store of the operator's own."""

from pathlib import Path

import pytest

from app.sandbox.server import Sandbox
from tests.adapters.store_rig import running
from tests.flow.command import Cli, served_by
from tests.store_node import programs

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
WORD = "tell-no1"


@pytest.fixture
def cli(sandbox: Sandbox, tmp_path: Path) -> Cli:
    return Cli(tmp_path, served_by(sandbox.url))


@pytest.fixture
def program() -> Path:
    return next(iter(programs().values()))


def test_a_ledger_that_nothing_writes_to_disk_is_one_warning_and_the_gateway_serves(
    cli: Cli, program: Path
) -> None:
    with running(program) as forgetful:
        cli.settings["KOI_REDIS_URL"] = forgetful.url
        with cli.forked() as serving:
            serving.wait_for("provider_checked")
            [told] = serving.events("store_checked")
        found = [f for f in cli.json("doctor", code=1) if f["status"] == "fail"]

    assert (told["level"], told["store"]) == ("warning", "ledger")
    assert "no AOF" in told["found"]
    assert "lose what was charged" in told["found"]
    assert "Set appendonly yes" in told["fix"]
    assert [f["text"] for f in found] == [told["found"]]


def test_of_kois_own_store_nothing_is_told(cli: Cli) -> None:
    with cli.forked() as serving:
        serving.wait_for("provider_checked")
        assert serving.events("store_checked") == []


def test_of_a_good_store_nothing_is_told(cli: Cli, program: Path) -> None:
    with running(program, *DURABLE) as good:
        cli.settings |= {"KOI_REDIS_URL": good.url, "KOI_CACHE_REDIS_URL": good.url}
        with cli.forked() as serving:
            serving.wait_for("provider_checked")
            assert serving.events("store_checked") == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_store_that_is_away_is_told_with_its_setting_and_no_password(
    cli: Cli, workers: str
) -> None:
    cli.settings |= {"KOI_REDIS_URL": f"redis://koi:{WORD}@127.0.0.1:9", "KOI_WORKERS": workers}
    with cli.forked(ready=False) as serving:
        [told] = serving.wait_for("store_checked")
        opened = serving.wait_for("store_breaker")[0]

    assert (told["level"], told["store"]) == ("warning", "ledger")
    for line in (told, opened):
        assert "KOI_REDIS_URL" in line["fix"]
        assert "koi doctor" in line["fix"]
    assert WORD not in serving.log.read_text()


def test_a_wrong_password_is_told_as_one(cli: Cli, program: Path) -> None:
    with running(program, "--requirepass", "another") as locked:
        cli.settings["KOI_REDIS_URL"] = f"unix://:{WORD}@{locked.socket}"
        with cli.forked(ready=False) as serving:
            [told] = serving.wait_for("store_checked")

    assert "Authentication" in told["found"]
    assert "KOI_REDIS_URL, the server and its password" in told["fix"]
    assert WORD not in serving.log.read_text()


def test_a_cache_that_is_away_is_told_once_and_the_gateway_serves(cli: Cli) -> None:
    cli.settings["KOI_CACHE_REDIS_URL"] = f"redis://:{WORD}@127.0.0.1:9"
    with cli.forked() as serving:
        serving.wait_for("provider_checked")
        [told] = serving.events("store_checked")

    assert (told["level"], told["store"]) == ("warning", "cache")
    assert "KOI_CACHE_REDIS_URL" in told["fix"]
    assert WORD not in serving.log.read_text()
