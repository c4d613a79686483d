"""Every change that an operator makes is in the audit log: who, what, old and new, why."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.adapters.embedded.store import EmbeddedStore
from app.adapters.redis import keyspace
from app.api.organization.audit_logs import EVENTS
from app.domain.administration import AUDIT_KINDS
from app.sandbox.server import Sandbox
from tests.flow.command import Cli
from tests.harness import PRICED, gateway

WHY = ("--reason", "as agreed")


@dataclass(frozen=True)
class Change:
    """A command, and the record that it leaves behind."""

    words: str
    kind: str
    target: str
    changes: dict[str, list[Any]]
    user: str | None = None
    team: str | None = None


MODEL = "grok-imagine"
TABLE = [
    Change("teams create art --images-per-day 9", "team.created", "team:art",
           {"images_per_day": [None, 9]}, team="art"),
    Change("teams set art --images-per-day 5 --budget-per-month 900", "team.updated", "team:art",
           {"images_per_day": [9, 5], "micros_per_month": [None, 900_000_000]}, team="art"),
    Change(f"teams models art --allow {MODEL}", "team.updated", "team:art",
           {"models": [None, [MODEL]]}, team="art"),
    Change("teams disable art", "team.disabled", "team:art", {"disabled_ms": [None, ...]},
           team="art"),
    Change("teams enable art", "team.enabled", "team:art", {"disabled_ms": [..., None]},
           team="art"),
    Change("teams archive art", "team.archived", "team:art",
           {"archived_ms": [None, ...], "disabled_ms": [None, ...]}, team="art"),
    Change("teams restore art", "team.restored", "team:art",
           {"archived_ms": [..., None], "disabled_ms": [..., None]}, team="art"),
    Change("users create ann --team art --images-per-day 7", "user.created", "user:ann",
           {"team": [None, "art"], "images_per_day": [None, 7], "requests_per_minute": [None, 120]},
           "ann", "art"),
    Change("users set ann --images-per-day unlimited --cache off", "user.updated", "user:ann",
           {"images_per_day": [7, None], "cache": [None, "off"]}, "ann", "art"),
    Change("users disable ann", "user.disabled", "user:ann", {"disabled_ms": [None, ...]},
           "ann", "art"),
    Change("users enable ann", "user.enabled", "user:ann", {"disabled_ms": [..., None]},
           "ann", "art"),
    Change("keys create --user ann --name laptop", "key.created", "key:KEY",
           {"name": [None, "laptop"], "user": [None, "ann"]}, "ann", "art"),
    Change("keys set KEY --name desk --images-per-day 3", "key.updated", "key:KEY",
           {"name": ["laptop", "desk"], "images_per_day": [None, 3]}, "ann", "art"),
    Change("keys rotate KEY --overlap 1h", "key.rotated", "key:KEY",
           {"expires_ms": [None, ...]}, "ann", "art"),
    Change("keys revoke KEY", "key.revoked", "key:KEY", {"revoked_ms": [None, ...]}, "ann", "art"),
    Change("stop-spending", "spending.stopped", "house",
           {"reason": [None, "as agreed."], "stopped": [None, True]}),
    Change("resume", "spending.resumed", "house", {"stopped": [True, None]}),
    Change("stop-spending --user ann", "spending.stopped", "user:ann",
           {"reason": [None, "as agreed."], "stopped": [None, True]}, "ann"),
    Change("resume --user ann", "spending.resumed", "user:ann", {"stopped": [True, None]}, "ann"),
    Change("admin-keys create ci --scopes read,money", "admin_key.created", "admin_key:ADMIN",
           {"name": [None, "ci"], "scopes": [None, ["money", "read"]]}),
    Change("admin-keys revoke ADMIN", "admin_key.revoked", "admin_key:ADMIN",
           {"revoked_ms": [None, ...]}),
    Change("users delete ann", "user.deleted", "user:ann", {"deleted_ms": [None, ...]},
           "ann", "art"),
    Change("teams delete art", "team.deleted", "team:art", {"deleted_ms": [None, ...]},
           team="art"),
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path_factory.mktemp("audit")) as store:
        yield store


@pytest.fixture(scope="module")
def cli(store: EmbeddedStore, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    path = tmp_path_factory.mktemp("audited")
    return Cli(path, {"KOI_REDIS_URL": store.url, "KOI_CATALOG": str(PRICED)})


@pytest.fixture(scope="module")
def changed(cli: Cli) -> dict[str, str]:
    """Run the whole table in order; what KEY and ADMIN came to stand for."""
    names: dict[str, str] = {}
    for change in TABLE:
        words = [names.get(word, word) for word in change.words.split()]
        answer = cli.json(*words, *WHY)
        for name, prefix in (("KEY", "key_"), ("ADMIN", "admkey_")):
            if isinstance(answer, dict) and str(answer.get("key_id")).startswith(prefix):
                names.setdefault(name, answer["key_id"])
    return names


def log(cli: Cli) -> list[dict[str, Any]]:
    return cli.json("audit", "--limit", "1000")  # type: ignore[no-any-return]


def matches(found: Any, wanted: Any) -> bool:
    """`...` stands for any time."""
    return isinstance(found, int) if wanted is ... else bool(found == wanted)


@pytest.mark.parametrize("change", TABLE, ids=lambda change: change.words)
def test_a_command_leaves_its_record(cli: Cli, changed: dict[str, str], change: Change) -> None:
    target = change.target.replace("KEY", changed["KEY"]).replace("ADMIN", changed["ADMIN"])
    [record] = [
        one
        for one in log(cli)
        if (one["kind"], one["target"]) == (change.kind, target)
        and one["changes"].keys() == change.changes.keys()
    ]

    assert re.fullmatch(r"cli:\S+@\S+", record["actor"])
    assert record["reason"] == "as agreed"
    assert (record["user"], record["team"]) == (change.user, change.team)
    for name, pair in change.changes.items():
        assert all(map(matches, record["changes"][name], pair)), (name, record)


def test_the_log_holds_nothing_else_and_no_secret(
    cli: Cli, store: EmbeddedStore, changed: dict[str, str]
) -> None:
    # A rotation also creates a key, which is revoked when its user is deleted.
    assert len(log(cli)) == len(TABLE) + 2
    with redis.Redis.from_url(store.url, decode_responses=True) as client:
        stored = json.dumps(client.xrange(keyspace.key("audit")))
    assert "digest" not in stored
    assert not re.search(r"sk-koi|[0-9a-f]{64}", stored)


@pytest.mark.parametrize(("option", "value", "field", "prefixes"), [
    ("--user", "ann", "user", ("ann",)),
    ("--team", "art", "team", ("art",)),
    ("--kind", "key", "kind", ("key.",)),
    ("--kind", "team.archived,team.restored", "kind", ("team.archived", "team.restored")),
    ("--actor", "root", "kind", ()),
    ("--since", "1h", "kind", ("",)),
    ("--since", "2999-01-01", "kind", ()),
    ("--until", "2001-01-01", "kind", ()),
])  # fmt: skip
@pytest.mark.usefixtures("changed")
def test_the_log_is_filtered(
    cli: Cli, option: str, value: str, field: str, prefixes: tuple[str, ...]
) -> None:
    found = cli.json("audit", "--limit", "1000", option, value)

    assert found == [one for one in log(cli) if (one[field] or "-").startswith(prefixes)]


def test_the_log_is_paged_the_newest_first(cli: Cli) -> None:
    pages, after = [], []
    while page := cli.json("audit", "--limit", "10", *after):
        pages += page
        after = ["--after", page[-1]["id"]]

    assert pages == log(cli)
    assert [one["id"] for one in pages] == sorted((one["id"] for one in pages), reverse=True)
    said = cli.run("audit", "--limit", "10")
    assert f"koi audit --after {pages[9]['id']}" in said.stderr
    assert "budget_per_month none -> 900" in cli.text("audit", "--limit", "1000")


@pytest.mark.parametrize(
    ("kind", "known"),
    [("bogus", "knows team, user,"), ("user,team.bogus", "team.archived"), ("job.", "job.canc")],
)
def test_a_kind_that_no_change_has_is_refused_with_the_known_ones(
    cli: Cli, kind: str, known: str
) -> None:
    assert known in cli.refused("audit", "--kind", kind, code=2)


def test_every_kind_of_the_administration_api_can_be_asked_for() -> None:
    kinds = {f"{noun}.{verb}" for noun, verbs in AUDIT_KINDS.items() for verb in verbs}

    assert set(EVENTS) <= kinds


def test_a_command_that_changes_nothing_leaves_no_record(cli: Cli) -> None:
    cli.run("teams", "create", "still", "--images-per-day", "9")
    before = log(cli)

    cli.run("teams", "set", "still", "--images-per-day", "9")
    cli.run("teams", "enable", "still")

    assert log(cli) == before


def test_a_correction_of_the_ledger_is_audited(cli: Cli, changed: dict[str, str]) -> None:
    cli.run("users", "create", "zoe")
    words = ("--user", "zoe", "--model", MODEL, "--images", "2", "--note", "a refund, late")
    entry = cli.json("ledger", "adjust", *words)

    (newest, *_) = log(cli)

    assert entry["images"] == 2
    assert (newest["kind"], newest["user"], newest["reason"]) == (
        "ledger.adjusted", "zoe", "a refund, late",
    )  # fmt: skip
    assert newest["changes"] == {"images": [None, 2], "micros": [None, 280_000]}


def test_a_rebuild_restores_the_log(
    cli: Cli, store: EmbeddedStore, changed: dict[str, str]
) -> None:
    before, entries = log(cli), cli.text("ledger", "export")
    with redis.Redis.from_url(store.url) as client:
        client.flushall()

    cli.run("ledger", "rebuild")

    assert cli.text("ledger", "export") == entries
    assert cli.json("ledger", "check")["difference"] == 0

    assert log(cli) == before
    cli.run("teams", "create", "later", *WHY)
    assert log(cli)[1:] == before


def test_a_rebuild_restores_what_the_api_changed(
    sandbox: Sandbox, store_url: str, tmp_path: Path
) -> None:
    data_dir, root = tmp_path / "koi", "admin-1b2c3d4e5f6a7b8c"
    with gateway(sandbox, store_url, data_dir, admin_key=root) as koi:
        headers = {"authorization": f"Bearer {root}", "x-koi-reason": "because"}
        with httpx.Client(base_url=f"{koi.v1}/organization/", headers=headers) as client:
            client.post("projects", json={"name": "art"})
            bot = client.post("projects/art/service_accounts", json={"name": "bot"}).json()
            client.delete(f"projects/art/api_keys/{bot['api_key']['id']}")
    cli = Cli(tmp_path, {"KOI_REDIS_URL": store_url, "KOI_DATA_DIR": str(data_dir),
                         "KOI_CATALOG": str(PRICED)})  # fmt: skip
    before = log(cli)
    with redis.Redis.from_url(store_url) as emptied:
        emptied.flushall()

    cli.run("ledger", "rebuild")

    assert log(cli) == before
    assert [(one["kind"], one["actor"], one["reason"]) for one in before] == [
        (kind, "admin_key:root", "because")
        for kind in ("key.revoked", "key.created", "service_account.created", "team.created")
    ]
