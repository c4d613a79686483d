"""`koi import`: users, teams and limits of other gateways, from exports as they write them."""

import csv
import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flow.command import PRICED, Cli
from tests.flow.conftest import Start

ADA, EVE = "0b6f1f1e-9d55-4f0c-8f3d-0a5f6a7b8c9d", "7d1f3d3a-51f5-4f2e-9a6b-9f0e1d2c3b4a"
ART, LAB = "a3f0b1c2-0000-4000-8000-000000000001", "a3f0b1c2-0000-4000-8000-000000000002"
HASHES = {name: f"{n}{'c0ffee' * 10}"[:64] for n, name in enumerate("abcdefgh")}


@pytest.fixture
def cli(store_url: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, {"KOI_REDIS_URL": store_url, "KOI_CATALOG": str(PRICED)})


def write(cli: Cli, **documents: Any) -> list[str]:
    for name, document in documents.items():
        text = document if isinstance(document, str) else json.dumps(document)
        (cli.path / f"{name}.json").write_text(text, encoding="utf-8")
    return [f"{name}.json" for name in documents]


def user(user_id: str, **fields: Any) -> dict[str, Any]:
    """A row of `/user/list`."""
    return {
        "user_id": user_id, "max_budget": None, "spend": 0.0, "model_max_budget": {},
        "model_spend": {}, "user_email": None, "user_alias": None, "models": [], "tpm_limit": None,
        "rpm_limit": None, "user_role": "internal_user", "organization_memberships": None,
        "teams": [], "sso_user_id": None, "budget_duration": None, "budget_reset_at": None,
        "metadata": {}, "created_at": "2026-03-02T09:12:44.105000Z", "key_count": 1, **fields,
    }  # fmt: skip


def team(team_id: str, alias: str, **fields: Any) -> dict[str, Any]:
    """A row of `/team/list`."""
    return {
        "team_alias": alias, "team_id": team_id, "organization_id": None, "admins": [],
        "members": [], "members_with_roles": [], "team_member_permissions": None, "metadata": None,
        "tpm_limit": None, "rpm_limit": None, "max_budget": None, "budget_duration": None,
        "models": [], "blocked": False, "spend": 0.0, "max_parallel_requests": None,
        "budget_reset_at": None, "model_id": None, "litellm_model_table": None, "keys": [],
        "team_memberships": [], **fields,
    }  # fmt: skip


def key(token: str, **fields: Any) -> dict[str, Any]:
    """A row of `/key/list?return_full_object=true`."""
    return {
        "token": HASHES[token], "key_name": f"sk-...{token * 4}", "key_alias": None, "spend": 0.0,
        "max_budget": None, "expires": None, "models": [], "aliases": {}, "config": {},
        "user_id": None, "team_id": None, "max_parallel_requests": None, "metadata": {},
        "tpm_limit": None, "rpm_limit": None, "budget_duration": None, "budget_reset_at": None,
        "permissions": {}, "model_spend": {}, "model_max_budget": {}, "blocked": None,
        "litellm_budget_table": None, "budget_id": None, "created_by": "default_user_id", **fields,
    }  # fmt: skip


def litellm() -> dict[str, Any]:
    """A house with two teams, an administrator, two people, a machine and what falls away."""
    users = [
        user("default_user_id", user_role="proxy_admin", spend=3.5),
        user(ADA, user_email="ada@example.com", user_alias="Ada Lovelace", teams=[ART],
             max_budget=2.5, budget_duration="1d", rpm_limit=30, max_parallel_requests=4),
        user(EVE, user_email="eve@example.com", teams=[ART, LAB], max_budget=10.0,
             budget_duration="7d", tpm_limit=100000),
    ]  # fmt: skip
    teams = [
        team(ART, "Art Department", max_budget=300.0, budget_duration="30d", models=["dall-e-3",
             "gpt-4o"], members_with_roles=[{"user_id": ADA, "user_email": None, "role": "admin"}]),
        team(LAB, "lab", max_budget=50.0, blocked=True,
             members_with_roles=[{"user_id": EVE, "user_email": None, "role": "user"}]),
    ]  # fmt: skip
    keys = [
        key("a", key_alias="laptop", user_id=ADA, team_id=ART, rpm_limit=10,
            expires="2031-01-31T00:00:00Z"),
        key("b", user_id=EVE, models=["gpt-4o"]),
        key("c", key_alias="poster-bot", team_id=ART, max_budget=1.0, budget_duration="24h"),
        key("d", key_alias="old", user_id=ADA, expires="2025-01-31T00:00:00+00:00"),
        key("e", key_alias="bad", user_id=ADA, blocked=True),
        key("f", user_id="default_user_id", team_id="litellm-dashboard"),
        key("g", key_alias="stray"),
    ]  # fmt: skip
    return {
        "users": {"users": users, "total": 3, "page": 1, "page_size": 25, "total_pages": 1},
        "teams": teams,
        "keys": {"keys": keys, "total_count": 7, "current_page": 1, "total_pages": 1},
    }


def imported(cli: Cli, *words: str) -> Any:
    return cli.json("import", *words)


def test_litellms_people_and_limits_come_over_once(cli: Cli) -> None:
    files = write(cli, **litellm())
    words = ["litellm", *files, "--rate", "7.2"]

    dry = imported(cli, *words, "--dry-run")
    nobody = cli.json("users", "list")
    done = imported(cli, *words)
    again = imported(cli, *words)

    assert (dry["applied"], dry["changes"], nobody) == (False, done["changes"], [])
    assert [change["target"] for change in done["changes"]] == [
        "team Art-Department", "team lab", "user default_user_id", "user ada@example.com",
        "user eve@example.com", "user poster-bot",
    ]  # fmt: skip
    assert (again["changes"], again["keys_made"]) == ([], 0)
    art = cli.json("teams", "show", "Art-Department")
    assert art["limits"]["budget_per_month"] == {"value": "2160.00", "currency": "CNY"}
    assert (art["models"], art["title"]) == (["grok-imagine"], "Art Department")
    assert cli.json("teams", "show", "lab")["disabled_at"]
    ada = cli.json("users", "show", "ada@example.com")
    assert (ada["team"], ada["title"]) == ("Art-Department", "Ada Lovelace")
    assert ada["limits"]["budget_per_day"]["value"] == "18.00"
    assert (ada["limits"]["requests_per_minute"], ada["limits"]["concurrency"]) == (30, 4)
    bot = cli.json("users", "show", "poster-bot")
    assert (bot["team"], bot["service_account"]) == ("Art-Department", True)
    assert cli.json("keys", "list") == []
    (newest, *_) = cli.json("audit")
    assert newest["reason"] == "import from litellm"


def test_the_end_of_a_very_long_name_is_not_read(cli: Cli) -> None:
    """To take a letter apart from its marks takes the square of them."""
    files = write(cli, **litellm() | {"teams": [team(ART, "a" + "\u0327\u0301" * 2_000 + "rt")]})

    done = imported(cli, "litellm", *files, "--rate", "7.2", "--dry-run")

    assert done["changes"][0]["target"] == "team a"


def test_what_litellm_has_and_koi_has_not_is_named(cli: Cli) -> None:
    files = write(cli, **litellm())

    lost = imported(cli, "litellm", *files, "--rate", "7.2", "--dry-run")["not_carried"]
    said = cli.text("import", "litellm", *files, "--dry-run")

    assert lost["Budgets that are given every 7d"] == ["user eve@example.com ($10.0)"]
    assert lost["Budgets that are given once and never again"] == ["team lab ($50.0)"]
    assert lost["Tokens per minute: pictures have none"] == ["user eve@example.com"]
    assert lost["Model 'gpt-4o' is not offered here"] == [
        "team Art-Department", "key sk-...bbbb of eve@example.com",
    ]  # fmt: skip
    assert lost["Administrators: see koi admin-keys"] == ["user default_user_id"]
    assert lost["Keys of nobody and no team"] == ["key stray"]
    assert lost["Blocked and expired keys: no new ones are made"] == ["key old", "key bad"]
    assert any(sentence.startswith("In several teams") for sentence in lost)
    assert "give --rate" in said
    assert "! 3 keys: only their holders know them. --keys FILE makes new ones." in said


def test_new_keys_are_made_once_into_a_file_of_their_own(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    koi = start()
    cli = Cli(tmp_path, {"KOI_REDIS_URL": store_url, "KOI_CATALOG": str(PRICED)})
    words = ["import", "litellm", *write(cli, **litellm()), "--keys"]

    cli.run(*words, "new.csv", "--dry-run")
    untouched = (tmp_path / "new.csv").exists()
    done = cli.run(*words, "new.csv")
    again = cli.run(*words, "second.csv")

    path = tmp_path / "new.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert not untouched
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [(row["user"], row["name"]) for row in rows] == [
        ("ada@example.com", "laptop"), ("eve@example.com", "sk-...bbbb"),
        ("poster-bot", "poster-bot"),
    ]  # fmt: skip
    assert not [row for row in rows if row["key"] in done.stdout + done.stderr + again.stdout]
    assert "Nothing differs." in again.stdout
    assert not (tmp_path / "second.csv").exists()
    headers = {"authorization": f"Bearer {rows[0]['key']}"}
    assert httpx.get(f"{koi.v1}/models", headers=headers).status_code == 200
    laptop, eves, _ = cli.json("keys", "list")
    assert (laptop["expires_at"], eves["models"]) == ("2031-01-31T00:00:00Z", [])

    cli.run("keys", "revoke", laptop["key_id"])
    revoked = cli.run(*words, "second.csv")

    assert "Revoked here, so no new key is made" in revoked.stdout
    assert not (tmp_path / "second.csv").exists()


def test_an_import_changes_only_what_the_export_speaks_of(cli: Cli) -> None:
    files = write(cli, **litellm())
    cli.run("users", "create", "ada@example.com", "--images-per-day", "5", "--cache", "off")

    changes = imported(cli, "litellm", *files, "--rate", "7.2")["changes"]

    ada = cli.json("users", "show", "ada@example.com")
    assert (ada["cache"], ada["limits"]["images_per_day"]) == ("off", 5)
    assert [c["action"] for c in changes if c["target"] == "user ada@example.com"] == ["update"]


def test_a_number_beyond_all_limits_is_no_limit_and_a_budget_row_counts(cli: Cli) -> None:
    rows = [
        user("ann", rpm_limit=2**63 - 1, max_budget=10.0**12, budget_duration="1mo"),
        user("bob", teams=[ART]),
        team(ART, "art"),
        team(LAB, "lab"),
        key("a", key_alias="app", user_id="bob", team_id=LAB, budget_id="small"),
        {"budget_id": "small", "max_budget": 2, "budget_duration": "30d", "rpm_limit": 3},
    ]

    done = imported(cli, "litellm", *write(cli, dump=rows), "--rate", "7", "--keys", "new.csv")

    ann = cli.json("users", "show", "ann")["limits"]
    assert (ann["requests_per_minute"], ann["budget_per_month"]) == (120, None)
    assert done["not_carried"]["Budgets beyond what Koi counts: unlimited here"] == ["user ann"]
    assert done["not_carried"]["Keys of another team than their user's: here that one counts"] == [
        "key app of bob"
    ]
    (app,) = cli.json("keys", "list")
    assert app["limits"]["budget_per_month"]["value"] == "14.00"
    assert app["limits"]["requests_per_minute"] == 3


def new_api_rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows as `/api/user/` and `/api/token/` answer them."""
    who = {"password": "", "role": 1, "status": 1, "email": "", "used_quota": 0, "DeletedAt": None}
    users = [
        {**who, "id": 1, "username": "root", "display_name": "Root", "role": 100,
         "quota": 100000000, "group": "default"},
        {**who, "id": 2, "username": "王伟", "display_name": "王伟", "quota": 2500000,
         "group": "vip"},
        {**who, "id": 3, "username": "bob", "display_name": "Bob", "status": 2, "quota": -20,
         "group": "default"},
        {**who, "id": 4, "username": "gone", "display_name": "", "quota": 5, "group": "default",
         "DeletedAt": "2026-02-03T04:05:06+08:00"},
    ]  # fmt: skip
    how = {"key": "abcd**********wxyz", "status": 1, "expired_time": -1, "used_quota": 0,
           "model_limits_enabled": False, "model_limits": "", "allow_ips": "", "group": "",
           "DeletedAt": None}  # fmt: skip
    tokens = [
        {**how, "id": 11, "user_id": 2, "name": "app", "remain_quota": 0, "unlimited_quota": True,
         "model_limits_enabled": True, "model_limits": "dall-e-3,gpt-4o"},
        {**how, "id": 12, "user_id": 2, "name": "app", "remain_quota": 500000,
         "unlimited_quota": False, "allow_ips": "10.0.0.1"},
        {**how, "id": 13, "user_id": 3, "name": "off", "status": 2, "remain_quota": 0,
         "unlimited_quota": True},
    ]  # fmt: skip
    return users, tokens


def paged(rows: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    page = {"page": 1, "page_size": 100, "total": len(rows), "items": rows, **fields}
    return {"success": True, "message": "", "data": page}


def write_database(path: Path) -> None:
    users, tokens = new_api_rows()
    options = [{"key": "QuotaPerUnit", "value": "500000"}]
    with sqlite3.connect(path) as database:
        for table, rows in (("users", users), ("tokens", tokens), ("options", options)):
            columns = ["deleted_at" if name == "DeletedAt" else name for name in rows[0]]
            listed = ", ".join(f'"{name}"' for name in columns)
            database.execute(f'CREATE TABLE "{table}" ({listed})')
            marks = ", ".join("?" * len(columns))
            values = [tuple(row[name] for name in rows[0]) for row in rows]
            database.executemany(f'INSERT INTO "{table}" VALUES ({marks})', values)
    database.close()


def test_new_apis_answers_and_its_database_say_the_same(cli: Cli) -> None:
    users, tokens = new_api_rows()
    files = write(cli, users=paged(users), tokens=paged(tokens))
    write_database(cli.path / "one-api.db")
    before = (cli.path / "one-api.db").read_bytes()
    words = ["--rate", "7", "--quota-per", "month", "--keys", "new.csv"]

    answers = imported(cli, "new-api", *files, *words, "--dry-run")
    database = imported(cli, "new-api", "one-api.db", *words)
    again = imported(cli, "new-api", *files, *words)

    assert database["changes"] == answers["changes"]
    assert database["not_carried"] == answers["not_carried"]
    assert (cli.path / "one-api.db").read_bytes() == before
    assert (database["keys_made"], again["keys_made"], again["changes"]) == (2, 0, [])
    wei = cli.json("users", "show", "user-2")
    assert (wei["title"], wei["team"]) == ("王伟", "vip")
    assert wei["limits"]["budget_per_month"]["value"] == "35.00"
    bob = cli.json("users", "show", "bob")
    assert bob["disabled_at"]
    assert bob["limits"]["budget_per_month"]["value"] == "0.00"
    assert [one["name"] for one in cli.json("users", "list")] == ["bob", "root", "user-2"]
    keys = {one["name"]: one for one in cli.json("keys", "list")}
    assert keys["app (11)"]["models"] == ["grok-imagine"]
    assert keys["app (12)"]["limits"]["budget_per_month"]["value"] == "7.00"
    assert database["not_carried"]["Allowed IP addresses"] == ["key app (12) of user-2"]


def test_a_balance_is_no_limit_unless_the_operator_says_so(cli: Cli) -> None:
    users, _ = new_api_rows()

    done = imported(cli, "new-api", *write(cli, users=users), "--rate", "7")

    (balances,) = (v for k, v in done["not_carried"].items() if k.startswith("Balances"))
    assert balances == ["user root ($200)", "user user-2 ($5)", "user bob ($0)"]
    assert cli.json("users", "show", "user-2")["limits"]["budget_per_month"] is None


FULL = litellm()
BROKEN = {
    "cut off": ("litellm", '{"users": [\n  {"user_id": "ann",\n', "line 3, column 1"),
    "another thing": ("litellm", {"models": []}, "broken.json has no list of users"),
    "no object": ("litellm", ["ann"], "broken.json[0] must be an object"),
    "hashes": ("litellm", {"keys": [HASHES["a"]]}, "return_full_object=true"),
    "one page": ("litellm", {**FULL["users"], "total": 60}, "Only 3 of 60 users"),
    "a text": ("litellm", [user("ann"), user("bob", rpm_limit="30")],
               "broken.json[1]: rpm_limit must be a number"),
    "below": ("litellm", [user("ann", max_budget=-1.0)], "max_budget must be a number, 0 or more"),
    "time": ("litellm", [key("a", user_id="ann", expires="soon")], "expires must be a time"),
    "empty": ("litellm", [], "There are no users, teams or keys"),
    "refused": ("new-api", {"success": False, "message": "no right", "data": None}, "'no right'"),
    "tokens only": ("new-api", {"data": []}, "There are no users or tokens"),
    "damaged": ("new-api", "SQLite format 3\0 and then nothing", "cannot be read as SQLite"),
}  # fmt: skip


@pytest.mark.parametrize(("origin", "document", "said"), BROKEN.values(), ids=BROKEN)
def test_a_bad_file_is_named_with_its_place_and_nothing_is_done(
    cli: Cli, origin: str, document: Any, said: str
) -> None:
    write(cli, broken=document)

    refused = cli.refused("import", origin, "broken.json", code=1)

    assert said in refused
    assert cli.json("users", "list") == []


def test_wrong_words_are_refused_before_anything_is_done(cli: Cli) -> None:
    files = write(cli, **litellm())
    (cli.path / "there.csv").touch()

    assert "absent.json" in cli.refused("import", "litellm", "absent.json", code=2)
    assert "--rate" in cli.refused("import", "litellm", *files, "--rate", "much", code=2)
    taken = cli.run("import", "litellm", *files, "--keys", "there.csv", code=2).stderr
    assert "there.csv exists already" in taken
    assert cli.json("users", "list") == []
