"""`koi apply`: users, teams, keys and limits are what the file says, and stay so."""

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from tests.flow.command import PRICED, ROOT, Cli
from tests.flow.conftest import Start

EXAMPLE = ROOT / "deploy" / "people.toml"
SCHEMA = json.loads((ROOT / "deploy" / "people.schema.json").read_text())


@pytest.fixture
def cli(store_url: str, tmp_path: Path) -> Cli:
    return Cli(tmp_path, {"KOI_REDIS_URL": store_url, "KOI_CATALOG": str(PRICED)})


def write(cli: Cli, text: str) -> str:
    (cli.path / "people.toml").write_text(text, encoding="utf-8")
    return "people.toml"


def apply(cli: Cli, text: str, *options: str, code: int = 0) -> Any:
    return cli.json("apply", "-f", write(cli, text), *options, code=code)


def test_the_example_is_of_the_schema_and_is_applied_once(cli: Cli) -> None:
    text = EXAMPLE.read_text()
    text = text.replace("# budget_per_month", "budget_per_month")
    jsonschema.validate(json.loads(json.dumps(tomllib.loads(text), default=str)), SCHEMA)

    dry = apply(cli, text, "--dry-run")
    missing = apply(cli, text, "--check", code=1)
    done = apply(cli, text)
    again = apply(cli, text)
    apply(cli, text, "--check")

    assert dry["changes"] == missing["changes"] == done["changes"]
    assert (dry["applied"], done["applied"]) == (False, True)
    assert [change["target"] for change in done["changes"]] == [
        "team art", "team lab", "user ann", "user poster-bot", "user bob",
        "key laptop of ann", "key production of poster-bot",
    ]  # fmt: skip
    assert [key["name"] for key in done["keys"]] == ["laptop", "production"]
    assert (again["changes"], again["keys"]) == ([], [])
    assert cli.json("teams", "show", "art")["limits"]["budget_per_month"]["value"] == "900.00"
    bob = cli.json("users", "show", "bob")
    assert bob["disabled_at"] is not None
    assert bob["limits"]["requests_per_minute"] == 120


def test_the_example_is_applied_as_it_is_shipped(store_url: str, tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"KOI_REDIS_URL": store_url})

    assert cli.json("apply", "-f", str(EXAMPLE))["applied"]
    cli.run("apply", "-f", str(EXAMPLE), "--check")


def test_a_change_by_hand_is_shown_as_drift_and_undone(cli: Cli) -> None:
    text = EXAMPLE.read_text()
    apply(cli, text)
    cli.run("users", "set", "ann", "--images-per-day", "999", "--team", "lab")
    cli.run("users", "enable", "bob")
    cli.run("teams", "models", "art", "--allow", "all")

    drift = apply(cli, text, "--check", code=1)
    said = cli.run("apply", "-f", "people.toml", "--reason", "as agreed").stdout

    assert {change["target"]: change["changes"] for change in drift["changes"]} == {
        "team art": {"models": ["none", "grok-imagine"]},
        "user ann": {"team": ["lab", "art"], "images_per_day": ["999", "50"]},
        "user bob": {"disabled": ["False", "True"]},
    }
    assert "~ user ann: team lab -> art, images_per_day 999 -> 50" in said
    apply(cli, text, "--check")
    (newest, *_) = cli.json("audit", "--user", "ann")
    assert newest["reason"] == "as agreed"
    assert newest["changes"] == {"team": ["lab", "art"], "images_per_day": [999, 50]}


def test_a_key_of_a_front_end_is_marked_and_unmarked(cli: Cli) -> None:
    front = '[users.webui]\n[[keys]]\nuser = "webui"\nname = "open-webui"\n'
    text = f"{front}forwards_users = true\n"
    jsonschema.validate(tomllib.loads(text), SCHEMA)

    apply(cli, text)
    apply(cli, text, "--check")
    (marked,) = cli.json("keys", "list", "--user", "webui")
    drift = apply(cli, front, "--check", code=1)
    apply(cli, front)
    (unmarked,) = cli.json("keys", "list", "--user", "webui")

    assert marked["forwards_users"] is True
    assert "forwards_users" in json.dumps(drift)
    assert "forwards_users" not in unmarked


def test_prune_deletes_what_the_file_does_not_name(cli: Cli) -> None:
    apply(cli, EXAMPLE.read_text())
    cli.run("teams", "create", "old")
    cli.run("users", "create", "carl", "--team", "old")
    extra = cli.json("keys", "create", "--user", "ann", "--name", "extra")

    kept = apply(cli, EXAMPLE.read_text())
    pruned = apply(cli, EXAMPLE.read_text(), "--prune")

    assert kept["changes"] == []
    assert [(change["action"], change["target"]) for change in pruned["changes"]] == [
        ("delete", "key extra of ann"), ("delete", "user carl"), ("delete", "team old"),
    ]  # fmt: skip
    assert [team["name"] for team in cli.json("teams", "list")] == ["art", "lab"]
    status = {key["key_id"]: key["status"] for key in cli.json("keys", "list")}
    assert status[extra["key_id"]] == "revoked"


def test_a_key_by_its_digest_works_and_changes_its_secret(
    start: Start, store_url: str, tmp_path: Path
) -> None:
    koi = start()
    cli = Cli(tmp_path, {"KOI_REDIS_URL": store_url, "KOI_CATALOG": str(PRICED)})

    def status(secret: str) -> int:
        headers = {"authorization": f"Bearer {secret}"}
        return httpx.get(f"{koi.v1}/models", headers=headers).status_code

    def with_digest(secret: str) -> str:
        digest = hashlib.sha256(secret.encode()).hexdigest()
        return f'[users.ann]\n[[keys]]\nuser = "ann"\nname = "app"\ndigest = "{digest}"\n'

    apply(cli, with_digest("my-own-secret-one"))
    assert status("my-own-secret-one") == 200
    changed = apply(cli, with_digest("my-own-secret-two"))

    assert [change["changes"] for change in changed["changes"]] == [
        {"digest": ["(hidden)", "(hidden)"]}
    ]
    assert status("my-own-secret-two") == 200
    assert not re.search(r"[0-9a-f]{64}", cli.text("audit", "--limit", "100"))


def test_an_archived_team_stays_so(cli: Cli) -> None:
    apply(cli, "[teams.art]\n")
    cli.run("teams", "archive", "art")

    assert apply(cli, "[teams.art]\n")["changes"] == []
    assert cli.json("teams", "show", "art")["archived_at"]


def test_that_a_team_of_the_file_is_archived_is_said_and_drift(cli: Cli) -> None:
    text = '[teams.art]\n\n[users.ann]\nteam = "art"\n'
    apply(cli, text)
    cli.run("teams", "archive", "art")

    told = cli.run("apply", "-f", write(cli, text))
    drift = apply(cli, '[users.ann]\nteam = "art"\n', "--check", code=1)
    cli.run("teams", "restore", "art")

    assert "koi teams restore art" in told.stderr
    assert drift["archived_teams"] == ["art"]
    assert apply(cli, text, "--check")["archived_teams"] == []


BAD = [
    ("colour = 1", "unknown fields: colour"),
    ("[teams.art]\ncolour = 1", "teams.art has unknown fields: colour"),
    ("teams = 1", "teams must be a dict"),
    ("[teams]\nart = 1", "teams.art must be a table"),
    ("[teams.art]\nimages_per_day = -1", "images_per_day must be a whole number"),
    ("[teams.art]\nimages_per_day = true", "images_per_day must be a whole number"),
    ("[teams.art]\nimages_per_day = 10_000_000_000_000", "from 0 to 1,000,000,000,000"),
    ("[teams.art]\nbudget_per_day = 5", "budget_per_day must be a str"),
    ('[teams.art]\nbudget_per_day = "five"', "budget_per_day takes decimal text"),
    ('[teams.art]\nmodels = ["no-such"]', "no enabled model"),
    ("[teams.art]\nmodels = [1]", "models must be a list of texts"),
    ('[teams."a b"]', "cannot be a name"),
    ('[users.ann]\nteam = "nowhere"', "wants team 'nowhere'"),
    ('[users.ann]\ncache = "x"', "cache takes off, private or shared"),
    ('[[keys]]\nuser = "ann"', "user and name are required"),
    ('[[keys]]\nuser = "ann"\nname = "x"', "wants user 'ann'"),
    ('[users.ann]\n[[keys]]\nuser = "ann"\nname = "x"\ndigest = "x"', "digest must be the SHA-256"),
    ('[users.ann]\n[[keys]]\nuser = "ann"\nname = "x"\nexpires_at = 5', "expires_at must be a day"),
    ('[users.ann]\n[[keys]]\nuser = "ann"\nname = "x"\n[[keys]]\nuser = "ann"\nname = "x"',
     "named twice"),
    ("not toml", "is no TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD, ids=[said for _, said in BAD])
def test_a_bad_file_changes_nothing_and_says_where(cli: Cli, text: str, said: str) -> None:
    whole = text if text == "not toml" or not text.startswith("[") else f"[teams.good]\n{text}"
    done = cli.run("apply", "-f", write(cli, whole), code=2 if _is_usage(said) else 1)

    assert said in done.stderr
    assert cli.json("teams", "list") == []


def _is_usage(said: str) -> bool:
    """What the file itself shows is wrong usage, what the deployment knows is a failure."""
    return not re.search(r"no enabled model|cannot be a name|wants|twice", said)


def test_a_file_that_is_not_there_is_said(cli: Cli) -> None:
    assert "cannot be read" in cli.refused("apply", "-f", "nowhere.toml", code=2)


def test_a_secret_that_was_revoked_does_not_come_back(cli: Cli) -> None:
    digest = hashlib.sha256(b"sk-from-elsewhere").hexdigest()
    text = f'[users.ann]\n\n[[keys]]\nuser = "ann"\nname = "ci"\ndigest = "{digest}"\n'
    apply(cli, text)
    [key] = cli.json("keys", "list", "--user", "ann")
    cli.run("keys", "revoke", key["key_id"])

    refused = cli.run("apply", "-f", write(cli, text), code=1)

    assert "make a new secret" in refused.stderr
    assert [one["status"] for one in cli.json("keys", "list", "--user", "ann")] == ["revoked"]


def test_a_sample_secret_is_refused(cli: Cli) -> None:
    digest = hashlib.sha256(b"test").hexdigest()
    text = f'[users.ann]\n\n[[keys]]\nuser = "ann"\nname = "ci"\ndigest = "{digest}"\n'

    refused = cli.run("apply", "-f", write(cli, text), code=2)

    assert "sample secret" in refused.stderr
