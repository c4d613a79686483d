"""Spend alerts through the official SDK: kept for organization and projects, told when reached."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import redis

from app.adapters.redis import keyspace
from tests.flow.command import Cli
from tests.flow.conftest import Start
from tests.flow.test_admin_sdk import draw
from tests.flow.test_raises import commands
from tests.harness import Koi

ADMIN_KEY = "sk-admin-of-the-tests"
MAIL = {"type": "email", "recipients": ["ops@example.com"], "subject_prefix": "[koi]"}
TERMS: dict[str, Any] = {"currency": "CNY", "interval": "month", "notification_channel": MAIL}


@pytest.fixture
def koi(start: Start) -> Koi:
    return start(admin_key=ADMIN_KEY, notice_interval_s=0.2)


@contextmanager
def organization(koi: Koi) -> Iterator[Any]:
    with openai.OpenAI(
        base_url=koi.v1, admin_api_key=ADMIN_KEY, api_key="none", max_retries=0
    ) as sdk:
        yield sdk.admin.organization


def notices(koi: Koi) -> list[dict[str, Any]]:
    """Those that were queued or kept, as the store has them."""
    with redis.Redis.from_url(str(koi.settings.redis_url), decode_responses=True) as client:
        keys = client.keys(f"{keyspace.key('delivery')}*")
        found = [client.hgetall(key) for key in keys]
    return [
        {"subject": one["subject"], **json.loads(one["data"])}
        for one in found
        if one.get("type") == "budget.threshold"
    ]


def wait_for_notices(koi: Koi, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 15
    while len(found := notices(koi)) < count:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_alerts_are_listed_created_read_changed_and_deleted(koi: Koi) -> None:
    with organization(koi) as org:
        project = org.projects.create(name="art")
        for alerts, at, noun in (
            (org.spend_alerts, {}, "organization"),
            (org.projects.spend_alerts, {"project_id": project.id}, "project"),
        ):
            first = alerts.create(threshold_amount=5000, **TERMS, **at)
            second = alerts.create(threshold_amount=9000, **TERMS, **at)
            changed = alerts.update(first.id, threshold_amount=100, **TERMS, **at)
            read = alerts.retrieve(first.id, **at)
            page = alerts.list(*at.values(), limit=1, order="desc")
            every = [one.id for one in alerts.list(*at.values(), limit=1)]
            gone = alerts.delete(first.id, **at)
            left = [one.id for one in alerts.list(*at.values())]

            assert first.object == f"{noun}.spend_alert"
            assert (first.threshold_amount, first.interval, first.currency) == (
                5000,
                "month",
                "CNY",
            )
            assert first.notification_channel.recipients == ["ops@example.com"]
            assert first.notification_channel.subject_prefix == "[koi]"
            assert (changed.id, changed.threshold_amount) == (first.id, 100)
            assert read.threshold_amount == 100
            assert [one.id for one in page.data] == [second.id]
            assert every == [first.id, second.id]
            assert (gone.id, gone.deleted, gone.object) == (
                first.id, True, f"{noun}.spend_alert.deleted",
            )  # fmt: skip
            assert left == [second.id]


def test_a_threshold_that_is_crossed_is_told_once(koi: Koi) -> None:
    with organization(koi) as org:
        org.projects.create(name="art")
        account = org.projects.service_accounts.create("art", name="bot")
        low = org.projects.spend_alerts.create("art", threshold_amount=14, **TERMS)
        org.projects.spend_alerts.create("art", threshold_amount=5000, **TERMS)
        house = org.spend_alerts.create(threshold_amount=20, **TERMS)
        draw(koi, account.api_key.value)
        (first,) = wait_for_notices(koi, 1)
        draw(koi, account.api_key.value, prompt="another")
        both = wait_for_notices(koi, 2)
        after = notices(koi)

    assert (first["subject"], first["alert_id"], first["percent"]) == ("team:art", low.id, 100)
    assert (first["used"], first["limit"]) == ("0.14", "0.14")
    assert first["recipients"] == "ops@example.com"
    assert {one["alert_id"] for one in both} == {low.id, house.id}
    assert len(after) == 2


def test_alerts_survive_the_loss_of_the_store(koi: Koi, tmp_path: Path) -> None:
    with organization(koi) as org:
        kept = org.spend_alerts.create(threshold_amount=5000, **TERMS)
    with redis.Redis.from_url(str(koi.settings.redis_url)) as client:
        client.flushall()
    cli = Cli(
        tmp_path,
        {
            "KOI_REDIS_URL": str(koi.settings.redis_url),
            "KOI_DATA_DIR": str(koi.settings.data_dir),
        },
    )
    time.sleep(1)
    cli.run("ledger", "rebuild")
    (found,) = koi.operate(lambda operator: _alerts(operator))
    stops = koi.operate(lambda operator: operator.keys.stops())

    assert (found.id, found.threshold_micros, found.scope) == (kept.id, 50_000_000, "house")
    assert found.recipients == ("ops@example.com",)
    assert stops == []


async def _alerts(operator: Any) -> Any:
    from app.adapters.redis.spend_alerts import RedisSpendAlerts

    return await RedisSpendAlerts(operator.scripts, operator.keyring).alerts()


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"currency": "XXX"}, "currency"),
        ({"interval": "day"}, "interval"),
        ({"threshold_amount": -1}, "threshold_amount"),
        ({"notification_channel": {"type": "sms", "recipients": ["a"]}}, "type"),
        ({"notification_channel": {"type": "email", "recipients": [""]}}, "recipients"),
        ({"notification_channel": {"type": "email"}}, "recipients"),
    ],
)
def test_terms_that_cannot_be_kept_are_refused_by_name(koi: Koi, change: dict, param: str) -> None:
    body = {"threshold_amount": 5, **TERMS, **change}
    with koi.client(ADMIN_KEY) as client:
        refused = client.post("/v1/organization/spend_alerts", json=body)

    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_the_commands_list_create_and_delete_what_the_api_shows(koi: Koi, tmp_path: Path) -> None:
    cli = commands(koi, tmp_path)
    cli.run("teams", "create", "art")

    made = cli.json(
        *("alerts", "create", "12.50", "--team", "art", "--recipients", "a@b.c, d@e.f"),
        *("--reason", "a new campaign"),
    )
    of_house = cli.text("alerts", "create", "300")
    with organization(koi) as org:
        (of_team,) = org.projects.spend_alerts.list("art").data
    listed = cli.text("alerts", "list")
    changed = cli.json("alerts", "set", made["id"], "--threshold", "0.5")
    assert (changed["threshold"], changed["recipients"]) == ("0.50", ["a@b.c", "d@e.f"])
    cli.run("alerts", "delete", made["id"])
    (record, *_) = [one for one in cli.json("audit", "--kind", "spend_alert") if one["reason"]]

    assert of_team.id == made["id"]
    assert of_team.threshold_amount == 1250
    assert of_team.notification_channel.recipients == ["a@b.c", "d@e.f"]
    assert "house spends 300.00 CNY in a month" in of_house
    assert made["id"] in listed
    assert "team:art" in listed
    assert [one["scope"] for one in cli.json("alerts", "list")] == ["house"]
    assert record["reason"] == "a new campaign"


def test_a_command_that_asks_for_no_alert_is_refused(koi: Koi, tmp_path: Path) -> None:
    cli = commands(koi, tmp_path)

    assert "write for example 100.00" in cli.refused("alerts", "create", "much", code=2)
    assert "two decimals" in cli.refused("alerts", "create", "1.001", code=2)
    assert "--recipients" in cli.refused("alerts", "create", "1", "--recipients", "a" * 255, code=2)
    assert "no team 'art'" in cli.refused("alerts", "create", "1", "--team", "art", code=1)
    assert "no spend alert" in cli.refused("alerts", "delete", "alert_none", code=1)
