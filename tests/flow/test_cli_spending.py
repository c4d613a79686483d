"""`koi stop-spending` and `koi resume`, as an operator types them."""

from pathlib import Path

import pytest
import redis

from app.adapters.redis.keyspace import KEYS
from tests.flow.command import ROOT, House

STOPS = next(key.name for key in KEYS if key.noun == "stops")
WHY = ("--reason", "A loop in the script")


@pytest.fixture
def house(store_url: str, tmp_path: Path) -> House:
    catalog = str(ROOT / "tests/catalog.toml")
    return House(tmp_path, {"KOI_REDIS_URL": store_url, "KOI_CATALOG": catalog})


@pytest.mark.parametrize(("group", "option"), [("users", "--user"), ("teams", "--team")])
def test_a_stop_ends_with_the_user_or_team_it_was_for(
    house: House, group: str, option: str
) -> None:
    house.run(group, "create", "blue")
    house.run("stop-spending", option, "blue", *WHY)

    house.run(group, "delete", "blue")
    house.run(group, "create", "blue")

    assert house.json("resume", option, "blue")["resumed"] is False


@pytest.mark.parametrize(("group", "option"), [("users", "--user"), ("teams", "--team")])
def test_a_stop_of_nobody_is_ended_as_the_doctor_says(
    house: House, store_url: str, group: str, option: str
) -> None:
    house.run(group, "create", "blue")
    house.run("stop-spending", option, "blue", *WHY)
    with redis.Redis.from_url(store_url) as client:
        left_by_an_earlier_version = client.hgetall(STOPS)
        house.run(group, "delete", "blue")
        client.hset(STOPS, mapping=left_by_an_earlier_version)

    said = house.run("doctor", code=1).stdout
    resumed = house.json("resume", option, "blue")

    assert f"End it with: koi resume {option} blue" in said
    assert resumed["resumed"] is True
    assert "There is no" in house.refused("resume", option, "blue", code=1)
