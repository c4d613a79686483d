"""Without prices no cost is known to be 0, and no money budget can be kept: each place says so."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from app.sandbox.server import Sandbox
from tests.flow.command import Cli, cli_on, served_by
from tests.flow.conftest import Start
from tests.flow.test_cli_doctor import found
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi
from tests.ports import free_port

ADMIN_KEY = "sk-admin-of-the-tests"


@dataclass
class Shop:
    """A gateway without prices that made two images in one job, which its provider billed, and its
    operator's commands."""

    koi: Koi
    cli: Cli
    key: str
    task: str

    def admin(self, path: str, **query: str) -> Any:
        with self.koi.client(ADMIN_KEY) as client:
            return client.get(path, params=query).json()

    def give_back(self, images: str) -> None:
        """In the end the ledger is compared with the provider's bill."""
        self.cli.run("ledger", "adjust", "--job", self.task, "--images", images)

    def import_bill(self, *words: str, code: int = 0) -> str:
        (self.cli.path / "fees.csv").write_text(self.koi.sandbox.fee_details())
        return self.cli.run("ledger", "import-bill", "fees.csv", *words, code=code).stdout


@pytest.fixture
def shop(start: Start, store_url: str, tmp_path: Path) -> Shop:
    koi = start(catalog=None, admin_key=ADMIN_KEY)
    key = koi.key()
    with koi.client(key) as client:
        task = client.post(GENERATE, json={**KOI, "n": 2}).headers["x-koi-task-id"]
    koi.settled()
    cli = cli_on(tmp_path, store_url)
    del cli.settings["KOI_CATALOG"]
    return Shop(koi, cli, key, task)


@pytest.fixture
def cli(sandbox: Sandbox, tmp_path: Path) -> Cli:
    """A deployment with the catalog as shipped, which has no prices."""
    settings = {**served_by(sandbox.url), "KOI_PORT": str(free_port())}
    del settings["KOI_CATALOG"]
    return Cli(tmp_path, settings)


def failures(cli: Cli, code: int = 1) -> list[str]:
    return [
        f"{one['text']} -> {one['mend']}" for one in found(cli, code) if one["status"] == "fail"
    ]


@pytest.mark.parametrize(
    ("variable", "refused"),
    [
        ("KOI_HOUSE_BUDGET_PER_MONTH", "every picture of grok-imagine is refused (price_unknown)"),
        ("KOI_HOUSE_BUDGET_PER_DAY", "every picture of grok-imagine is refused (price_unknown)"),
        ("KOI_DEFAULT_BUDGET_PER_MONTH", "no user can be created with it"),
        ("KOI_DEFAULT_BUDGET_PER_DAY", "no user can be created with it"),
    ],
)
def test_the_doctor_fails_a_budget_of_the_settings_without_prices(
    cli: Cli, variable: str, refused: str
) -> None:
    cli.settings[variable] = "10"

    (failure,) = failures(cli)

    assert failure.startswith(f"{variable} cannot be kept, since no price is known for ")
    assert refused in failure
    assert "[models.prices] in a copy of app/catalog.toml" in failure
    assert failure.endswith(f"or remove {variable}.")


def test_a_gateway_starts_with_such_a_budget_and_warns_what_to_do(cli: Cli) -> None:
    """One that runs comes up again after an upgrade; what answers from its cache still does."""
    cli.settings |= {"KOI_HOUSE_BUDGET_PER_MONTH": "10", "KOI_DEFAULT_BUDGET_PER_DAY": "1"}
    with cli.forked() as serving:
        warnings = serving.wait_for("budget_cannot_be_kept", times=2)

    assert [one["level"] for one in warnings] == ["warning"] * 2
    assert [one["found"].split()[0] for one in warnings] == [
        "KOI_HOUSE_BUDGET_PER_MONTH",
        "KOI_DEFAULT_BUDGET_PER_DAY",
    ]
    assert all("[models.prices]" in one["fix"] for one in warnings)


def test_with_prices_or_without_budgets_the_start_warns_of_nothing(cli: Cli) -> None:
    with cli.forked() as unlimited:
        unlimited.wait_for("provider_checked")
        assert unlimited.events("budget_cannot_be_kept") == []
    cli.settings |= {"KOI_HOUSE_BUDGET_PER_MONTH": "10", **priced()}
    with cli.forked() as serving:
        serving.wait_for("provider_checked")
        assert serving.events("budget_cannot_be_kept") == []
    assert failures(cli, code=0) == []


def test_the_doctor_names_budgets_and_alerts_that_were_set_while_there_were_prices(
    cli: Cli,
) -> None:
    before = {**cli.settings}
    cli.settings |= priced()
    cli.run("teams", "create", "blue", "--budget-per-month", "5")
    cli.run("users", "create", "ann", "--budget-per-day", "5", "--team", "blue")
    cli.run("users", "create", "bob", "--images-per-day", "5")
    cli.run("users", "create", "gone", "--budget-per-day", "5")
    cli.run("users", "disable", "gone")
    key = cli.json("keys", "create", "--user", "bob", "--budget-per-day", "5")["key_id"]
    alert = cli.json("alerts", "create", "100.00")["id"]
    assert failures(cli, code=0) == []
    cli.settings = before

    (failure,) = failures(cli)
    warnings = [one["text"] for one in found(cli, code=1) if one["status"] == "warn"]

    assert f"with a money budget: team blue, user ann, key {key} -> " in failure
    assert any(alert in text for text in warnings)


def priced() -> dict[str, str]:
    return {"KOI_CATALOG": served_by("http://127.0.0.1:9")["KOI_CATALOG"]}


def test_a_charge_in_focus_has_no_cost_and_the_command_says_why(shop: Shop) -> None:
    done = shop.cli.run("usage", "--format", "focus")
    with shop.koi.client(ADMIN_KEY) as admin:
        downloaded = admin.get("/v1/koi/usage", params={"format": "focus"}).text
    (charge,), (same,) = (csv.DictReader(io.StringIO(text)) for text in (done.stdout, downloaded))

    costs = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ListUnitPrice")
    assert [charge[name] for name in costs] == [""] * 5
    assert [same[name] for name in costs] == [""] * 5
    assert charge["ConsumedQuantity"] == "2"
    assert charge["ChargeDescription"].endswith("(price unknown)")
    assert "Costs that are empty are unknown" in done.stderr


def test_a_bill_is_not_said_to_agree_in_money(shop: Shop) -> None:
    text = shop.import_bill()
    record = json.loads(shop.import_bill("--json"))
    with shop.koi.client(ADMIN_KEY) as admin:
        uploaded = admin.post("/v1/koi/bill", content=shop.koi.sandbox.fee_details()).json()

    (matched,) = [line.split() for line in text.splitlines() if line.startswith("matched")]
    assert matched[-2:] == ["0.28", "unknown"]
    assert "The bill and the ledger agree" not in text
    assert "What 1 of the jobs were charged is unknown" in text
    assert "Nor were the images of 1 lines, which the bill does not count." in text
    for told in (record, uploaded):
        assert told["matched"]["billed"]["value"] == "0.28"
        assert told["matched"]["charged"] is None
        assert told["matched"]["jobs_without_price"] == 1
        assert told["missing"]["charged"]["value"] == "0.00"


def test_a_correction_that_takes_back_too_much_names_no_amount(shop: Shop) -> None:
    refund = ("ledger", "adjust", "--job", shop.task, "--images")
    shop.cli.run(*refund, "-1")

    images = shop.cli.refused(*refund, "-2", code=1)
    money = shop.cli.refused(*refund, "-1", "--amount", "-0.14", code=1)

    shop.give_back("1")
    for said in (images, money):
        assert "is charged 1 images and an amount that is unknown" in said
        assert "0.00" not in said


def test_a_job_made_without_a_price_gives_back_an_unknown_amount_once_there_are_prices(
    shop: Shop,
) -> None:
    """Not what the catalog says today: that was never charged."""
    shop.cli.settings |= priced()

    adjusted = shop.cli.json("ledger", "adjust", "--job", shop.task, "--images", "-1")
    used = shop.cli.json("usage")["total"]

    shop.give_back("1")
    assert (adjusted["images"], adjusted["amount"]) == (-1, None)
    assert (used["images"], used["cost"]) == (1, None)


def test_a_refund_of_everything_names_no_amount(shop: Shop) -> None:
    with shop.koi.client(ADMIN_KEY) as admin:
        refund = admin.post(f"/v1/koi/jobs/{shop.task}/refund", json={"note": "sorry"}).json()
    entries = [json.loads(line) for line in shop.cli.text("ledger", "export").splitlines()]

    shop.give_back("2")
    assert (refund["images"], refund["cost"], refund["job_images"]) == (2, None, 0)
    assert entries[-1]["amount"] is None


def test_what_people_and_the_house_used_is_unknown_not_zero(shop: Shop) -> None:
    (person,) = shop.admin("/v1/koi/people")["data"]
    house = shop.admin("/v1/koi/health")["house"]
    standings = [
        *shop.cli.json("users", "show", "ann")["standing"],
        *shop.cli.json("teams", "show", shop.cli.json("teams", "create", "blue")["name"])[
            "standing"
        ],
    ]

    for standing in (person["standing"], house):
        assert standing["images_month"]["used"] == 2
        assert standing["cost_day"]["used"] is standing["cost_month"]["used"] is None
        assert standing["cost_day"]["held"] is standing["cost_month"]["held"] is None
    money = [one for one in standings if one["meter"] == "money"]
    assert len(money) >= 4
    assert {(one["used"], one["held"]) for one in money} == {(None, None)}


def test_clients_that_only_read_a_balance_get_images_as_the_schema_says(shop: Shop) -> None:
    billing = "/v1/dashboard/billing"
    with shop.koi.client(shop.key) as client:
        used = client.get(f"{billing}/usage").json()["total_usage"]
        credit = client.get(f"{billing}/credit_grants").json()["total_used"]
        schemas = client.get("/openapi.json").json()["components"]["schemas"]

    assert (used, credit) == (200, 2)
    told = schemas["BillingUsageBody"]["properties"]["total_usage"]["description"]
    assert "100 for each image" in told
    for name in ("SubscriptionBody", "CreditGrantsBody"):
        assert "numbers of images" in schemas[name]["description"]


def test_a_spend_alert_is_refused_as_a_budget_is(shop: Shop) -> None:
    """Deleting one that was made while there were prices, or naming others in it, stays allowed."""
    before = {**shop.cli.settings}
    shop.cli.settings |= priced()
    shop.cli.run("teams", "create", "blue")
    old = shop.cli.json("alerts", "create", "100.00")["id"]
    shop.cli.settings = before

    budget = shop.cli.refused("teams", "set", "blue", "--budget-per-month", "100", code=1)
    for words in (("create", "100.00"), ("create", "5", "--team", "blue")):
        alert = shop.cli.refused("alerts", *words, code=1)
        assert alert == budget.replace("a money budget", "a spend alert")
    raised = shop.cli.refused("alerts", "set", old, "--threshold", "200", code=1)
    shop.cli.run("alerts", "set", old, "--recipients", "ops@example.com")
    shop.cli.run("alerts", "delete", old)

    assert "before setting a spend alert" in raised
    assert shop.cli.json("alerts", "list") == []


def test_the_administration_api_refuses_a_spend_alert_and_a_spend_limit_alike(shop: Shop) -> None:
    with openai.OpenAI(
        base_url=shop.koi.v1, admin_api_key=ADMIN_KEY, api_key="none", max_retries=0
    ) as sdk:
        org = sdk.admin.organization
        project = org.projects.create(name="blue")
        for alerts, at in (
            (org.spend_alerts, {}),
            (org.projects.spend_alerts, {"project_id": project.id}),
        ):
            with pytest.raises(openai.BadRequestError) as refusal:
                alerts.create(
                    threshold_amount=5000, currency="CNY", interval="month",
                    notification_channel={"type": "email", "recipients": ["ops@example.com"]}, **at,
                )  # fmt: skip
            assert refusal.value.param == "threshold_amount"
            assert "no price in the catalog" in refusal.value.message
            assert list(alerts.list(*at.values())) == []
