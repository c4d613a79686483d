"""Limits that are raised for a while: they count at once, say why, and end by themselves."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import openai
import pytest

from app.domain.limits import Limits
from app.service.admin_errors import RaiseInvalid
from app.service.raises import parse_until
from tests.flow.command import Cli
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.flow.test_quota import user
from tests.harness import KOI, Koi

ADMIN_KEY = "sk-admin-of-the-tests"


@pytest.fixture
def koi(start: Start) -> Koi:
    return start(admin_key=ADMIN_KEY)


def wait_for(holds: Callable[[], bool], within_s: float = 5) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def commands(koi: Koi, path: Path) -> Cli:
    """The command on the gateway's store, with the gateway's catalog."""
    here = {"KOI_REDIS_URL": str(koi.settings.redis_url), "KOI_DATA_DIR": str(path)}
    return Cli(path, {**here, "KOI_CATALOG": str(koi.settings.catalog)})


def admin(koi: Koi) -> httpx.Client:
    return koi.client(ADMIN_KEY)


def post(client: httpx.Client, prompt: str) -> int:
    return client.post(GENERATE, json={**KOI, "prompt": prompt}).status_code


def images_of_day(client: httpx.Client) -> dict[str, Any]:
    limits = client.get("/v1/usage").json()["limits"]
    return next(
        one
        for one in limits
        if (one["scope"], one["meter"], one["window"]) == ("user", "images", "day")
    )


def test_a_raise_counts_within_five_seconds_and_ends_by_itself(koi: Koi) -> None:
    with koi.client(user(koi, "ann", images_per_day=1)) as ann, admin(koi) as operator:
        before = [post(ann, f"p{i}") for i in range(2)]
        ends = time.time() + 7
        made = operator.post(
            "/v1/koi/users/ann/raise",
            json={
                "max_images_per_1_day": 2,
                "until": datetime.fromtimestamp(ends, UTC).isoformat(),
                "reason": "a deadline",
            },
        )
        wait_for(lambda: images_of_day(ann)["limit"] == 3)
        raised = images_of_day(ann)
        during = post(ann, "p3")
        asked_s = time.time()
        while images_of_day(ann)["limit"] == 3:
            assert asked_s < ends + 1.5
            time.sleep(0.05)
            asked_s = time.time()
        told_s = time.time()
        after = post(ann, "p4")
        shown = operator.get("/v1/organization/users/ann").json()

    assert (before, during, after) == ([200, 429], 200, 429)
    assert made.json()["raised"]["by"] == {"max_images_per_1_day": 2}
    assert raised["raised"]["by"] == 2
    assert (raised["used"], raised["remaining"]) == (1, 2)
    assert told_s > ends - 0.5
    assert shown["raised"] is None
    assert shown["limits"]["max_images_per_1_day"] == 1


def test_a_team_and_a_key_are_raised_and_a_raise_is_ended_by_hand(koi: Koi) -> None:
    async def found(context: Any) -> None:
        await context.keys.create_team("blue", Limits(images_per_day=1))
        await context.keys.create_user("bob", team="blue")

    koi.operate(found)
    key = koi.key("bob", limits=Limits(images_per_day=2))
    (record,) = koi.operate(lambda context: context.keys.keys("bob"))
    raise_ = {"max_images_per_1_day": 5, "until": "2h", "reason": "a fair"}
    with koi.client(key) as bob, admin(koi) as operator:
        operator.post("/v1/koi/projects/blue/raise", json=raise_)
        first = [post(bob, f"p{i}") for i in range(3)]
        operator.post(f"/v1/koi/api_keys/{record.id}/raise", json=raise_)
        wait_for(lambda: post(bob, "p4") == 200)
        ended = operator.delete("/v1/koi/projects/blue/raise")
        wait_for(lambda: post(bob, "p5") == 429)

    assert first == [200, 200, 429]
    assert ended.json() == {"object": "koi.raise", "id": "blue", "raised": None}


def test_the_audit_log_and_the_commands_show_it(koi: Koi, tmp_path: Path) -> None:
    user(koi, "ann", images_per_day=1, micros_per_day=1_000_000)
    cli = commands(koi, tmp_path)
    said = cli.run(
        "users", "raise", "ann", "--images-per-day", "+50", "--budget-per-day", "2.50",
        "--until", "midnight", "--reason", "a deadline",
    )  # fmt: skip
    shown = cli.json("users", "show", "ann")
    text = cli.run("users", "show", "ann").stdout
    (newest, *_) = cli.json("audit", "--user", "ann")
    ended = cli.run("users", "raise", "ann", "--end", "--reason", "enough")
    after = cli.json("users", "show", "ann")

    midnight = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT00:00:00Z")
    assert f"images/day +50, budget/day +2.50 until {midnight} (a deadline)" in said.stdout
    assert shown["raised"]["by"]["images_per_day"] == 50
    assert shown["raised"]["until"] == midnight
    assert shown["limits"]["images_per_day"] == 1
    effective = {(s["scope"], s["meter"], s["window"]): s["limit"] for s in shown["standing"]}
    assert effective["user", "images", "day"] == 51
    assert "+50" in text
    assert newest["kind"] == "user.raised"
    assert newest["reason"] == "a deadline"
    assert newest["changes"]["raise_images_per_day"] == [None, 50]
    assert "Ended" in ended.stdout
    assert "raised" not in after


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"until": "2h", "reason": "x"}, "invalid_value", "until"),
        ({"max_images_per_1_month": 5, "until": "2h", "reason": "x"}, "invalid_value", "until"),
        ({"max_images_per_1_day": 5, "until": 5, "reason": "x"}, "invalid_value", "until"),
        ({"max_images_per_1_day": 5, "until": "soon", "reason": "x"}, "invalid_value", "until"),
        ({"max_images_per_1_day": 5, "reason": "x"}, "missing_required_parameter", "until"),
        ({"max_images_per_1_day": 5, "until": "2h"}, "missing_required_parameter", "reason"),
        ({"max_images_per_1_day": -5, "until": "2h", "reason": "x"}, "integer_below_min_value",
         "max_images_per_1_day"),
    ],
)  # fmt: skip
def test_a_raise_that_says_nothing_is_refused(koi: Koi, body: dict, code: str, param: str) -> None:
    user(koi, "ann", images_per_day=1)
    with admin(koi) as operator:
        refused = operator.post("/v1/koi/users/ann/raise", json=body)

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, code, param)


def test_apply_leaves_a_raise_alone(koi: Koi, tmp_path: Path) -> None:
    user(koi, "ann", images_per_day=1)
    file = tmp_path / "people.toml"
    file.write_text('[users.ann]\nimages_per_day = 9\nrequests_per_minute = "unlimited"\n')
    cli = commands(koi, tmp_path)
    cli.run("users", "raise", "ann", "--images-per-day", "5", "--until", "1h", "--reason", "x")
    cli.run("apply", "-f", str(file))
    again = cli.json("apply", "-f", str(file))
    shown = cli.json("users", "show", "ann")

    assert again["changes"] == []
    assert shown["limits"]["images_per_day"] == 9
    assert shown["raised"]["by"] == {"images_per_day": 5}


def test_the_end_of_a_raise_is_read_in_the_gateway_s_zone() -> None:
    zone = ZoneInfo("Asia/Shanghai")
    noon = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
    now_ms = int(noon.timestamp() * 1000)

    def hours(text: str) -> float:
        return (parse_until(text, now_ms, zone) - now_ms) / 3_600_000

    assert hours("midnight") == 4
    assert hours("2h") == 2
    assert hours("3d") == 72
    assert hours("2026-11-29T23:00") == 3
    assert hours("2026-11-29T23:00:00Z") == 11
    with pytest.raises(RaiseInvalid):
        hours("tomorrow")


def test_the_sdk_still_lists_users_with_a_raise(koi: Koi) -> None:
    user(koi, "ann", images_per_day=1)
    with admin(koi) as operator:
        operator.post(
            "/v1/koi/users/ann/raise",
            json={"max_images_per_1_day": 2, "until": "1h", "reason": "x"},
        )
    with openai.OpenAI(base_url=koi.v1, admin_api_key=ADMIN_KEY, api_key="none") as sdk:
        (ann,) = [one for one in sdk.admin.organization.users.list() if one.id == "ann"]

    assert ann.raised["by"] == {"max_images_per_1_day": 2}  # type: ignore[attr-defined]
