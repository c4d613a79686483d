"""The store forgets: nobody spends, nothing that was paid is lost, one command rebuilds it."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis

from app.adapters.redis import keyspace
from app.sandbox.server import Sandbox
from tests.flow.command import Cli, cli_on, served_by
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway
from tests.store_node import until

SUSPECT = keyspace.key("suspect")


@pytest.fixture
def koi(sandbox: Sandbox, store_url: str, tmp_path: Path) -> Iterator[Koi]:
    """A gateway whose store may be emptied; the ledger must equal the bill all the same."""
    with gateway(sandbox, store_url, tmp_path / "koi", task_deadline_s=120) as koi:
        yield koi
        koi.assert_ledger_matches_bill()


@pytest.fixture
def cli(koi: Koi, store_url: str, tmp_path: Path) -> Cli:
    """The operator of that gateway, on its machine."""
    return cli_on(tmp_path, store_url, **served_by(koi.sandbox.url))


def forget_everything(store_url: str) -> None:
    with redis.Redis.from_url(store_url) as store:
        store.flushall()


def wait_for(client: httpx.Client, word: str) -> None:
    deadline = time.monotonic() + 10
    while client.get("/readyz").json()["ledger"] != word:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_emptied_store_refuses_spend_until_it_is_rebuilt_and_then_answers_repeats(
    koi: Koi, cli: Cli, store_url: str
) -> None:
    """Invariants I12 and I14."""
    keyed = {"idempotency-key": "order-1"}
    with koi.client() as client:
        bought = client.post(GENERATE, json=KOI, headers=keyed)
        forget_everything(store_url)
        wait_for(client, "lost_data")

        refused = client.post(GENERATE, json={**KOI, "prompt": "another"})
        livez = client.get("/livez")
        told = cli.run("ledger", "rebuild")
        wait_for(client, "ok")
        again = client.post(GENERATE, json=KOI, headers=keyed)
        fresh = client.post(GENERATE, json={**KOI, "prompt": "another"})
        task = client.get(f"/v1/tasks/{bought.headers['x-koi-task-id']}")

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert livez.status_code == 200
    assert "Nothing is missing" in told.stdout
    assert again.json() == bought.json()
    assert task.json()["status"] == "completed"
    assert fresh.status_code == 200
    assert koi.sandbox.posts == 2


def test_a_store_that_was_closed_on_purpose_is_not_called_lost(
    sandbox: Sandbox, store_url: str, tmp_path: Path
) -> None:
    options = {"admin_key": "admin-0123456789", "notice_interval_s": 0.05}
    with (
        gateway(sandbox, store_url, tmp_path / "koi", **options) as koi,
        koi.client("admin-0123456789") as client,
        redis.Redis.from_url(store_url) as store,
    ):
        koi.key()
        for reason, words in {
            "moved redis://elsewhere.test": ("moved", "KOI_REDIS_URL"),
            "restoring 1 2": ("restoring", "koi restore"),
            "upgrading": ("upgrading", "koi store upgrade"),
        }.items():
            store.set(SUSPECT, reason)
            wait_for(client, words[0])
            check = wait_for_store(client, words[1])
            assert "lost" not in check["sentence"]
        notices = koi.operate(lambda operator: operator.deliveries.list_house_notices(10))
        told = cli_on(tmp_path, store_url, **served_by(sandbox.url)).refused(
            "ledger", "rebuild", code=1
        )
        store.delete(SUSPECT)

    assert [one.kind for one in notices] == []
    assert "koi store upgrade" in told


def wait_for_store(client: httpx.Client, words: str) -> dict[str, str]:
    """The check of the store, once it says this is to be done."""
    deadline = time.monotonic() + 20
    while True:
        checks = client.get("/v1/koi/health").json()["checks"]
        found: dict[str, str] = next(check for check in checks if check["name"] == "store")
        if words in (found["mend"] or ""):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_a_picture_under_way_when_the_store_is_emptied_is_delivered_and_metered_after_the_rebuild(
    koi: Koi, cli: Cli, store_url: str
) -> None:
    koi.sandbox.set(latency_s=60)
    with koi.client() as client:
        task = client.post(GENERATE, json={**KOI, "async": True}).json()
        until(lambda: koi.sandbox.polls > 0, "it is under way")
        forget_everything(store_url)
        wait_for(client, "lost_data")
        cli.run("ledger", "rebuild")
        wait_for(client, "ok")
        koi.sandbox.advance(60)
        done = client.get(f"/v1/tasks/{task['id']}", params={"wait": 20}).json()

    assert done["status"] == "completed"
    assert [entry.images for entry in koi.entries()] == [1]


def test_operators_do_not_write_into_a_store_that_forgot(
    koi: Koi, cli: Cli, store_url: str
) -> None:
    koi.key()
    forget_everything(store_url)

    refused = cli.run("keys", "create", "--user", "bob", "--new", code=1)
    doctor = cli.run("doctor", code=1)

    assert "koi ledger rebuild" in refused.stderr
    assert "koi ledger rebuild" in doctor.stdout
    cli.run("ledger", "rebuild")


def test_no_command_shows_an_emptied_ledger_as_a_healthy_one(
    koi: Koi, cli: Cli, store_url: str
) -> None:
    with koi.client() as client:
        client.post(GENERATE, json=KOI)
        forget_everything(store_url)

        for command in (("ledger", "check"), ("usage",), ("ledger", "export"), ("tasks", "list")):
            assert "koi ledger rebuild" in cli.run(*command, code=1).stderr
        cli.run("ledger", "rebuild")
        wait_for(client, "ok")
    assert cli.json("usage")["total"]["images"] == 1


def test_what_an_operator_changed_on_another_machine_is_rebuilt_from_the_gateways_journal(
    koi: Koi, cli: Cli, store_url: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    away = Cli(elsewhere, {"KOI_REDIS_URL": store_url})
    deadline = time.monotonic() + 15
    while not list((tmp_path / "koi/journal").glob("*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    away.run("users", "create", "cleo", "--images-per-day", "7")
    key = away.json("keys", "create", "--user", "cleo")["key"]
    assert list(elsewhere.iterdir()) == []

    forget_everything(store_url)
    with koi.client(key) as client:
        wait_for(client, "lost_data")
        told = cli.run("ledger", "rebuild")
        wait_for(client, "ok")
        answer = client.post(GENERATE, json=KOI)

    assert "Nothing is missing" in told.stdout
    assert answer.status_code == 200
    assert away.json("users", "show", "cleo")["limits"]["images_per_day"] == 7


def test_an_operators_own_journal_that_is_not_given_is_missed(
    store_url: str, tmp_path: Path
) -> None:
    """No gateway was at work to write it down, so the command did, where it ran."""
    clis = {}
    for name in ("here", "away"):
        (tmp_path / name).mkdir()
        clis[name] = Cli(tmp_path / name, {"KOI_REDIS_URL": store_url})
    here = clis["here"]
    here.run("users", "create", "dora")
    # As if the first command had been some time ago.
    with redis.Redis.from_url(store_url) as store:
        store.delete("koi:1:{ledger}:journals")
    clis["away"].run("users", "create", "cleo")
    here.run("users", "create", "emil")
    journals = [tmp_path / name / ".koi/journal" for name in clis]
    assert all((journal / "id").exists() for journal in journals)
    forget_everything(store_url)

    missing = here.run("ledger", "rebuild", code=1)
    forget_everything(store_url)
    told = here.run("ledger", "rebuild", *(f"--journal={journal}" for journal in journals))

    assert "are in no journal here" in missing.stdout
    assert "Nothing is missing" in told.stdout
    assert {user["name"] for user in here.json("users", "list")} == {"cleo", "dora", "emil"}


def test_a_rebuild_says_when_there_is_nothing_to_do(koi: Koi, cli: Cli) -> None:
    koi.key()

    assert "nothing to rebuild" in cli.run("ledger", "rebuild", code=1).stderr
    assert "not a directory" in cli.run("ledger", "rebuild", "--journal", "no", code=2).stderr
