"""`koi admin-keys`: issued once, listed without a secret, found again, revoked."""

import json
import re
from pathlib import Path

import pytest
import redis

from tests.flow.command import PRICED, Cli


@pytest.fixture
def cli(store_url: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, {"KOI_REDIS_URL": store_url, "KOI_CATALOG": str(PRICED)})


def test_an_admin_key_is_printed_once_and_listed_without_its_secret(cli: Cli) -> None:
    done = cli.run("admin-keys", "create", "ci", "--scopes", "people,read", "--expires", "90d")
    secret = done.stdout.strip()

    (listed,) = cli.json("admin-keys", "list")

    assert re.fullmatch(r"sk-koi-admin-\S{43}-[0-9a-f]{8}", secret)
    assert "not shown again" in done.stderr
    assert (listed["name"], listed["scopes"], listed["status"]) == (
        "ci",
        ["people", "read"],
        "active",
    )
    assert (listed["last_used_at"], listed["ending"]) == (None, secret[-8:])
    assert secret[:40] not in cli.text("admin-keys", "list") + cli.text("audit")


def test_an_admin_key_is_no_key_of_a_user(cli: Cli) -> None:
    key = cli.json("admin-keys", "create", "ci", "--scopes", "all")

    assert cli.json("keys", "list") == []
    assert "There is no key" in cli.refused("keys", "revoke", key["key_id"], code=1)
    assert cli.json("keys", "whose", key["key"], code=1) == []


def test_a_key_found_somewhere_is_recognised_and_revoked(cli: Cli) -> None:
    key = cli.json("admin-keys", "create", "ci", "--scopes", "money")

    by_ending = cli.json("admin-keys", "whose", f"…{key['key'][-4:]}")
    by_secret = cli.json("admin-keys", "whose", key["key"])
    nobody = cli.json("admin-keys", "whose", "sk-koi-nobody", code=1)
    revoked = cli.json("admin-keys", "revoke", key["key_id"], "--reason", "leaked")

    assert [one["key_id"] for one in by_ending] == [one["key_id"] for one in by_secret]
    assert by_secret[0]["key_id"] == key["key_id"]
    assert (nobody, revoked["status"]) == ([], "revoked")


def test_a_key_for_one_team_is_no_admin_key_to_a_gateway_that_knows_no_teams(
    cli: Cli, store_url: str
) -> None:
    cli.run("teams", "create", "design")
    key = cli.json("admin-keys", "create", "lead", "--scopes", "all", "--team", "design")

    assert (key["team"], key["scopes"]) == ("design", ["money", "people", "read"])
    (listed,) = cli.json("admin-keys", "list")
    assert listed["team"] == "design"
    assert cli.json("keys", "list") == []
    with redis.Redis.from_url(store_url, decode_responses=True) as store:
        record = json.loads(str(store.hget("koi:1:{ledger}:keys", key["key_id"])))
    (made, _) = cli.json("audit")
    assert (made["target"], made["user"]) == (f"admin_key:{key['key_id']}", None)
    assert "admin" not in record
    assert record["team_admin"] == ["money", "people", "read"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("create x --scopes write", 2),
        ("create x", 2),
        ("create x --scopes read --expires 0d", 2),
        ("create x --scopes read --team nowhere", 1),
        ("revoke admkey_0", 1),
    ],
)
def test_what_cannot_be_is_refused(cli: Cli, words: str, code: int) -> None:
    cli.refused("admin-keys", *words.split(), code=code)
    assert cli.json("admin-keys", "list") == []
