"""`koi stop-spending` and `koi resume`, as an operator types them."""

from pathlib import Path

import pytest
import redis

from app.adapters.redis.keyspace import KEYS
from tests.flow.command import ROOT, Cli

STOPS = next(key.name for key in KEYS if key.noun == "stops")
WHY = ("--reason", "A loop in the script")


@pytest.fixture
def cli(store_url: str, tmp_path: Path) -> Cli:
    catalog = str(ROOT / "tests/catalog.toml")
    return Cli(tmp_path, {"KOI_REDIS_URL": store_url, "KOI_CATALOG": catalog})


@pytest.mark.parametrize(("group", "option"), [("users", "--user"), ("teams", "--team")])
def test_a_stop_ends_with_the_user_or_team_it_was_for(cli: Cli, group: str, option: str) -> None:
    cli.run(group, "create", "blue")
    cli.run("stop-spending", option, "blue", *WHY)

    cli.run(group, "delete", "blue")
    cli.run(group, "create", "blue")

    assert cli.json("resume", option, "blue")["resumed"] is False


@pytest.mark.parametrize(("group", "option"), [("users", "--user"), ("teams", "--team")])
def test_a_stop_of_nobody_is_ended_as_the_doctor_says(
    cli: Cli, store_url: str, group: str, option: str
) -> None:
    cli.run(group, "create", "blue")
    cli.run("stop-spending", option, "blue", *WHY)
    with redis.Redis.from_url(store_url) as client:
        left_by_an_earlier_version = client.hgetall(STOPS)
        cli.run(group, "delete", "blue")
        client.hset(STOPS, mapping=left_by_an_earlier_version)

    said = cli.run("doctor", code=1).stdout
    resumed = cli.json("resume", option, "blue")

    assert f"End it with: koi resume {option} blue" in said
    assert resumed["resumed"] is True
    assert "There is no" in cli.refused("resume", option, "blue", code=1)
