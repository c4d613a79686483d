"""`koi users`, `koi teams` and `koi keys` when no gateway runs."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.adapters.embedded.store import EmbeddedStore
from tests.flow.command import ROOT, Cli

UNLIMITED = {
    "images_per_day": None,
    "images_per_month": None,
    "budget_per_day": None,
    "budget_per_month": None,
    "requests_per_minute": None,
    "concurrency": None,
    "images_per_minute": None,
    "requests_per_day": None,
}
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """Kept running so that each command only has to attach."""
    with EmbeddedStore(tmp_path_factory.mktemp("people")) as store:
        yield store


@pytest.fixture
def cli(store: EmbeddedStore, tmp_path: Path) -> Cli:
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
    return Cli(
        tmp_path,
        {
            "KOI_REDIS_URL": store.url,
            "KOI_CATALOG": str(ROOT / "tests/catalog.toml"),
            "KOI_DEFAULT_IMAGES_PER_DAY": "40",
        },
    )


def test_a_user_gets_the_default_limits_and_those_given(cli: Cli) -> None:
    cli.run("teams", "create", "art", "--images-per-month", "900")

    user = cli.json(
        "users", "create", "alice", "--team", "art", "--budget-per-day", "12.50", "--cache", "off"
    )

    assert RFC_3339.fullmatch(user.pop("created_at"))
    assert user.pop("disabled_at") is None
    assert user == {
        "name": "alice",
        "team": "art",
        "cache": "off",
        "response_format": None,
        "limits": {
            **UNLIMITED,
            "images_per_day": 40,
            "requests_per_minute": 120,
            "budget_per_day": {"value": "12.50", "currency": "CNY"},
        },
    }


def test_set_changes_what_is_named_and_clears_with_unlimited_or_none(cli: Cli) -> None:
    cli.run("teams", "create", "art")
    cli.run("users", "create", "alice", "--team", "art", "--cache", "off")

    cli.run(
        *("users", "set", "alice", "--images-per-day", "unlimited"),
        *("--requests-per-minute", "30"),
    )
    changed = cli.json("users", "set", "alice", "--team", "none", "--cache", "default")

    assert changed["limits"] == {**UNLIMITED, "requests_per_minute": 30}
    assert (changed["team"], changed["cache"]) == (None, None)


def test_a_user_is_listed_and_shown_with_what_is_left_and_its_keys(cli: Cli) -> None:
    key = cli.json("keys", "create", "--user", "bob", "--new")
    cli.run("users", "create", "alice")

    shown = cli.json("users", "show", "bob")

    assert [user["name"] for user in cli.json("users", "list")] == ["alice", "bob"]
    assert cli.text("users", "list").splitlines()[1].split()[:3] == ["alice", "-", "active"]
    assert [found["key_id"] for found in shown["keys"]] == [key["key_id"]]
    day = next(a for a in shown["standing"] if (a["meter"], a["window"]) == ("images", "day"))
    assert (day["scope"], day["limit"], day["used"], day["remaining"]) == ("user", 40, 0, 40)
    assert day["reset_s"] > 0


def test_a_team_is_created_changed_listed_and_shown_with_its_users(cli: Cli) -> None:
    created = cli.json("teams", "create", "art", "--budget-per-month", "900")
    cli.run("users", "create", "alice", "--team", "art")
    cli.run("teams", "set", "art", "--budget-per-month", "none", "--images-per-day", "7")

    shown = cli.json("teams", "show", "art")

    assert created["limits"]["budget_per_month"] == {"value": "900.00", "currency": "CNY"}
    assert shown["users"] == ["alice"]
    assert {allowance["scope"] for allowance in shown["standing"]} == {"team", "house"}
    assert shown["limits"] == {**UNLIMITED, "images_per_day": 7}
    table = cli.text("teams", "list").splitlines()
    assert [line.split()[:3] for line in table] == [
        ["TEAM", "STATUS", "IMAGES/DAY"],
        ["art", "active", "7"],
    ]


def test_a_new_key_is_all_there_is_on_standard_output(cli: Cli) -> None:
    done = cli.run("keys", "create", "--user", "new-one", "--new", "--expires", "90d")

    assert re.fullmatch(r"sk-koi-\S+\n", done.stdout)
    assert "not shown again" in done.stderr
    assert cli.json("users", "show", "new-one")["limits"]["images_per_day"] == 40


def test_a_key_is_told_in_json_and_listed_without_its_secret(cli: Cli) -> None:
    made = cli.json(
        *("keys", "create", "--user", "alice", "--new", "--name", "lap", "--models", "dall-e-3"),
        *("--images-per-day", "3", "--expires", "12h"),
    )

    listed = cli.json("keys", "list", "--user", "alice")
    table = cli.text("keys", "list")

    assert {"key", "key_id", "user"} <= made.keys()
    assert made["models"] == ["grok-imagine"]
    assert made["limits"]["images_per_day"] == 3
    assert listed == [{name: value for name, value in made.items() if name != "key"}]
    assert made["key_id"] in table
    assert made["key"] not in table


def test_set_says_what_became_of_what(cli: Cli) -> None:
    cli.run("teams", "create", "art")
    key = cli.json("keys", "create", "--user", "bob", "--new")["key_id"]

    user = cli.text("users", "set", "bob", "--images-per-day", "5", "--team", "art")
    again = cli.text("users", "set", "bob", "--images-per-day", "5")
    team = cli.text("teams", "set", "art", "--budget-per-month", "9.5")
    changed = cli.text("keys", "set", key, "--models", "grok-imagine", "--name", "lap")

    assert user == "Changed user bob: team none -> art, images/day 40 -> 5.\n"
    assert again == "Changed user bob: nothing, it was set so before.\n"
    assert team == "Changed team art: budget/month unlimited -> 9.50.\n"
    assert changed.endswith("user bob: name none -> lap, models all -> grok-imagine.\n")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("users set bob", "--images-per-day 50"),
        ("users set bob --reason why", "--team NAME"),
        ("teams set art", "--budget-per-month 900"),
        ("keys set key_0", "--expires 90d"),
        ("alerts set alert_0", "--threshold 250.00"),
    ],
)
def test_set_without_anything_to_set_is_a_misunderstanding(
    cli: Cli, words: str, option: str
) -> None:
    said = cli.refused(*words.split(), code=2)

    assert said.startswith("koi: Say what to change, for example ")
    assert option in said
    assert f"`koi {' '.join(words.split()[:2])} --help` lists all options" in said


def test_limits_above_that_are_reached_first_are_named(cli: Cli) -> None:
    cli.run("teams", "create", "art", "--concurrency", "2")
    alone = cli.run("users", "create", "bob", "--images-per-day", "3").stderr
    member = cli.run("users", "set", "bob", "--team", "art", "--concurrency", "4").stderr
    wide = cli.run("keys", "create", "--user", "bob", "--images-per-day", "20")
    cli.settings["KOI_HOUSE_REQUESTS_PER_DAY"] = "5"
    key = ("keys", "create", "--user", "bob", "--images-per-day", "3", "--requests-per-day", "9")
    narrow = cli.run(*key, "--json")
    set_ = ("keys", "set", json.loads(narrow.stdout)["key_id"], "--images-per-day")

    first = "Lower than the {}'s own, so reached first: {}.\n"
    assert "reached first" not in alone
    assert first.format("user", "parallel 2 of team art") in member
    assert wide.stderr.endswith(first.format("key", "images/day 3 of user bob"))
    assert wide.stdout.startswith("sk-koi-")
    assert wide.stdout.count("\n") == 1
    assert narrow.stderr.endswith(first.format("key", "req/day 5 of the house"))
    above = "images/day 3 of user bob; req/day 5 of the house"
    assert cli.run(*set_, "4").stderr.endswith(first.format("key", above))
    cli.run("users", "raise", "bob", "--images-per-day", "10", "--until", "2h", "--reason", "more")
    assert "of user bob" not in cli.run(*set_, "5").stderr


def test_how_pictures_come_is_set_for_a_user_and_for_a_key_and_rotated_along(cli: Cli) -> None:
    created = cli.json("users", "create", "alice", "--response-format", "both")
    kept = cli.json("users", "set", "alice", "--concurrency", "2")
    key = cli.json("keys", "create", "--user", "alice", "--response-format", "b64_json")
    rotated = cli.json("keys", "rotate", key["key_id"])
    shown = cli.text("users", "show", "alice")
    cleared = cli.json("users", "set", "alice", "--response-format", "default")
    changed = cli.json("keys", "set", key["key_id"], "--response-format", "url")
    renamed = cli.json("keys", "set", key["key_id"], "--name", "lap")
    as_the_user = cli.json("keys", "set", key["key_id"], "--response-format", "default")

    assert created["response_format"] == kept["response_format"] == "both"
    assert key["response_format"] == rotated["response_format"] == "b64_json"
    assert re.search(r"response format +both", shown)
    assert cleared["response_format"] is as_the_user["response_format"] is None
    assert changed["response_format"] == renamed["response_format"] == "url"


def test_a_key_is_rotated_with_overlap_and_revoked_for_good(cli: Cli) -> None:
    old = cli.json("keys", "create", "--user", "alice", "--new")

    new = cli.json("keys", "rotate", old["key_id"], "--overlap", "1h")
    revoked = cli.json("keys", "revoke", old["key_id"])

    assert new["key"] != old["key"]
    assert new["key_id"] != old["key_id"]
    assert (revoked["status"], revoked["user"]) == ("revoked", "alice")
    by_id = {key["key_id"]: key["status"] for key in cli.json("keys", "list")}
    assert by_id == {old["key_id"]: "revoked", new["key_id"]: "active"}


HELD_BACK = [
    (("users", "disable", "ida"), "user disabled"),
    (("teams", "disable", "held"), "team disabled"),
]


@pytest.mark.parametrize(("words", "status"), HELD_BACK)
def test_a_key_whose_user_or_team_is_disabled_is_not_listed_as_active(
    cli: Cli, words: tuple[str, ...], status: str
) -> None:
    cli.run("teams", "create", "held")
    cli.run("users", "create", "ida", "--team", "held")
    cli.run("keys", "create", "--user", "ida")
    assert [key["status"] for key in cli.json("keys", "list", "--user", "ida")] == ["active"]

    cli.run(*words)

    assert [key["status"] for key in cli.json("keys", "list", "--user", "ida")] == [status]
    assert status in cli.text("keys", "list")
    cli.run(words[0], "enable", words[2])
    cli.run("users", "delete", "ida")
    cli.run("teams", "delete", "held")


@pytest.mark.parametrize(("expires", "overlap"), [("1h", "24h"), ("90d", "2h")])
def test_a_rotation_says_when_the_old_key_really_ends(cli: Cli, expires: str, overlap: str) -> None:
    old = cli.json("keys", "create", "--user", "alice", "--new", "--expires", expires)

    said = cli.run("keys", "rotate", old["key_id"], "--overlap", overlap).stderr

    [kept] = [k for k in cli.json("keys", "list") if k["key_id"] == old["key_id"]]
    assert f"The old key {old['key_id']} ends at {kept['expires_at']}." in said
    assert (kept["expires_at"] == old["expires_at"]) is (expires == "1h")


def test_a_key_of_an_unknown_user_wants_to_be_meant(cli: Cli) -> None:
    said = cli.refused("keys", "create", "--user", "alcie", code=1)

    assert "--new" in said
    assert cli.json("users", "list") == []


def test_a_key_s_limits_models_name_and_end_are_changed(cli: Cli) -> None:
    key = cli.json("keys", "create", "--user", "alice", "--new", "--images-per-day", "3")

    changed = cli.json(
        *("keys", "set", key["key_id"], "--images-per-day", "unlimited", "--concurrency", "2"),
        *("--models", "dall-e-3", "--name", "lap", "--expires", "90d"),
    )
    cleared = cli.json("keys", "set", key["key_id"], "--models", "all", "--expires", "never")

    assert changed["limits"] == {**UNLIMITED, "concurrency": 2}
    assert (changed["models"], changed["name"]) == (["grok-imagine"], "lap")
    assert RFC_3339.fullmatch(changed["expires_at"])
    assert (cleared["models"], cleared["expires_at"]) == (None, None)
    assert cleared["limits"]["concurrency"] == 2


def test_all_models_are_said_alike_for_a_new_key_and_an_old_one(cli: Cli) -> None:
    made = cli.json("keys", "create", "--user", "alice", "--new", "--models", "all")
    narrow = cli.json("keys", "set", made["key_id"], "--models", "dall-e-3")
    wide = cli.json("keys", "set", made["key_id"], "--models", "All")

    assert [key["models"] for key in (made, narrow, wide)] == [None, ["grok-imagine"], None]


@pytest.mark.parametrize("shown", [4, 8, 60])
def test_a_key_that_was_found_somewhere_is_told_by_its_end(cli: Cli, shown: int) -> None:
    made = cli.json("keys", "create", "--user", "alice", "--new")
    cli.run("keys", "create", "--user", "bob", "--new")

    [found] = cli.json("keys", "whose", "…" + made["key"][-shown:])

    assert (found["key_id"], found["user"]) == (made["key_id"], "alice")
    assert found["last_used_at"] is None
    assert cli.json("keys", "whose", "zz", code=1) == []
    assert made["key"] not in cli.text("keys", "whose", made["key"])


def test_a_key_to_be_found_is_read_from_standard_input(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cli.json("keys", "create", "--user", "alice", "--new")
    monkeypatch.setattr("sys.stdin", io.StringIO(made["key"] + "\n"))

    [found] = cli.json("keys", "whose", "-")

    assert found["key_id"] == made["key_id"]
    assert "--jsn" in cli.refused("keys", "list", "--jsn", code=2)


def test_whole_keys_are_identified_in_a_text_of_which_nothing_is_printed(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cli.json("keys", "create", "--user", "alice", "--new")
    admin = cli.json("admin-keys", "create", "board", "--scopes", "read")
    log = f"GET /v1 {made['key']} 200\nPOST /v1 {admin['key']} 200\nsk-koi-{'0' * 43}-00000000"
    monkeypatch.setattr("sys.stdin", io.StringIO(log))

    said = cli.text("keys", "identify")
    monkeypatch.setattr("sys.stdin", io.StringIO(log))
    (mine, root, stranger) = cli.json("keys", "identify", "-")
    cli.run("keys", "revoke", made["key_id"])
    monkeypatch.setattr("sys.stdin", io.StringIO("no key in here"))

    assert "of alice, alive: revoke or rotate it." in said
    assert "sk-koi-" not in said
    assert (mine["key_id"], mine["status"]) == (made["key_id"], "active")
    assert root["admin_key_id"] is not None
    assert stranger["key_id"] is None
    assert cli.run("keys", "identify", made["key"]).stdout.endswith("of alice, revoked.\n")
    assert "no key of Koi" in cli.run("keys", "identify", code=1).stdout


def test_a_deleted_user_is_gone_from_the_lists_and_the_name_is_free_again(cli: Cli) -> None:
    key = cli.json("keys", "create", "--user", "alice", "--new")

    gone = cli.json("users", "delete", "alice")

    assert gone == {"name": "alice", "deleted": True, "keys_revoked": 1}
    assert cli.json("users", "list") == []
    assert "koi users list" in cli.refused("users", "show", "alice", code=1)
    assert "--new" in cli.refused("keys", "create", "--user", "alice", code=1)
    cli.run("users", "create", "alice", "--concurrency", "3")
    assert cli.json("users", "show", "alice")["limits"]["concurrency"] == 3
    [old] = [k for k in cli.json("keys", "list") if k["key_id"] == key["key_id"]]
    assert old["status"] == "revoked"


def test_a_team_with_users_is_not_deleted(cli: Cli) -> None:
    cli.run("teams", "create", "art")
    cli.run("users", "create", "alice", "--team", "art")

    assert "--team none" in cli.refused("teams", "delete", "art", code=1)
    cli.run("users", "set", "alice", "--team", "none")
    assert cli.json("teams", "delete", "art")["deleted"] is True
    assert cli.json("teams", "list") == []


def test_without_a_gateway_the_store_is_started_for_the_command(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    cli.process("teams", "create", "art")
    cli.process("users", "create", "alice", "--team", "art")
    cli.process("users", "set", "alice", "--concurrency", "2")

    key = json.loads(cli.process("keys", "create", "--user", "alice", "--new", "--json").stdout)

    assert {"key", "key_id", "user"} <= key.keys()
    assert (tmp_path / ".koi/store").is_dir()
    assert [user["team"] for user in cli.json("users", "list")] == ["art"]


def test_a_budget_is_refused_while_prices_are_unknown(tmp_path: Path) -> None:
    cli = Cli(tmp_path)

    refusal = cli.refused("users", "create", "alice", "--budget-per-day", "5", code=1)

    assert "KOI_CATALOG" in refusal


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ("users show nobody", 1, "koi users list"),
        ("users set nobody --concurrency 1", 1, "koi users list"),
        ("users create alice --team nowhere", 1, "koi teams list"),
        ("users create bad/name", 1, "cannot be a name"),
        ("teams show nowhere", 1, "koi teams list"),
        ("keys list --user nobody", 1, "koi users list"),
        ("keys revoke key_0", 1, "koi keys list"),
        ("keys create --user a --new --models nothing-like-it", 1, "no enabled model"),
        ("users create alice --images-per-day many", 2, "--images-per-day"),
        ("users create alice --budget-per-day 1.0000001", 2, "--budget-per-day"),
        ("users create alice --budget-per-day -3", 2, "--budget-per-day"),
        ("users create alice --cache everyone", 2, "--cache must be"),
        ("users create alice --response-format png", 2, "--response-format must be"),
        ("users set nobody --response-format base64", 1, "koi users list"),
        ("keys create --user a --response-format png", 2, "--response-format must be"),
        ("keys create --user a --new --expires soon", 2, "--expires must be a duration"),
        ("keys create", 2, "--user"),
        ("users create", 2, "NAME"),
        ("users crate alice", 2, "create"),
        ("users list --colour", 2, "--colour"),
    ],
)
def test_a_refusal_is_one_sentence_and_an_exit_code(
    cli: Cli, words: str, code: int, says: str
) -> None:
    said = cli.refused(*words.split(), code=code)

    assert says in said
    assert said.count("\n") == 1


def test_a_taken_name_is_refused_and_nothing_changes(cli: Cli) -> None:
    cli.run("users", "create", "alice", "--concurrency", "2")

    said = cli.refused("users", "create", "alice", code=1)

    assert "koi users set" in said
    assert cli.json("users", "show", "alice")["limits"]["concurrency"] == 2


def test_bad_settings_stop_every_command_and_no_secret_is_told(tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"KOI_ADMIN_KEY": "tell-no1", "KOI_REDIS_URL": "tell-no2"})

    said = cli.refused("users", "list", code=2)

    assert "KOI_ADMIN_KEY" in said
    assert "KOI_REDIS_URL" in said
    assert "tell-no" not in said


def test_a_store_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    cli = Cli(tmp_path, {"KOI_REDIS_URL": "redis://127.0.0.1:9"})

    said = cli.refused("users", "list", code=1)

    assert said.count("\n") == 1


@pytest.mark.parametrize("wrong", [("--models", "nobody"), ("--budget-per-day", "5")])
def test_a_key_that_is_refused_leaves_no_user_behind(
    cli: Cli, tmp_path: Path, wrong: tuple[str, str]
) -> None:
    text = (ROOT / "tests/catalog.toml").read_text()
    unpriced = tmp_path / "unpriced.toml"
    unpriced.write_text(re.sub(r'(?m)^\S+ = "[\d.]+"$', "", text))
    cli.settings["KOI_CATALOG"] = str(unpriced)

    cli.run("keys", "create", "--user", "ann", "--new", *wrong, code=1)

    assert cli.json("users", "list") == []
